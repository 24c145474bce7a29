"""store: the run folder: answers → journal → Parquet."""
