"""evaluate: scores the answers of runs, computes metrics, compares runs and writes the report.

Only a judge sends requests, through a job of its own. The order of the work: `evaluate_run` scores the answers
(`scoring`, `custom_scorer`, `judge`) and computes the metrics (`measure`, `metrics`); `comparison` compares two runs;
`report_page` writes the report. How to add a scorer is described in the package `scorers`.
"""
