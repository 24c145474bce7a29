"""schedule: runs jobs when they are due (`runner`, `state`), and prints files for other schedulers (`units`)."""
