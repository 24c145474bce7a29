"""formats: JSON, Arrow values, dates and amounts, and how they are shown. Knows nothing of jobs or runs."""
