"""The columns of a run that `Run.join` sets beside the rows of a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from batchmix.engine import reader
from batchmix.errors import UsageError
from batchmix.job import Column
from batchmix.store.schema import carried_names
from batchmix.tables.rows_of_run import RunColumns, one_per_row, rows_of

if TYPE_CHECKING:
    from batchmix.api.run import Run


def columns_to_join(
    run: Run, data: Any, sources: Mapping[str, str], model: str | None, sample: int | None
) -> RunColumns:
    """Return columns of a run with one value per row of the table `data`. Raises `UsageError`.

    `sources` maps each new column's name to a result column. With several models, `model` names the one to take; with
    several samples, `sample` its number.
    """
    view, samples = reader.look(run.folder), reader.job_of(run.folder).samples
    if model is not None and model not in view.run.models:
        raise UsageError(f"{run.folder}: there is no model {model!r}; there are {', '.join(view.run.models)}")
    if model is None and view.run.results > view.run.rows * samples:
        raise UsageError(f"{run.folder}: has an answer of each model; name one, as model={view.run.models[0]!r}")
    if sample is None and samples > 1:
        raise UsageError(f"{run.folder}: has {samples} answers to each row; choose one, as sample=0")
    sample = sample or 0
    if sample not in range(samples):
        raise UsageError(f"{run.folder}: there is no sample {sample}; there are samples 0 to {samples - 1}")
    carried = _carried_as_they_are(run)
    scan = run.scan(dict.fromkeys(["row", "model", "sample", *sources.values(), *carried]))
    chosen = {"sample": sample} if model is None else {"sample": sample, "model": model}
    # A limited run has the first rows of the table, and the others may be sent later.
    rows = max(view.run.rows, rows_of(data) or 0) if view.run.scan.get("limit") else view.run.rows
    return RunColumns(one_per_row(scan, rows, chosen), rows, sources, carried)


def _carried_as_they_are(run: Run) -> list[str]:
    """Return the carried columns that have the name and the type that they have in the input."""
    carried = carried_names(reader.result_schema(run.folder))
    columns = reader.job_of(run.folder).input.columns
    if columns is None:
        return carried
    same = {column if isinstance(column, str) else column.name for column in columns if _is_unchanged(column)}
    return [name for name in carried if name in same]


def _is_unchanged(column: str | Column) -> bool:
    return isinstance(column, str) or (column.type is None and column.name in {"", column.source})
