"""responses: what an exchange means: a completion, or a failure and what follows from it."""
