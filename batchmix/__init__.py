"""batchmix: a dataset of prompts in, a dataset of answers out."""

__version__ = "0.1.0"
