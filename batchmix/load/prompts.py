"""How rows become requests: the four modes, and the interface of prompt sources, which `prompt_sources.py` creates."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Protocol

from batchmix.job import CheckedJob, Model


class Mode(enum.StrEnum):
    """How rows become requests. run.json stores the values."""

    TEMPLATE = "template"
    """The job's template turns a row's columns into messages."""
    PLAIN = "plain"
    """Rows have `messages` or a `prompt`."""
    BODIES = "bodies"
    """Rows are whole requests, and name their models."""
    BATCH = "batch"
    """Rows are lines of an OpenAI Batch file."""


class PromptSource(Protocol):
    """Turns rows into requests in one mode. Stateless, so that threads may share it."""

    mode: Mode
    required: frozenset[str]
    """The columns that every row must have."""
    reads: frozenset[str] | None
    """All columns from which requests may be made. None if any column may be used."""
    json_columns: frozenset[str]
    """The columns whose texts may be given as they stand in JSON, as `msgspec.Raw`, and are then sent so."""
    param_columns: frozenset[str]
    """The columns that are sent as request parameters, beside the row's messages."""
    has_row_params: bool
    """Whether rows may have parameters. If so, requests to one model may differ in more than their messages."""
    names_model: bool
    """Whether each row names its model, instead of the job."""
    checks_values: bool
    """Whether `problem` checks values of columns, such as those whose types the job configures."""
    is_text: bool
    """Whether all prompts are only text, without pictures, sound or files."""

    def problem(self, row: Mapping[str, Any]) -> str | None:
        """Return a message that says why a row can't be sent, as far as a scan can see. None if nothing is wrong.

        Raises `InputError` if the job does not fit the file, because then rejecting single rows would not help.
        """

    def request_for(self, row: Mapping[str, Any], model: Model) -> tuple[str, dict[str, Any]] | None:
        """Return the URL path and the body for a row without a problem. None if the row is for another model.

        Raises `BadRowError` if the request can't be built, for example because a template would print a null.
        """

    def model_of(self, row: Mapping[str, Any]) -> str:
        """Return the model that a row without a problem names. Empty if the job names the model."""


def has_template(job: CheckedJob) -> bool:
    """Return whether the job has a template, which turns rows into messages."""
    return job.input.prompt is not None or job.input.messages is not None


def detect_mode(job: CheckedJob, first: Mapping[str, Any]) -> Mode:
    """Return the mode for an input whose first row is `first`. Only the columns of this row matter."""
    if has_template(job):
        return Mode.TEMPLATE
    if "body" in first and first.keys() & {"custom_id", "method", "url"}:
        return Mode.BATCH
    return Mode.BODIES if rows_must_name_models(job) and first.keys() >= {"model", "messages"} else Mode.PLAIN


def rows_must_name_models(job: CheckedJob) -> bool:
    """Return whether each row must have a `model` field, because the job sets neither a model nor a model column."""
    return not job.models and job.input.model is None
