"""store: keeps the run folder. Answers go into journals first, and then into Parquet files."""
