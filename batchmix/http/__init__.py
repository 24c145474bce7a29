"""http: one request out, one `Exchange` back, whatever happens on the way."""
