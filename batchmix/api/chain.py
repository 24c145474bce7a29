"""The next run over the results of a run: `Run.then`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa

from batchmix.api.settings import Settings
from batchmix.api.start import Arguments, finished, prepared_call
from batchmix.errors import UsageError
from batchmix.job import CheckedJob, closest
from batchmix.job.toml_text import job_settings
from batchmix.store.schema import RESULT_COLUMNS, carried_names

if TYPE_CHECKING:
    from batchmix.api.run import Run

_TAKEN_OVER = ("provider", "limits", "retry", "timeouts", "prices")
"""The settings that the next run has too, unless it gives its own: those of the provider, not of the requests."""


def next_run(
    run: Run, job: CheckedJob, prompt: str, out: str | os.PathLike[str] | None, keywords: Mapping[str, Any]
) -> Run:
    """Run a job over the results of a run. Keywords that are no settings name columns: `draft="response"`."""
    given = {name: value for name, value in keywords.items() if name in Settings.__annotations__}
    columns = {name: value for name, value in keywords.items() if name not in {*given, "model"}}
    earlier = job_settings(job)
    settings = {name: earlier[name] for name in _TAKEN_OVER if name in earlier} | given
    settings.setdefault("bad_rows", "reject")  # a row without an answer keeps its place
    settings.setdefault("name", f"{job.name}-then")
    model = keywords.get("model")
    if model is None and "models" not in settings and len(job.models) == 1:
        model = job.models[0].id
    rows = _renamed(run, columns)
    call = prepared_call(Arguments(rows, prompt, model, out, cast("Settings", settings)), runs=run.folder.parent)
    with call.shown():
        return finished(call)


def _renamed(run: Run, columns: Mapping[str, Any]) -> pa.RecordBatchReader:
    """Return a reader of the custom ids, the carried columns, and some result columns under new names."""
    schema = run.scan().schema
    for name, source in columns.items():
        if source not in schema.names:
            near = closest(name, sorted(Settings.__annotations__))
            hint = f"; did you mean {near}?" if near else ""
            raise UsageError(
                f"{name}={source!r}: {run.folder} has no column {source!r}, and {name} is no setting{hint}"
            )
        if name in RESULT_COLUMNS:
            raise UsageError(f"{name}={source!r}: {name} is the name of a column of the next run; choose another")
    carried = [name for name in carried_names(schema) if name not in columns]
    sources = {"custom_id": "custom_id"} | {name: name for name in carried} | dict(columns)
    renamed = pa.schema([schema.field(source).with_name(name) for name, source in sources.items()])

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in run.scan(dict.fromkeys(sources.values())):
            arrays = [batch.column(source) for source in sources.values()]
            yield pa.RecordBatch.from_arrays(arrays, schema=renamed)

    return pa.RecordBatchReader.from_batches(renamed, batches())
