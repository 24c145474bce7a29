"""The same task with batchmix and with other libraries, and the command that measures them: `__main__.py`."""
