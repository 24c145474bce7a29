"""The pass over JSONL before anything is spent: rows, bad rows, column kinds, and where each shard begins."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from batchmix.errors import InputError
from batchmix.load.json_types import JsonTypes, TypeBits
from batchmix.load.jsonl import (
    NOT_UTF8,
    WHOLE_FILE,
    BadLineError,
    Decode,
    Segment,
    decode_row,
    digest_text,
    read_lines,
    stripped,
)
from batchmix.load.prompts import PromptSource
from batchmix.load.sources import Source, Stamp

_MOST_BAD_ROWS = 20
_MOST_MODELS = 100
_REPORT_EVERY = 10_000

OnProgress = Callable[[int], None]


class ScanOptions(msgspec.Struct, frozen=True):
    """How much of an input is taken, and into what it is cut."""

    shard_rows: int
    limit: int | None = None
    """Only so many rows from the beginning."""
    reject: bool = False
    """Let bad rows through, to be rejected one by one, rather than refuse the input."""


class ShardRange(msgspec.Struct, frozen=True, array_like=True):
    """One shard: rows [first, stop)."""

    first: int
    stop: int
    digest: str
    """Of its input bytes."""
    segments: tuple[Segment, ...] = ()
    """Where its bytes are; empty for Parquet, which is entered by row."""


_STORED_AS = {"shards": "spans", "columns": "kinds", "required": "used", "types": "told", "param_columns": "own"}
"""The keys under which run.json holds fields of other names here."""


class Scan(msgspec.Struct, frozen=True, rename=_STORED_AS):
    """What is known of the input. Fit for JSON; handed back on a resume."""

    format: str
    mode: str
    """How rows become requests: `template`, `plain`, `bodies` or `batch`."""
    limit: int | None
    sources: tuple[Source, ...]
    """The files as they were given; a source with the path `-` is stdin."""
    stamps: tuple[Stamp | None, ...]
    digests: tuple[str, ...]
    """Of sources that were spooled; of others empty."""
    paths: tuple[str, ...]
    """The files that are read: the sources, or what was spooled of them."""
    sizes: tuple[int, ...]
    rows: int
    shard_rows: int
    shards: tuple[ShardRange, ...]
    columns: dict[str, int]
    """The kinds of values in each column; for Parquet only the columns' names."""
    models: tuple[str, ...]
    """The models that rows name where the job names none, in order of appearance."""
    required: tuple[str, ...]
    """Columns that were checked in each row."""
    bad_rows: int = 0
    model_column: str | None = None
    """Where rows name their models in a column."""
    types: dict[str, str] = {}
    """The types that values were checked to be of, by column."""
    param_columns: tuple[str, ...] = ()
    """Columns that are parameters of the rows' own, and were checked in each."""
    proven: dict[str, str] = {}
    """Columns of Parquet that were read through, and what was made of them."""


class RowChecker:
    """What is found out about the rows one by one: what is wrong with them, and which models they name."""

    def __init__(self, prompts: PromptSource, *, reject: bool) -> None:
        self.bad_rows = 0
        self._problem = prompts.problem
        self._reject = reject
        self._collect_models = prompts.names_model
        self._model_of = prompts.model_of
        self._models: dict[str, None] = {}
        self._messages: list[str] = []
        self._reasons: set[str] = set()
        self._rows = 0

    @property
    def models(self) -> tuple[str, ...]:
        """The models that good rows name, where the job names none."""
        return tuple(self._models)

    def problem(self, row: Mapping[str, Any]) -> str | None:
        """Return what is wrong with a row, if anything. Raises `InputError` for what can't be let through at all."""
        problem = self._problem(row)
        if problem is None and self._collect_models:
            self._models[self._model_of(row)] = None
            if len(self._models) > _MOST_MODELS:
                raise InputError(
                    f"the rows name more than {_MOST_MODELS} models; split the file, or set model in the job"
                )
        return problem

    def bad(self, place: str, reason: str, rows: int) -> None:
        """Take down a bad row, the last of `rows`. Raises `InputError` when there are enough to show."""
        self.bad_rows += 1
        self._rows = rows
        if not self._reject:
            self._messages.append(f"{place}: {reason}")
            self._reasons.add(reason)
            if len(self._messages) >= _MOST_BAD_ROWS:
                self._refuse(", and there may be more")

    def finish(self) -> None:
        """Raise `InputError` if something was found that can't be let through."""
        if self._messages:
            self._refuse("")
        if self._collect_models and not self._models:
            raise InputError("no row names a model; mend them, or set model in the job")

    def _refuse(self, more: str) -> None:
        count = len(self._messages)
        if 1 < count == self._rows and len(self._reasons) == 1:
            raise InputError(f"{self._messages[0]}\nEvery row so far ({count}) is like that; nothing was sent.")
        shown = "".join(f"\n  {message}" for message in self._messages)
        if NOT_UTF8 in self._reasons:
            shown += "\nWhere the whole file is in Windows-1252 or Latin-1: iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW"
        one, it, rejected = ("row", "it", "a rejected row") if count == 1 else ("rows", "them", "rejected rows")
        raise InputError(
            f"{count} bad {one}{more}; nothing was sent:{shown}\n"
            f"Mend {it}, or give --bad-rows reject to have {it} as {rejected} in the output."
        )


class JsonlScan:
    """Reads JSONL files through once."""

    def __init__(
        self,
        paths: list[str],
        labels: list[str],
        checker: RowChecker,
        on_progress: OnProgress,
        decode: Decode = decode_row,
    ) -> None:
        self.shards: list[ShardRange] = []
        self.rows = 0
        self._paths = paths
        self._labels = labels
        self._checker = checker
        self._problem = checker.problem
        self._on_progress = on_progress
        self._decode = decode
        self._first = 0
        self._notes = JsonTypes()
        self._segments: list[Segment] = []
        self._digest = hashlib.sha256()

    @property
    def columns(self) -> TypeBits:
        """The kinds of each column's values."""
        return self._notes.columns

    def run(self, shard_rows: int, limit: int | None) -> None:
        """Fill `rows`, `spans` and `kinds`. Raises `InputError`."""
        for number in range(len(self._paths)):
            self._file(number, shard_rows, limit)
        self._cut()
        self._on_progress(self.rows)

    def _file(self, file: int, shard_rows: int, limit: int | None) -> None:
        start = end = offset = 0
        first_line = 1
        blanks: list[bytes] = []  # they belong to the row that follows
        for number, raw in read_lines(self._paths[file], Segment(file, 0, WHOLE_FILE, 1)):
            if self.rows == limit:
                break
            offset += len(raw)
            line = stripped(number, raw)
            if not line:
                blanks.append(raw)
                continue
            self._digest.update(b"".join([*blanks, raw]) if blanks else raw)
            blanks.clear()
            self._row(file, number, line)
            end = offset
            if self.rows - self._first == shard_rows:
                self._segments.append(Segment(file, start, end, first_line))
                self._cut()
                start, first_line = end, number + 1
        if end > start:
            self._segments.append(Segment(file, start, end, first_line))

    def _row(self, file: int, number: int, line: bytes) -> None:
        self.rows += 1
        try:
            row = self._decode(line)
            self._notes.note(row)
            problem = self._problem(row)
        except BadLineError as error:
            problem = str(error)
        except InputError as error:
            raise InputError(f"{self._labels[file]}:{number}: {error}") from None
        if problem is not None:
            self._checker.bad(f"{self._labels[file]}:{number}", problem, self.rows)
        if self.rows % _REPORT_EVERY == 0:
            self._on_progress(self.rows)

    def _cut(self) -> None:
        """End the shard; what was not yet cut is the last one."""
        if self.rows > self._first:
            span = ShardRange(self._first, self.rows, digest_text(self._digest), tuple(self._segments))
            self.shards.append(span)
        self._first = self.rows
        self._segments = []
        self._digest = hashlib.sha256()
