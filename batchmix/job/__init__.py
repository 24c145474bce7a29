"""job: reads and checks the settings of a run.

`read_job` takes a TOML file, settings from the command line, or both. It returns a checked `CheckedJob`, or raises a
`JobError` that names the wrong setting.
"""

from batchmix.job.addresses import checked_local, checked_url
from batchmix.job.answer_table import Answer
from batchmix.job.call import job_of_call
from batchmix.job.closest import closest, closest_file
from batchmix.job.file import read_job
from batchmix.job.hints import settings_of
from batchmix.job.masking import masked, masked_url
from batchmix.job.settings import merge_settings, parse_setting, setting_in
from batchmix.job.steps import single
from batchmix.job.toml_file import parse_toml
from batchmix.job.toml_text import job_settings, to_toml
from batchmix.job.values import (
    DEFAULT_BASE_URL,
    MAX_USD,
    MEMORY,
    QUERY,
    REHEARSAL,
    Budget,
    Cache,
    CheckedJob,
    Column,
    Input,
    Limits,
    Model,
    Output,
    Price,
    Provider,
    Retry,
    Reuse,
    Timeouts,
)

__all__ = [
    "DEFAULT_BASE_URL",
    "MAX_USD",
    "MEMORY",
    "QUERY",
    "REHEARSAL",
    "Answer",
    "Budget",
    "Cache",
    "CheckedJob",
    "Column",
    "Input",
    "Limits",
    "Model",
    "Output",
    "Price",
    "Provider",
    "Retry",
    "Reuse",
    "Timeouts",
    "checked_local",
    "checked_url",
    "closest",
    "closest_file",
    "job_of_call",
    "job_settings",
    "masked",
    "masked_url",
    "merge_settings",
    "parse_setting",
    "parse_toml",
    "read_job",
    "setting_in",
    "settings_of",
    "single",
    "to_toml",
]
