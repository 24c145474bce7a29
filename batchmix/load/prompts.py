"""How rows become requests: the four modes, and what each has to offer. `prompt_sources.py` makes the right one."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Protocol

from batchmix.job import Job, Model


class Mode(enum.StrEnum):
    """How rows become requests. run.json stores the values."""

    TEMPLATE = "template"
    """The job's template makes the messages."""
    PLAIN = "plain"
    """Rows bring `messages` or a `prompt`."""
    BODIES = "bodies"
    """Rows are whole requests, and name their models."""
    BATCH = "batch"
    """Rows are lines of an OpenAI Batch file."""


class PromptSource(Protocol):
    """Makes requests of rows in one mode. It has no state, and may be used by several threads."""

    mode: Mode
    required: frozenset[str]
    """Columns that every row must have."""
    reads: frozenset[str] | None
    """All columns that are used; None: any."""
    param_columns: frozenset[str]
    """Columns that are sent as parameters, beside the row's messages."""
    has_row_params: bool
    """Whether each row brings its own parameters."""
    names_model: bool
    """Whether each row names its model, and not the job."""
    checks_types: bool
    """Whether values must be of types that the job configures."""
    is_text: bool
    """Whether all prompts are text alone, without pictures, sound or files."""

    def problem(self, row: Mapping[str, Any]) -> str | None:
        """Return why a row can't be sent, as far as a scan can see it; None where nothing is wrong.

        Raises `InputError` where the job does not fit the file.
        """

    def request_for(self, row: Mapping[str, Any], model: Model) -> tuple[str, dict[str, Any]] | None:
        """Return URL path and body for a row without a problem; None where the row is for another model.

        Raises `BadRowError`.
        """

    def model_of(self, row: Mapping[str, Any]) -> str:
        """Return the model that a row without a problem names, where rows name models."""


def has_template(job: Job) -> bool:
    """Return whether the job's template makes the requests."""
    return job.input.prompt is not None or job.input.messages is not None


def detect_mode(job: Job, first: Mapping[str, Any]) -> Mode:
    """Return the mode for an input with this first row."""
    if has_template(job):
        return Mode.TEMPLATE
    if "body" in first and first.keys() & {"custom_id", "method", "url"}:
        return Mode.BATCH
    return Mode.BODIES if rows_must_name_models(job) and first.keys() >= {"model", "messages"} else Mode.PLAIN


def rows_must_name_models(job: Job) -> bool:
    """Return whether nothing but the rows can name the models."""
    return not job.models and job.input.model is None
