"""evaluate: scores, metrics and comparisons of finished runs. Sends requests only by running a job."""
