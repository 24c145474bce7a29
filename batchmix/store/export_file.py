"""Exports a run's results to one file."""

from __future__ import annotations

import contextlib
import errno
import functools
import itertools
import os
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv

from batchmix.errors import NO_SPACE, PartDamaged, RunError, UsageError, disk_error
from batchmix.formats.arrow_values import row_values, values
from batchmix.formats.text import json_text
from batchmix.records import RUN_FOLDER_NAMES
from batchmix.store.chosen import Chosen
from batchmix.store.filesystem import atomic_replacement, is_regular_or_missing
from batchmix.store.parts import list_parts, part_path, read_part_of, row_groups, write_rows
from batchmix.store.result_rows import Price, ResultRows
from batchmix.store.row_slots import by_row
from batchmix.store.run_folder import Layout, RunFile
from batchmix.store.schema import columns_of
from batchmix.store.shard import Shard

_FAILING = NO_SPACE | {errno.EIO, errno.ESTALE}
Carried = Callable[[int], Iterator[pa.RecordBatch]]


class Export:
    """Reads the results of a run in order, from its parts and journals, without a lock.

    Only what is `chosen` is yielded, and only the columns for it are read. The methods' parameter `carried` is a
    function that returns the carried columns of an unsealed shard.
    """

    def __init__(self, layout: Layout, run: RunFile, chosen: Chosen, price: Price) -> None:
        self.rows = 0
        self.lost: list[str] = []
        """Messages about parts with rows that can't be read. These rows are left out."""
        self._layout = layout
        self._run = run
        self._chosen = chosen
        self._schema = chosen.read
        self._price = price
        self._classifier = run.classifier(layout.secrets)

    def write(self, path: Path, carried: Carried, mode: int | None = None) -> None:
        """Write all results to a .parquet, .jsonl or .csv file, which appears only when it is complete."""
        typed = self._classifier.typed
        answers = {field.name for field in typed.fields} if typed else set()
        nested = [name for name, root in self._chosen.roots().items() if root in answers]
        write_csv = functools.partial(_write_csv, nested=nested)
        writers: dict[str, Callable[[Path, pa.Schema, Iterator[pa.RecordBatch]], None]]
        writers = {".parquet": _write_parquet, ".jsonl": _write_jsonl, ".csv": write_csv}
        write = writers.get(path.suffix)
        if write is None:
            raise UsageError(f"{path}: the name must end in {', '.join(writers)}")
        with exported(path, mode) as temporary:
            write(temporary, self._chosen.schema, self.batches(carried))

    def batches(self, carried: Carried) -> Iterator[pa.RecordBatch]:
        """Yield all chosen results in order."""
        sealed = self._layout.ledger.sealed_shards()  # read first, since parts and journals may change meanwhile
        journals, parts = self._layout.journals(), list_parts(self._layout.data)
        for index in sorted(sealed | journals.keys() | parts.keys()):
            try:
                for whole in self._shard(index, journals.get(index, {}), carried):
                    batch = self._chosen.of(whole)
                    self.rows += batch.num_rows
                    yield batch
            except FileNotFoundError:
                if index in self._layout.ledger.sealed_shards():  # otherwise it was dropped meanwhile
                    self.lost.append(f"{part_path(self._layout.data, index)}: is missing")
            except OSError as error:  # an error of reading, not of the file that is written
                raise disk_error(error) from error
            except PartDamaged as error:
                self.lost.append(error.damage)

    def _shard(self, index: int, journals: dict[int, Path], carried: Carried) -> Iterator[pa.RecordBatch]:
        part = part_path(self._layout.data, index)
        shard = Shard(index, journals, part, classifier=self._classifier) if journals else None
        if shard is None or not shard.adds_to_part:
            if shard:
                shard.close()
            yield from self._sealed(index, part)
            return
        self.lost += shard.part_damage
        try:
            results = ResultRows(shard, self._price, raw="raw" in self._schema.names)
            first = index * self._run.shard_rows
            finished = by_row((key for key, state in shard.states.items() if state.status), self._run.models)
            yield from results.batches(self._schema, carried(index), first, finished)
        finally:
            shard.close()

    def _sealed(self, index: int, part: Path) -> Iterator[pa.RecordBatch]:
        read_part_of(part, index)
        names = self._schema.names  # selected again below, since a name can be the beginning of another's path
        for group in row_groups(part, names, self.lost, self._chosen.may_match):
            for batch in group.to_batches(4096):
                yield pa.RecordBatch.from_arrays(columns_of(batch, self._schema), schema=self._schema)


@contextlib.contextmanager
def exported(path: Path, mode: int | None) -> Iterator[Path]:
    """Yield the path of a temporary file, which replaces `path` when the block succeeds.

    If `path` is a link, its target is replaced. The permissions are `mode`, or else those of the replaced file, or else
    those that the umask allows. Raises `UsageError` if `path` is a folder, not a regular file, or a file of a run.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise UsageError(f"{path}: is a folder; name a file")
    if not is_regular_or_missing(target):
        raise UsageError(f"{path}: is not a plain file; name another")
    refuse_own_file(path, target)
    try:
        if mode is None and target.exists():
            mode = stat.S_IMODE(target.stat().st_mode)
        with atomic_replacement(target, mode) as temporary:
            yield temporary
    except OSError as error:
        if error.errno in _FAILING:
            raise disk_error(error, path) from error
        raise RunError(f"{path}: can't be written: {error.strerror or error}") from error


def refuse_own_file(path: Path, target: Path) -> None:
    """Raise `UsageError` if `target`, to which `path` leads, is a file that belongs to a run."""
    for folder in target.parents:
        if (folder / "run.json").exists() and target.relative_to(folder).parts[0] in RUN_FOLDER_NAMES:
            raise UsageError(f"{path}: would replace a file of the run {folder}; name another file")


def _write_parquet(path: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
    write_rows(path, schema, batches, lambda: None)


def _write_jsonl(path: Path, _: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for batch in batches:
            for row in row_values(batch):
                file.write(json_text(row) or "")
                file.write("\n")


def _write_csv(path: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch], nested: Collection[str]) -> None:
    """Write a CSV file. Objects in the columns `nested` have a column for each value, all others are JSON text."""

    def leaves(columns: Iterable[pa.Array]) -> Iterator[tuple[tuple[str, ...], pa.Array]]:
        for name, column in zip(schema.names, columns, strict=True):
            yield from _leaves((name,), column) if name in nested else [((name,), column)]

    keys, none = zip(*leaves([pa.nulls(0, type_) for type_ in schema.types]), strict=True)
    flat = pa.schema([(name, _flat(column.type)) for name, column in zip(_names(keys), none, strict=True)])
    with pa_csv.CSVWriter(path, flat) as writer:
        for batch in batches:
            columns = [
                column if flat_type == column.type else pa.array(map(_cell, values(column)), flat_type)
                for (_, column), flat_type in zip(leaves(batch.columns), flat.types, strict=True)
            ]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=flat))


def _leaves(keys: tuple[str, ...], column: pa.Array) -> Iterator[tuple[tuple[str, ...], pa.Array]]:
    """Yield the columns of the values within a column of objects, each with the keys that lead to it, or itself."""
    if not pa.types.is_struct(column.type):
        yield keys, column
        return
    for field, inner in zip(column.type, column.flatten(), strict=True):
        yield from _leaves((*keys, field.name), inner)


def _names(keys: Sequence[tuple[str, ...]]) -> list[str]:
    """Return a name for each column, given the keys that lead to it: `answer.address.city`.

    If dots in the keys make the names of two the same, the one on the lower level gets the suffix `_1`.
    """
    names: dict[str, tuple[str, ...]] = {}
    for path in sorted(keys, key=len):
        name, number = ".".join(path), itertools.count(1)
        while name in names:
            name = f"{'.'.join(path)}_{next(number)}"
        names[name] = path
    of = {path: name for name, path in names.items()}
    return [of[path] for path in keys]


def _flat(type_: pa.DataType) -> pa.DataType:
    """Return the type of a column in CSV. Numbers, booleans and text keep their types, all others become text."""
    is_number = pa.types.is_integer(type_) or pa.types.is_float32(type_) or pa.types.is_float64(type_)
    return type_ if is_number or pa.types.is_boolean(type_) or pa.types.is_string(type_) else pa.string()


def _cell(value: Any) -> str | None:
    return value if isinstance(value, str) else json_text(value)
