"""The pass over the input before anything is spent: rows, bad rows, column kinds, and where each shard begins."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from batchmix.errors import InputError
from batchmix.load.files import Source, Stamp
from batchmix.load.jsonl import BadLineError, Segment, decode_row, read_lines, stripped
from batchmix.load.kinds import Kinds, note_kinds

_MOST_BAD_ROWS = 20
_MOST_MODELS = 100
_REPORT_EVERY = 10_000


class Span(msgspec.Struct, frozen=True, array_like=True):
    """One shard: rows [first, stop)."""

    first: int
    stop: int
    digest: str
    """Of its input bytes."""
    segments: tuple[Segment, ...] = ()
    """Where its bytes are; empty for Parquet, which is entered by row."""


class Scan(msgspec.Struct, frozen=True):
    """What is known of the input. Fit for JSON; handed back on a resume."""

    format: str
    mode: str
    """How rows become requests: `template`, `plain` or `batch`."""
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
    spans: tuple[Span, ...]
    kinds: dict[str, int]
    """The kinds of values in each column; for Parquet only the columns' names."""
    models: tuple[str, ...]
    """The models that Batch lines name where the job names none, in order of appearance."""
    used: tuple[str, ...]
    """Columns that were checked in each row."""
    bad_rows: int = 0


class BadRows:
    """Collects what is wrong with rows, or counts them where they are to be rejected one by one."""

    def __init__(self, *, reject: bool) -> None:
        self.count = 0
        self._reject = reject
        self._messages: list[str] = []

    def add(self, place: str, reason: str) -> None:
        """Note a bad row. Raises `InputError` when there are enough to show."""
        self.count += 1
        if not self._reject:
            self._messages.append(f"{place}: {reason}")
            if len(self._messages) >= _MOST_BAD_ROWS:
                self._refuse("; these are the first ones, there may be more")

    def refuse_any(self) -> None:
        """Raise `InputError` if there were any that can't be let through."""
        if self._messages:
            self._refuse("")

    def _refuse(self, more: str) -> None:
        shown = "".join(f"\n  {message}" for message in self._messages)
        raise InputError(
            f"{len(self._messages)} bad rows, nothing was sent{more}:{shown}\n"
            "Mend them, or give --bad-rows reject to have them as rejected rows in the output."
        )


class Models:
    """The models that rows name, in order of appearance."""

    def __init__(self, *, collect: bool) -> None:
        self._collect = collect
        self._found: dict[str, None] = {}

    def note(self, row: Mapping[str, Any]) -> None:
        """Note the model of a good Batch line. Raises `InputError` when there are too many."""
        if self._collect:
            self._found[row["body"]["model"]] = None
            if len(self._found) > _MOST_MODELS:
                raise InputError(f"the lines name more than {_MOST_MODELS} models; split the file, or set model in the job")

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(self._found)


class JsonlScan:
    """Reads JSONL files through once. `problem` says what is wrong with a row, or None."""

    def __init__(
        self, paths: list[str], labels: list[str], problem: Callable[[Mapping[str, Any]], str | None],
        bad: BadRows, models: Models,
    ) -> None:  # fmt: skip
        self.kinds: Kinds = {}
        self.spans: list[Span] = []
        self.rows = 0
        self._paths = paths
        self._labels = labels
        self._problem = problem
        self._bad = bad
        self._models = models
        self._first = 0
        self._segments: list[Segment] = []
        self._digest = hashlib.sha256()

    def run(self, shard_rows: int, limit: int | None, on_progress: Callable[[int], None]) -> None:
        """Fill `rows`, `spans` and `kinds`. Raises `InputError`."""
        for number, path in enumerate(self._paths):
            self._file(number, path, shard_rows, limit, on_progress)
        self._cut()
        on_progress(self.rows)

    def _file(self, file: int, path: str, shard_rows: int, limit: int | None, on_progress: Callable[[int], None]) -> None:
        start = end = offset = 0
        first_line = 1
        blanks = b""  # they belong to the row that follows
        for number, raw in read_lines(path, Segment(file, 0, 1 << 62, 1)):
            if limit is not None and self.rows >= limit:
                break
            offset += len(raw)
            line = stripped(number, raw)
            if not line:
                blanks += raw
                continue
            self._digest.update(blanks + raw if blanks else raw)
            blanks = b""
            self._row(self._labels[file], number, line)
            end = offset
            self.rows += 1
            if self.rows % _REPORT_EVERY == 0:
                on_progress(self.rows)
            if self.rows - self._first == shard_rows:
                self._segments.append(Segment(file, start, end, first_line))
                self._cut()
                start, first_line = end, number + 1
        if end > start:
            self._segments.append(Segment(file, start, end, first_line))

    def _cut(self) -> None:
        """End the shard; what was not yet cut is the last one."""
        if self.rows > self._first:
            span = Span(self._first, self.rows, self._digest.hexdigest()[:32], tuple(self._segments))
            self.spans.append(span)
        self._first = self.rows
        self._segments = []
        self._digest = hashlib.sha256()

    def _row(self, label: str, number: int, line: bytes) -> None:
        try:
            row = decode_row(line)
        except BadLineError as error:
            self._bad.add(f"{label}:{number}", str(error))
            return
        note_kinds(self.kinds, row)
        problem = self._problem(row)
        if problem is not None:
            self._bad.add(f"{label}:{number}", problem)
        else:
            self._models.note(row)
