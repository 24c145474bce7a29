"""Reads the values that metrics need from a run's results, into numpy arrays of compact types."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from batchmix.engine import reader
from batchmix.errors import RunError
from batchmix.formats.arrow_values import is_text, values
from batchmix.formats.text import text_of
from batchmix.records import Status
from batchmix.scorers.statements import MAY_SAY_NOTHING, says_nothing
from batchmix.statistics.metrics import Floats, Ints
from batchmix.store.run_folder import Layout, RunFile

Array = npt.NDArray[Any]


class ArraySpec(msgspec.Struct, frozen=True):
    """The type of an array, and how to compute it from result columns."""

    columns: tuple[str, ...]
    """The result columns that are needed."""
    dtype: Any
    make: Callable[[pa.RecordBatch], Array]
    """Computes the array's values for a batch of results."""


def floats(column: Any) -> Floats:
    """Return a column as float64; nulls become NaN."""
    values: Floats = np.asarray(column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), dtype=np.float64)
    return values


def _refused(batch: pa.RecordBatch) -> Array:
    filtered = pc.fill_null(pc.equal(batch["finish_reason"], "content_filter"), False)  # noqa: FBT003
    return _bools(pc.or_(batch["refusal"].is_valid(), filtered))


def _empty_answers(batch: pa.RecordBatch) -> Array:
    """Return whether each result is an answer with nothing in it: no text, no call of a tool, and no refusal."""
    answered = pc.and_(batch["tool_calls"].is_null(), pc.equal(batch["status"], Status.OK))
    texts = pc.fill_null(batch["response"], "")
    nothing = _bools(pc.and_(answered, pc.match_substring_regex(texts, MAY_SAY_NOTHING))) & ~_refused(batch)
    places = np.flatnonzero(nothing)
    nothing[places] = [says_nothing(text) for text in texts.take(pa.array(places)).to_pylist()]
    return nothing


def _numbered(batch: pa.RecordBatch) -> Array:
    """Return whether each custom_id is the number of its row, as it is in an input without ids."""
    return _bools(pc.equal(batch["custom_id"], batch["row"].cast(pa.string())))


def _bools(column: Any) -> Array:
    values: Array = pc.fill_null(column, False).to_numpy(zero_copy_only=False)  # noqa: FBT003
    return values


def hashes(column: Any) -> Array:
    """Return a hash of each text in a column. Within this process, equal texts have equal hashes."""
    return np.fromiter((hash(text) for text in column.to_pylist()), np.int64, len(column))


def as_texts(column: pa.Array) -> pa.Array:
    """Return a column's values as readable text."""
    if is_text(column.type) or pa.types.is_integer(column.type) or pa.types.is_boolean(column.type):
        return column.cast(pa.string())
    return pa.array([None if value is None else text_of(value) for value in values(column)], pa.string())


def _ms(name: str) -> Callable[[pa.RecordBatch], Array]:
    """Return a function that extracts a column of times in milliseconds, with -1 for a missing time."""
    return lambda batch: np.asarray(pc.fill_null(batch[name].cast(pa.int64()), -1))


def _number(name: str) -> ArraySpec:
    return ArraySpec((name,), np.float64, lambda batch: floats(batch[name]))


FIELDS = {
    "row": ArraySpec(("row",), np.int32, lambda batch: np.asarray(batch["row"])),
    "sample": ArraySpec(("sample",), np.int16, lambda batch: np.asarray(batch["sample"])),
    "ok": ArraySpec(("status",), np.bool_, lambda batch: _bools(pc.equal(batch["status"], Status.OK))),
    "rejected": ArraySpec(("status",), np.bool_, lambda batch: _bools(pc.equal(batch["status"], Status.REJECTED))),
    "refused": ArraySpec(("refusal", "finish_reason"), np.bool_, _refused),
    "empty": ArraySpec(("response", "tool_calls", "status", "refusal", "finish_reason"), np.bool_, _empty_answers),
    "response_chars": ArraySpec(("response",), np.float32, lambda batch: floats(pc.utf8_length(batch["response"]))),
    "custom_id": ArraySpec(("custom_id",), np.int64, lambda batch: hashes(batch["custom_id"])),
    "numbered": ArraySpec(("row", "custom_id"), np.bool_, _numbered),
    "text": ArraySpec(("response",), np.int64, lambda batch: hashes(batch["response"])),
    "request": ArraySpec(("request_hash",), np.int64, lambda batch: hashes(batch["request_hash"])),
    "sent_ms": ArraySpec(("sent_at",), np.int64, _ms("sent_at")),
    "finished_ms": ArraySpec(("finished_at",), np.int64, _ms("finished_at")),
    **{
        name: _number(name)
        for name in ("prompt_tokens", "completion_tokens", "reasoning_tokens", "cost_usd", "latency_s")
    },
}
"""The arrays that can be read, by name. A missing number is NaN."""


class ResultArrays(msgspec.Struct):
    """Arrays with one value for each result, in the results' order: by row, model and sample."""

    run: RunFile
    count: int
    fields: dict[str, Array]
    model: npt.NDArray[np.int16]
    """For each result: the index of its model in the run's list of models."""
    texts: dict[str, tuple[npt.NDArray[np.int32], list[str | None]]]
    """For each text column: a code for each result, and a list of texts. A code is the index of a text in the list."""
    sums: dict[str, Floats]
    """For each field: the sum of its values by model."""
    counts: dict[str, Ints]
    """For each field: how many values were added up, by model."""
    lost: list[str] = msgspec.field(default_factory=list)
    """A message for each part that can't be read in full. Its unreadable results are left out."""

    def positions(self, model: str) -> Ints:
        """Return the positions of a model's results in the arrays."""
        positions: Ints = np.flatnonzero(self.model == self.run.models.index(model))
        return positions


def read_result_arrays(
    folder: Path, fields: Sequence[str], texts: Sequence[str] = (), sums: Sequence[str] = ()
) -> ResultArrays:
    """Read the results of a run into arrays. Raises `RunError` if there are no results.

    `fields` and `sums` are keys of `FIELDS`: an array is read for each of `fields`, and a sum by model for each of
    `sums`. `texts` are columns, whose values become codes.
    """
    run = Layout(folder).read_run()
    if run is None:
        raise RunError(f"{folder}: is not a run folder: it has no run.json")
    columns = {"model", *texts, *(name for field in (*fields, *sums) for name in FIELDS[field].columns)}
    arrays = _empty(run, fields, texts, sums)
    values: dict[str, dict[str | None, int]] = {name: {} for name in texts}
    for batch in reader.results(folder, columns, arrays.lost):
        _add(arrays, batch, values)
    if not arrays.count:
        raise RunError(arrays.lost[0] if arrays.lost else f"{folder}: has no results yet")
    return ResultArrays(
        run,
        arrays.count,
        {name: array[: arrays.count] for name, array in arrays.fields.items()},
        arrays.model[: arrays.count],
        {name: (codes[: arrays.count], list(values[name])) for name, (codes, _) in arrays.texts.items()},
        arrays.sums,
        arrays.counts,
        arrays.lost,
    )


def _empty(run: RunFile, fields: Sequence[str], texts: Sequence[str], sums: Sequence[str]) -> ResultArrays:
    room, models = run.results, len(run.models)
    return ResultArrays(
        run,
        0,
        {name: np.empty(room, FIELDS[name].dtype) for name in fields},
        np.empty(room, np.int16),
        {name: (np.empty(room, np.int32), []) for name in texts},
        {name: np.zeros(models) for name in sums},
        {name: np.zeros(models, np.int64) for name in sums},
    )


def _add(arrays: ResultArrays, batch: pa.RecordBatch, values: Mapping[str, dict[str | None, int]]) -> None:
    here = slice(arrays.count, arrays.count + batch.num_rows)
    model = np.asarray(pc.index_in(batch["model"], value_set=pa.array(arrays.run.models, pa.string())))
    arrays.model[here] = model
    for name, array in arrays.fields.items():
        array[here] = FIELDS[name].make(batch)
    for name, (codes, _) in arrays.texts.items():
        codes[here] = _codes(batch[name], values[name])
    for name in arrays.sums:
        numbers = FIELDS[name].make(batch)
        present = ~np.isnan(numbers)
        arrays.sums[name] += np.bincount(model[present], numbers[present], len(arrays.run.models))
        arrays.counts[name] += np.bincount(model[present], minlength=len(arrays.run.models))
    arrays.count += batch.num_rows


def _codes(column: pa.Array, values: dict[str | None, int]) -> Array:
    """Return a code for each value of a column. New values are added to `values`, which maps values to codes."""
    texts = as_texts(column).dictionary_encode(null_encoding="encode")
    numbers = [values.setdefault(value, len(values)) for value in texts.dictionary.to_pylist()]
    codes: Array = np.array(numbers, np.int32)[np.asarray(texts.indices)]
    return codes
