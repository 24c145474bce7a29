"""The Python API: what a program or a notebook calls. It never prints, prompts or exits, nor owns the process."""

import logging

# Otherwise Python prints warnings of a library to stderr where the program has not set up logging.
logging.getLogger("batchmix").addHandler(logging.NullHandler())
