"""The typed answers of a job: what checks them, and how their schema is sent to each model."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import msgspec

from batchmix.answers.strict import is_object_schema
from batchmix.answers.typed import TypedAnswers, typed_answers
from batchmix.job import CheckedJob, Model
from batchmix.prices.catalogue import Catalogue
from batchmix.store.run_folder import RunFile

_logger = logging.getLogger(__name__)
_FEATURE = "structured_outputs"
"""What a gateway's catalogue calls the ability to answer by a schema in `response_format`."""
_LACKING = f"the catalogue lists no {_FEATURE} for it"
_SENT = {
    "response_format": "as response_format",
    "json_object": "in the prompt, with a response_format of json_object",
    "prompt": "in the prompt",
    "tool": "as a tool",
}
_MAX_NAMES = 5
"""The most models that a warning names."""


def typed_of(job: CheckedJob) -> TypedAnswers | None:
    """Return what checks the answers against the job's schema. None if the job has none."""
    return typed_answers(msgspec.to_builtins(job.answer)) if job.answer else None


def settled_ways(
    job: CheckedJob, models: tuple[Model, ...], catalogue: Catalogue | None, previous: RunFile | None
) -> dict[str, str]:
    """Return how the job's schema is sent to each model, by the models' names. Empty if the job has no schema.

    A run keeps the way of its first start, since another one would make other requests of its rows.
    """
    if job.answer is None:
        return {}
    send = job.answer.send
    before = previous.ways if previous and (previous.job.get("answer") or {}).get("send") == send else {}
    return {
        model.name: before.get(model.name) or (_best_way(model, catalogue) if send == "auto" else send)
        for model in models
    }


class SchemaSent(msgspec.Struct, frozen=True):
    """How the job's schema is sent to a model."""

    model: str
    way: str
    """`response_format`, `json_object`, `prompt` or `tool`."""
    why: str
    warning: str = ""
    """What to know before the answers are paid for. Empty if there is nothing."""

    @property
    def text(self) -> str:
        """How the schema is sent, and why."""
        return f"sent {_SENT[self.way]}: {self.why}"


def sent_schemas(job: CheckedJob, models: tuple[Model, ...], catalogue: Catalogue | None) -> tuple[SchemaSent, ...]:
    """Return how the job's schema is sent to each of `models`, whose ways are settled. Empty if the job has none."""
    if job.answer is None:
        return ()
    lacking = unsupported(models, catalogue)
    is_object = is_object_schema(job.answer.schema)
    found = []
    for model in models:
        way = model.way if is_object else "prompt"
        if not is_object and model.way != "prompt":
            why = "the other ways need a schema whose root is an object"
        elif job.answer.send != "auto":
            why = "answer.send says so"
        elif way != _best_way(model, catalogue):
            why = "so it was at the first start of this run"
        elif model in lacking:
            why = _LACKING
        else:
            is_listed = catalogue is not None and model.id in catalogue.models
            why = f"the catalogue lists {_FEATURE} for it" if is_listed else "no catalogue says what it supports"
        found.append(SchemaSent(model.name, way, why, _warning(job.answer.send, way) if model in lacking else ""))
    return tuple(found)


def _warning(send: str, way: str) -> str:
    """Return what to know before answers of a model without structured outputs are paid for."""
    if way == "response_format":
        advice = "" if send == "auto" else '; answer.send = "auto" would send it in the prompt'
        return f"{_LACKING}, so it may ignore or refuse the schema in response_format{advice}"
    return f"{_LACKING}; the schema is sent in the prompt instead" if send == "auto" and way == "prompt" else ""


def schema_warnings(schemas: Iterable[SchemaSent]) -> list[str]:
    """Return the warnings about models without structured outputs, one for all models that it holds for."""
    models: dict[str, list[str]] = {}
    for schema in schemas:
        if schema.warning:
            models.setdefault(schema.warning, []).append(schema.model)
    return [f"{_some(names)}: {warning}" for warning, names in models.items()]


def warn_of_schemas(schemas: Iterable[SchemaSent]) -> None:
    """Log the warnings about models without structured outputs."""
    for warning in schema_warnings(schemas):
        _logger.warning("%s", warning)


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:_MAX_NAMES])
    return shown if len(names) <= _MAX_NAMES else f"{shown} and {len(names) - _MAX_NAMES} more"


def unsupported(models: tuple[Model, ...], catalogue: Catalogue | None) -> list[Model]:
    """Return the models that can't answer by a schema in `response_format`, as far as the catalogue says."""
    return [model for model in models if catalogue and catalogue.lacks(model.id, _FEATURE)]


def _best_way(model: Model, catalogue: Catalogue | None) -> str:
    """Return the way that works for a model: the prompt, which any model reads, unless more is known to work."""
    return "prompt" if unsupported((model,), catalogue) else "response_format"
