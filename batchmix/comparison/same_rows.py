"""Tells which results that are paired by the number of their row are of other rows: of a replaced or shuffled dataset.

A number says nothing of a row. Its carried columns do, if both runs have some, or else the requests, if both jobs make
the same request of the same row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

import msgspec
import numpy as np
import pyarrow as pa

from batchmix.comparison.pairing import ComparedRun, ModelPairs
from batchmix.comparison.request_changes import asks_alike
from batchmix.engine import reader
from batchmix.evaluation.result_arrays import as_texts, floats, hashes
from batchmix.formats.amounts import counted
from batchmix.statistics.metrics import Bools, Ints


class SameRows:
    """Takes pairs apart whose results are of other rows."""

    def __init__(self, old: ComparedRun, new: ComparedRun) -> None:
        self._runs = old, new
        shared = [
            name
            for name in new.results.run.carried_schema().names
            if name in old.results.run.carried_schema().names and not _is_number(name, self._runs)
        ]
        columns = [_columns(run, shared) for run in self._runs]
        self._columns = {name: (columns[0][name], columns[1][name]) for name in columns[0] if name in columns[1]}

    def of(self, pair: ModelPairs) -> ModelPairs:
        """Return the pairs of a model without those of other rows. If these are most, no pair is left."""
        other, names = self._other_rows(pair)
        if not other.any():
            return pair
        if 2 * int(other.sum()) > len(other):
            other = np.ones_like(other)
        return msgspec.structs.replace(
            pair,
            before=pair.before[~other],
            after=pair.after[~other],
            other_request=pair.other_request[~other],
            other_rows=int(other.sum()),
            told_by=names,
        )

    def _other_rows(self, pair: ModelPairs) -> tuple[Bools, tuple[str, ...]]:
        """Return which pairs are of other rows, and the columns that tell. These are none if the requests do."""
        if not self._columns:
            alike = asks_alike(*self._runs, pair)
            return pair.other_request if alike else np.zeros_like(pair.other_request), ()
        chosen = {name: (there[pair.before], here[pair.after]) for name, (there, here) in self._columns.items()}
        values = {name: len(np.unique(here)) for name, (_, here) in chosen.items()}
        # A column with few values is often the same by chance. Of the others, one may be edited, or differ each night.
        telling = [name for name, count in values.items() if 2 * count >= max(values.values())]
        differs = np.array([chosen[name][0] != chosen[name][1] for name in telling])
        other: Bools = 2 * differs.sum(axis=0) > len(telling)
        return other, tuple(name for name, of_pairs in zip(telling, differs, strict=True) if of_pairs[other].any())


def other_row_notes(pairs: Iterable[ModelPairs]) -> Iterator[str]:
    """Yield a message if pairs were of other rows: what tells it, and what to do."""
    found = max(pairs, key=lambda pair: pair.other_rows, default=None)
    if found is not None and found.other_rows:
        told = f"their columns {', '.join(map(repr, found.told_by))}" if found.told_by else "their requests"
        yield (
            f"{counted(found.other_rows, 'row')} with another row of the same number: {told} differ;"
            " to pair rows wherever they are, name the column of their ids: [input] id"
        )


def _is_number(name: str, runs: Iterable[ComparedRun]) -> bool:
    """Return whether a column has the numbers of the rows, in place of ids that one of the runs lacks."""
    return name == "custom_id" and any(run.is_numbered for run in runs)


def _columns(run: ComparedRun, names: Collection[str]) -> dict[str, Ints]:
    """Return hashes of the values of a run's carried columns, without columns that only count the rows."""
    found: dict[str, list[Ints]] = {name: [] for name in names}
    offsets: dict[str, set[float]] = {name: set() for name in names}
    for batch in reader.results(run.layout.root, ["row", *names]) if names else ():
        for name in names:
            column = batch[name]
            found[name].append(hashes(as_texts(column)))
            if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
                offsets[name] |= set(np.unique(floats(column) - floats(batch["row"])).tolist()[:2])
    return {name: np.concatenate(parts) for name, parts in found.items() if len(offsets[name]) != 1 and parts}
