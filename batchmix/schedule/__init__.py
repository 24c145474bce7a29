"""schedule: runs jobs when they are due (`runner`, `state`), and prints units for other schedulers (`units`)."""
