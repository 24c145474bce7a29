"""Objects in object storage, such as S3: read, listed, and written on condition that nobody else did."""
