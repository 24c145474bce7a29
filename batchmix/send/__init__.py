"""send: requests → results, as fast as the provider allows."""
