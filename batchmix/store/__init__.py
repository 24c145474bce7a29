"""store: results → Parquet, by way of a journal that survives anything."""
