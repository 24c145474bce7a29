"""The Python API: what a program or a notebook calls. It never prints, prompts or exits, nor owns the process."""
