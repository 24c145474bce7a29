"""Jobs that run by themselves at night: which nights are due, the runs of them, and units for other schedulers."""
