"""Finds complete answers of other runs by request hash."""

from __future__ import annotations

import bisect
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from batchmix.errors import JobError
from batchmix.formats.pyarrow_setup import compute
from batchmix.records import Completion, Exchange, Key, Request, Status
from batchmix.responses.classify import Classifier
from batchmix.store.parts import list_parts, open_part
from batchmix.store.run_folder import Layout

_COMPLETE = {"stop", "tool_calls", "function_call", None}
"""The finish reasons of answers that are reused. Answers that were cut short or filtered are not."""
EXCHANGE_COLUMNS = ["request_hash", "sample", "raw", "http_status", "request_id", "served_model"]
ReuseCheck = Callable[[Request, Completion], bool]
"""Says of a complete answer whether it may be reused for a request."""
_ROW_BITS = 32


class ReusedAnswer(msgspec.Struct, frozen=True):
    """An answer from another run, or of another row with the same request."""

    run: str
    """The folder of the other run, as the job names it, or the name of this run."""
    exchange: Exchange
    is_kept: bool = False
    """Whether the other row counts as answered although the answer does not fit the job's schema."""


class ReusableAnswers:
    """Finds complete answers in the sealed parts of other runs. Each answer takes 16 bytes of memory.

    If several runs have an answer to a request, the first run's answer is used. The n-th sample of a request gets only
    the answer of an n-th sample. Answers that fail `check` are left out. `answers` may be called from any thread.
    Raises `JobError` if a folder is not a run, or if rehearsed answers would mix with real ones.
    """

    def __init__(
        self, folders: tuple[str, ...], classifier: Classifier, *, rehearsal: bool, check: ReuseCheck | None = None
    ) -> None:
        self._classifier = classifier
        self._check = check
        self._parts: list[tuple[str, Path]] = []
        self._lock = threading.Lock()
        self._at = (Path(), 0)  # the part that is in memory, and the number of its first row there
        self._rows: list[dict[str, Any]] = []
        marks, places = array("Q"), array("Q")
        for folder in folders:
            run = Layout(Path(folder)).read_run()
            if run is None:
                raise JobError(f"reuse.from: {folder} is no run folder")
            if run.rehearsal != rehearsal:
                raise JobError(f"reuse.from: {folder}: rehearsed answers never mix with real ones")
            for path in list_parts(Layout(Path(folder)).data).values():
                self._parts.append((folder, path))
                _read_marks(path, len(self._parts) - 1, marks, places)
        order = compute().sort_indices(_arrow(marks))
        self._marks, self._places = _sorted(marks, order), _sorted(places, order)

    def holds(self, request: Request) -> bool:
        """Return whether a request probably has an answer, without reading the answer."""
        return next(self._candidates(request), None) is not None

    def answers(self, requests: list[Request]) -> dict[Key, ReusedAnswer]:
        """Return the answers to some requests, by the keys of the requests. Requests without an answer are left out."""
        with self._lock:
            answers = ((request.key, self._answer(request)) for request in requests)
            return {key: answer for key, answer in answers if answer}

    def _candidates(self, request: Request) -> Iterator[int]:
        mark = _mark(request.hash, request.sample)
        position = bisect.bisect_left(self._marks, mark)
        while position < len(self._marks) and self._marks[position] == mark:
            yield self._places[position]
            position += 1

    def _answer(self, request: Request) -> ReusedAnswer | None:
        for place in self._candidates(request):
            folder, path = self._parts[place >> _ROW_BITS]
            row = self._row(path, place & ((1 << _ROW_BITS) - 1))
            if row["request_hash"] == request.hash and row["sample"] == request.sample and row["raw"] is not None:
                exchange = msgspec.structs.replace(exchange_of(row), inputs=request.inputs)
                if self._is_usable(exchange, request):
                    return ReusedAnswer(folder, exchange)
        return None

    def _is_usable(self, exchange: Exchange, request: Request) -> bool:
        """Return whether an answer is complete by the rules of this version, since an older one may have stored it."""
        outcome = self._classifier.outcome(exchange, request.path)
        if not isinstance(outcome, Completion) or outcome.finish_reason not in _COMPLETE:
            return False
        return self._check is None or self._check(request, outcome)

    def _row(self, path: Path, number: int) -> dict[str, Any]:
        """Return a row of a part. One row group stays in memory, since runs over the same input read rows in order."""
        if self._at[0] != path or not 0 <= number - self._at[1] < len(self._rows):
            with open_part(path) as file:
                group = first = 0
                while number >= first + (rows := file.metadata.row_group(group).num_rows):
                    group, first = group + 1, first + rows
                self._rows = file.read_row_group(group, columns=EXCHANGE_COLUMNS).to_pylist()
                self._at = (path, first)
        return self._rows[number - self._at[1]]


def _read_marks(path: Path, part: int, marks: array[int], places: array[int]) -> None:
    """Add the mark and the place of each complete answer in a part to `marks` and `places`."""
    number = part << _ROW_BITS
    columns = ["status", "finish_reason", "request_hash", "sample"]
    with open_part(path) as file:
        for batch in file.iter_batches(8192, columns=columns):
            for status, reason, hash_, sample in zip(
                *(batch.column(name).to_pylist() for name in columns), strict=True
            ):
                if status == Status.OK and reason in _COMPLETE:
                    marks.append(_mark(hash_, sample))
                    places.append(number)
                number += 1


def _mark(hash_: str, sample: int) -> int:
    """Return the number by which an answer is found. The complete hash is compared when the answer is read."""
    return (int(hash_[:16], 16) + sample) & (2**64 - 1)


def _arrow(values: array[int]) -> pa.Array:
    return pa.Array.from_buffers(pa.uint64(), len(values), [None, pa.py_buffer(values)])


def _sorted(values: array[int], order: pa.Array) -> array[int]:
    in_order = array("Q")
    in_order.frombytes(compute().take(_arrow(values), order).buffers()[1] or b"")
    return in_order


def exchange_of(row: dict[str, Any]) -> Exchange:
    """Return an exchange from the `EXCHANGE_COLUMNS` of an answer's result row, with the current time."""
    now = time.time_ns() // 1_000_000
    return Exchange(
        sent_at_ms=now,
        finished_at_ms=now,
        latency_s=0.0,
        status=row["http_status"],
        body=row["raw"].encode(),
        request_id=row["request_id"],
        served_model=row["served_model"],
    )
