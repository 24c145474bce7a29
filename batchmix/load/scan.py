"""The result of a scan: rows, bad rows, columns, and where each shard begins."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from batchmix.errors import InputError
from batchmix.load.files import Source, Stamp, stamp
from batchmix.load.jsonl import NOT_UTF8, Segment
from batchmix.load.prompts import Mode, PromptSource

REPORT_EVERY = 10_000
"""The number of rows between two calls of `ScanOptions.on_progress`."""
_MAX_BAD_ROWS = 20
"""A scan that does not reject bad rows stops after this many bad rows, which fit on a screen."""
_MAX_MODELS = 100
"""The maximum number of models that rows may name. Each model has its own lane."""
_STORED_AS = {"shards": "spans", "columns": "kinds", "required": "used", "types": "told", "param_columns": "own"}
"""The fields whose keys in run.json differ from their names here."""


def _ignore(_: int) -> None:
    pass


class ScanOptions(msgspec.Struct, frozen=True):
    """How much of an input is read, and how."""

    shard_rows: int
    limit: int | None = None
    """The maximum number of rows to read, from the first on. None for all rows."""
    reject_bad_rows: bool = False
    """Whether to accept an input with bad rows. These rows are then rejected one by one later."""
    reserved: frozenset[str] = frozenset()
    """The names of result columns, which no carried column may have."""
    on_progress: Callable[[int], None] = _ignore
    """Called now and then with the number of rows scanned so far."""
    earlier_digest: str = ""
    """A digest of an earlier scan, with which those of this scan will be compared. Empty if there is none."""
    query_again: bool = False
    """Whether to run `input.query` although there is a copy of its result."""


class ShardRange(msgspec.Struct, frozen=True, array_like=True):
    """The input of one shard: rows [first, stop)."""

    first: int
    stop: int
    digest: str
    """The hash of the shard's input bytes."""
    segments: tuple[Segment, ...] = ()
    """Where the shard's lines are in the files. Empty for formats such as Parquet, which are read by row number."""


class Scan(msgspec.Struct, frozen=True, rename=_STORED_AS):
    """The result of a scan. run.json stores it for later starts."""

    format: str
    mode: Mode
    limit: int | None
    sources: tuple[Source, ...]
    """The files that the job names. The path `-` stands for stdin."""
    stamps: tuple[Stamp | None, ...]
    digests: tuple[str, ...]
    """The SHA-256 of each spooled file, or of the copy of stdin. Empty for sources that are not spooled."""
    paths: tuple[str, ...]
    """The path to read each source from: the source itself, or its spooled copy."""
    sizes: tuple[int, ...]
    rows: int
    shard_rows: int
    shards: tuple[ShardRange, ...]
    columns: dict[str, int]
    """The columns, each with the JSON types of its values as bits. 0 if the files state the types, as in Parquet."""
    models: tuple[str, ...]
    """The models that rows name if the job names none, in order of appearance."""
    required: tuple[str, ...]
    """The columns that every row was checked to have."""
    bad_rows: int = 0
    model_column: str | None = None
    """The column in which rows name their models."""
    types: dict[str, str] = {}
    """The configured types that all values were checked against, by column."""
    weight: str | None = None
    """The column with the rows' weights, whose values were checked in every row. None if rows have no weights."""
    param_columns: tuple[str, ...] = ()
    """The columns with request parameters, whose values were checked in every row."""
    proven: dict[str, str] = {}
    """The carried columns whose values were all converted once, to check that they fit, with the resulting types."""

    def is_current(self, files: Iterable[int]) -> bool:
        """Return whether the status of some files proves that they still have the bytes that were scanned."""
        stamps = [(self.stamps[file], self.paths[file]) for file in files]
        return all(scanned is not None and scanned.proves(stamp(path)) for scanned, path in stamps)


class RowChecker:
    """Collects bad rows during a scan, with the reasons, and the models that rows name."""

    def __init__(self, prompts: PromptSource, *, reject_bad_rows: bool) -> None:
        self.bad_rows = 0
        self.problem: Callable[[Mapping[str, Any]], str | None] = prompts.problem
        """Returns a message about what is wrong with a row, or None. Raises `InputError` if rejecting rows would not
        help.
        """
        self._names_model = prompts.names_model
        if prompts.names_model:
            self.problem = self._collect_model
        self._prompts = prompts
        self._reject = reject_bad_rows
        self._models: dict[str, None] = {}
        self._messages: list[str] = []
        self._reasons: set[str] = set()
        self._rows = 0

    @property
    def models(self) -> tuple[str, ...]:
        """The models that good rows name, in order of appearance. Empty if the job names the models."""
        return tuple(self._models)

    def _collect_model(self, row: Mapping[str, Any]) -> str | None:
        problem = self._prompts.problem(row)
        if problem is None:
            self._models[self._prompts.model_of(row)] = None
            if len(self._models) > _MAX_MODELS:
                raise InputError(
                    f"the rows name more than {_MAX_MODELS} models; split the file, or set model in the job"
                )
        return problem

    def bad(self, place: str, reason: str, rows: int) -> None:
        """Record a bad row. `rows` is the number of rows read so far. Raises `InputError` after `_MAX_BAD_ROWS`."""
        self.bad_rows += 1
        self._rows = rows
        if not self._reject:
            self._messages.append(f"{place}: {reason}")
            self._reasons.add(reason)
            if len(self._messages) >= _MAX_BAD_ROWS:
                self._refuse(", and there may be more")

    def finish(self) -> None:
        """Raise `InputError` if the input has to be refused."""
        if self._messages:
            self._refuse("")
        if self._names_model and not self._models:
            raise InputError("no row names a model; fix the rows, or set model in the job")

    def _refuse(self, more: str) -> None:
        count = len(self._messages)
        if 1 < count == self._rows and len(self._reasons) == 1:
            raise InputError(f"{self._messages[0]}\nAll {count} rows so far have this problem; nothing was sent.")
        shown = "".join(f"\n  {message}" for message in self._messages)
        if NOT_UTF8 in self._reasons:
            shown += "\nIf the whole file is in Windows-1252 or Latin-1: iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW"
        one, it, rejected = ("row", "it", "a rejected row") if count == 1 else ("rows", "them", "rejected rows")
        raise InputError(
            f"{count} bad {one}{more}; nothing was sent:{shown}\n"
            f"Fix {it}, or give --bad-rows reject to have {it} as {rejected} in the output."
        )
