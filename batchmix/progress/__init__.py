"""progress: shows how far a run is while it runs, in a terminal, a log or a notebook."""
