"""What the answers are worth: scores, metrics, and how two runs differ. Reads runs; sends only through a job."""
