"""verdict: whether a run passes: its thresholds, its baseline, and the nights of its job. Read `outcome` first."""
