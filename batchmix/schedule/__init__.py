"""schedule: jobs that run by themselves: which runs are due, and units for other schedulers."""
