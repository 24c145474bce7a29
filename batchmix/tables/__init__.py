"""tables: tables and rows in memory, of whatever library, in and back out with new columns."""
