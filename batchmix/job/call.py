"""Reads the job that a call describes: a command line, or a call of a Python function."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from batchmix.job.addresses import checked_local
from batchmix.job.file import read_job
from batchmix.job.settings import merge_settings, nested
from batchmix.job.values import CheckedJob

FLAGS = {
    "model": "model",
    "prompt": "input.prompt",
    "system": "input.system",
    "messages": "input.messages",
    "schema": "answer.schema",
    "base_url": "provider.base_url",
    "out": "output.path",
    "rpm": "limits.requests_per_minute",
    "tpm": "limits.tokens_per_minute",
    "concurrency": "limits.concurrency",
    "deadline": "timeouts.job_s",
}
"""The short names of settings: those of the command line's options, and of the keyword arguments in Python."""


def job_of_call(
    source: str | None,
    settings: Iterable[Mapping[str, Any]],
    flags: Mapping[str, Any],
    *,
    scheduled: datetime.date | None = None,
    option: str = "--set ",
) -> CheckedJob:
    """Return the job that a call describes. Raises `JobError`.

    `source` is a job file or an input; None if the settings say what the input is. `settings` override the job file,
    later ones override earlier ones, and `flags` (see `FLAGS`) override all of them, unless they are None. See
    `read_job` for the others.
    """
    path = None
    layers: list[Mapping[str, Any]] = []
    if source is not None and source.endswith(".toml"):
        path = Path(checked_local(source, "JOB.toml", "copy the job file here first"))
    elif source is not None:
        layers.append({"input": {"path": source}})
    layers += [*settings, settings_of_flags(flags)]
    return read_job(path, merge_settings(layers), scheduled=scheduled, option=option)


def settings_of_flags(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return the nested settings for flags by their short names, without those that are None."""
    return merge_settings(nested(key, flags[flag]) for flag, key in FLAGS.items() if flags.get(flag) is not None)
