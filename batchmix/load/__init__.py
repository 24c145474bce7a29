"""load: turns input files into rows, and rows into requests. It is lazy, and can start at any shard.

- File: `sources` (**the table of file formats: add a format there**), `saved_dataset`, `files`, `spool`, `decompress`.
  `foreign_files`, `file_signatures` and `conversions` recognise files that can't be read, and give the command that
  converts them.
- Rows: `row_reader` (the interface of each format's reader), `jsonl` and `jsonl_rows`, `csv_lines`; for typed tables
  `table_reader`, `table_input`, `parquet`, `arrow_file`, `parquet_types` and `run_rows`; `scan` and `scanner` (one pass
  over all rows before anything is sent); `column_types` and `carried_columns`.
- Requests: `prompts` and `prompt_sources` (how rows become requests), `messages` (rows with their own messages),
  `conditions` (which rows are sent), `template`, `template_names`, `template_limits` and `template_check`; `requests`,
  `parameters`, `token_estimate`.
- For the evaluation: `eval_input` (whether the input has what it will need), `weights`.
- Beside the input: `table_rows` (a small table as a whole), `label_file` (the labels that people gave to answers).

The endpoints that Batch lines may name are listed in `responses/endpoints.py`.
"""

from batchmix.load.dataset import Dataset, open_dataset
from batchmix.load.eval_input import check_eval_input
from batchmix.load.files import STDIN
from batchmix.load.label_file import HumanLabel, HumanLabels, read_labels
from batchmix.load.run_rows import missing_parts
from batchmix.load.scan import Scan, ScanOptions, ShardRange
from batchmix.load.sources import RUN, find_sources
from batchmix.load.spool import is_spool, remove_spool
from batchmix.load.template_check import RESULT_NAMES, rubric, rubric_columns
from batchmix.load.weights import weight_of

__all__ = [
    "RESULT_NAMES",
    "RUN",
    "STDIN",
    "Dataset",
    "HumanLabel",
    "HumanLabels",
    "Scan",
    "ScanOptions",
    "ShardRange",
    "check_eval_input",
    "find_sources",
    "is_spool",
    "missing_parts",
    "open_dataset",
    "read_labels",
    "remove_spool",
    "rubric",
    "rubric_columns",
    "weight_of",
]
