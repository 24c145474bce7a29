"""evaluation: the scores of one run, and its metrics.

Only a judge sends requests, through a job of its own. `scoring` writes the score of each answer (`custom_scorer` and
`judge` give theirs), then `measure` computes the metrics. How to add a scorer is described in the package `scorers`.
"""
