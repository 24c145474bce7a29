"""The Python API: what a program or a notebook calls."""
