"""pacing: when the next request may leave. Pure logic on a clock that the caller passes in."""
