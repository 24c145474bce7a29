"""comparison: two evaluated runs in pairs, and which guarded metrics are worse. Read `run_diff` first."""
