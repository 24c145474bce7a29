"""formats: converts JSON, Arrow values, dates and amounts, and quotes names and values in messages.

It imports no other package of batchmix.
"""
