"""responses: turns an exchange into a completion, or into a failure with the action to take."""
