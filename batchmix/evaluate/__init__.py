"""evaluate: scores, metrics, comparisons and the report of runs. Sends requests only by running a judge's job.

A new scorer is a function in `scorers`, with its options in `batchmix/job/eval_table.py`. The order of the work:
`evaluate_run` scores (`scoring`, `scorers`, `judge`) and measures (`measure`, `metrics`); `comparison` compares two
runs; `report_page` writes the report.
"""
