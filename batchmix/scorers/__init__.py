"""scorers: the kinds of scorers. Both the job file and the evaluation use them: the settings, and the scoring."""
