"""The typed answers of a job: what checks them, and how their schema is sent to each model."""

from __future__ import annotations

import msgspec

from batchmix.answers.typed import TypedAnswers, typed_answers
from batchmix.job import CheckedJob, Model
from batchmix.prices.catalogue import Catalogue
from batchmix.store.run_folder import RunFile

_FEATURE = "structured_outputs"
"""What a gateway's catalogue calls the ability to answer by a schema in `response_format`."""


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


def unsupported(models: tuple[Model, ...], catalogue: Catalogue | None) -> list[Model]:
    """Return the models that can't answer by a schema in `response_format`, as far as the catalogue says."""
    listed = catalogue.models if catalogue else {}
    return [model for model in models if model.id in listed and _FEATURE not in listed[model.id].features]


def _best_way(model: Model, catalogue: Catalogue | None) -> str:
    """Return the way that works for a model: the prompt, which any model reads, unless more is known to work."""
    return "prompt" if unsupported((model,), catalogue) else "response_format"
