"""The engine runs one job from end to end. Read `run.py` first."""
