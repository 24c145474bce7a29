"""http: sends a request and returns an `Exchange`, whether or not an answer arrives."""
