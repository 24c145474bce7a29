"""A shard's state: the fold of its part, then its journals.

The fold is the same while a run goes on (`Shard.sent`, `heard`, `ended`) and when it is opened again from the disk.
Folding twice changes nothing, and an answer is never replaced by a non-answer of the same request hash.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import msgspec
import pyarrow.parquet as pq

from batchmix.records import (
    UNKNOWN_COMPLETION,
    Completion,
    Exchange,
    Failure,
    Key,
    Request,
    Tokens,
    Unsendable,
    Usage,
)
from batchmix.store.files import sync_folder
from batchmix.store.journal import (
    Damage,
    Ended,
    Event,
    Heard,
    Journal,
    Line,
    Sent,
    decode_line,
    heard,
    open_journal,
    read_lines,
)
from batchmix.store.schema import read_footer
from batchmix.store.totals import Totals, Untold

_KEPT_BYTES = 700
"""What an answer takes in memory besides its text."""

Judge = Callable[[Exchange, str], Completion | Failure]
"""Tells from an exchange and its URL path whether it is an answer; must depend on nothing else."""


class Place(msgspec.Struct, frozen=True, gc=False):
    """Where an event's line stands."""

    lane: int
    offset: int
    length: int


class Room:
    """Memory for answers that shards keep until they are sealed: to read one again costs as much as all the rest."""

    def __init__(self) -> None:
        self.left = 0
        """In bytes."""


class Entry(msgspec.Struct, gc=False):
    """What is known of one (row, model, sample)."""

    status: str = ""
    """`ok`, `failed`, `rejected`, or empty while there is no result."""
    hash: str = ""
    """Of the request that the result belongs to."""
    result: Place | None = None
    """The `Heard` of an answer, the `Ended` of a failure; None: in the part."""
    last_heard: Place | None = None
    """The last exchange in the journals, whatever it was."""
    attempts: int = 0
    in_flight: int = 0
    """The attempt that was sent and whose end is not known yet; 0 where there is none."""
    unheard: int = 0
    """Attempts that may have been billed for nothing, without the one in flight."""
    prompt: int = 0
    """Tokens of the last prompt in the journals that is not in the part, by an estimate."""
    most: int | None = None
    """The most that its answer may have; None: it does not say."""
    lost: Tokens = Tokens()
    """What the unheard attempts in the journals are taken for, by an estimate."""
    untold: Untold = Untold()
    """Of answers in the journals that came without a whole usage."""
    retried: tuple[tuple[str | None, Usage], ...] = ()
    """Of attempts in the journals that were billed and brought no answer: the billed model, and the usage."""
    wanted: bool = False
    """The job asks for this key now."""
    kept: tuple[Heard, Completion] | None = None
    """What stands at `result`, if it came in this start and there was room to keep it."""

    @property
    def maybe_billed(self) -> int:
        """Attempts that may have been billed for nothing, if nothing is in flight any more."""
        return self.unheard + (1 if self.in_flight else 0)

    @property
    def all_lost(self) -> Tokens:
        """What unheard attempts are taken for, with the one in flight."""
        return self.lost + self._asked if self.in_flight else self.lost

    def lose(self) -> None:
        """Count the last attempt as one that may have been billed for nothing."""
        self.unheard += 1
        self.lost += self._asked

    @property
    def _asked(self) -> Tokens:
        return Tokens(self.prompt, UNKNOWN_COMPLETION if self.most is None else self.most)


def read_part(part: Path) -> tuple[dict[Key, Entry], Totals]:
    """Return what a part knows of each key, and its totals."""
    columns = ["row", "model", "sample", "status", "request_hash", "attempts", "maybe_billed"]
    entries: dict[Key, Entry] = {}
    with pq.ParquetFile(part) as file:
        for batch in file.iter_batches(8192, columns=columns):
            rows = zip(*(batch.column(name).to_pylist() for name in columns), strict=True)
            for row, model, sample, status, hash_, attempts, maybe_billed in rows:
                entries[row, model, sample] = Entry(status, hash_, attempts=attempts, unheard=maybe_billed)
        footer = read_footer(file.metadata.metadata)
    return entries, footer.totals if footer else Totals()


def fold(entries: dict[Key, Entry], line: Line, lane: int, outcome: Completion | Failure | None) -> None:
    """Fold one event into the entries; `outcome` says what a `Heard` is."""
    event = line.event
    entry = entries.get(event.key)
    if entry is None:
        entry = entries[event.key] = Entry()
    if isinstance(event, Sent):
        _fold_sent(entry, event.attempt, event.prompt, event.most)
    elif isinstance(event, Heard):
        _fold_heard(entry, event, Place(lane, line.offset, line.length), outcome)
    elif not (entry.status == "ok" and entry.hash == event.hash):
        entry.status, entry.hash, entry.kept = event.status, event.hash, None
        entry.result = Place(lane, line.offset, line.length)


def _fold_sent(entry: Entry, attempt: int, prompt: int, most: int | None) -> None:
    if attempt <= entry.attempts:  # folded before, in the part
        return
    if entry.in_flight:
        entry.lose()
    entry.in_flight = entry.attempts = attempt
    entry.prompt, entry.most = prompt, most


def _fold_heard(entry: Entry, event: Heard, place: Place, outcome: Completion | Failure | None) -> None:
    if entry.in_flight == event.attempt:
        entry.in_flight = 0
        _fold_bill(entry, event, outcome)
    elif event.attempt > entry.attempts:  # the line of its intent was damaged
        entry.attempts = event.attempt
        _fold_bill(entry, event, outcome)
    entry.last_heard = place
    if isinstance(outcome, Completion):
        entry.status, entry.hash, entry.result, entry.kept = "ok", event.hash, place, None


def _fold_bill(entry: Entry, event: Heard, outcome: Completion | Failure | None) -> None:
    if isinstance(outcome, Completion):  # billed once, however its connection ended
        if outcome.untold and event.reused_from is None:
            entry.untold += Untold.of(outcome, entry.prompt)
    elif outcome is not None and outcome.usage is not None:
        entry.retried += ((event.served_model, outcome.usage),)
    elif event.maybe_billed or (outcome is not None and outcome.maybe_billed):
        entry.lose()


class Shard:
    """One open shard. Not thread-safe: while lanes work on it only the event loop touches it.

    `journals` names the file of each lane; a file is made when its lane first has something to record, and files
    that are there are folded at once. They are opened before `part` is read, so that a reader who takes no lock sees
    a shard that is sealed meanwhile either in its journals or in its part.
    """

    def __init__(
        self, index: int, journals: dict[int, Path], part: Path, judge: Judge, room: Room | None = None
    ) -> None:  # fmt: skip
        self.index = index
        self.damage: list[str] = []
        """Where the journals are damaged, in words."""
        self.on_no_space: Callable[[], bool] = lambda: False
        """Called on a full disk; returns whether another try makes sense."""
        self._journals = journals
        self._judge = judge
        self._writing: dict[int, Journal] = {}
        self._reading: dict[int, BinaryIO] = {}
        self._room = room or Room()
        self.kept_bytes = 0
        """What it has taken of the room; to be given back once it is sealed."""
        for lane in sorted(journals):
            with contextlib.suppress(FileNotFoundError):
                self._file(lane)
        self.part = part if part.exists() else None
        self.entries, self.before = read_part(part) if self.part else ({}, Totals())
        """What is known of each key, and the totals of the part."""
        for lane, file in self._reading.items():
            self._fold_file(file, self._journals[lane].name, lane)

    @property
    def has_journals(self) -> bool:
        """Whether anything was recorded that may not be in the part."""
        return bool(self._reading or self._writing)

    def _fold_file(self, file: BinaryIO, name: str, lane: int) -> None:
        for found in read_lines(file):
            if isinstance(found, Damage):
                self.damage.append(f"{name}: {found.length} bytes at {found.offset} are damaged and were skipped")
            else:
                fold(self.entries, found, lane, _outcome(found.event, self._judge))

    def _file(self, lane: int) -> BinaryIO:
        file = self._reading.get(lane)
        if file is None:
            file = self._reading[lane] = open_journal(self._journals[lane])
        return file

    def event(self, place: Place) -> Event:
        """Return the event at a place in a journal."""
        event = decode_line(os.pread(self._file(place.lane).fileno(), place.length, place.offset))
        if event is None:
            raise OSError(f"{self._journals[place.lane]}: the line at {place.offset} can no longer be read")
        return event

    def answer(self, key: Key) -> Heard | None:
        """Return the answer that the journals have to a key, or None; may be called from any thread."""
        entry = self.entries.get(key)
        if entry is None or entry.status != "ok" or entry.result is None:
            return None
        place = entry.result
        # By a file of its own: the sealing thread closes the others, and takes the journals away.
        with contextlib.suppress(FileNotFoundError), open_journal(self._journals[place.lane]) as file:
            event = decode_line(os.pread(file.fileno(), place.length, place.offset))
            return event if isinstance(event, Heard) else None
        return None

    def needs(self, request: Request | Unsendable, *, retry_rejected: bool) -> bool:
        """Return whether a request has work left, and note that the job wants its result."""
        wanted_hash = request_hash(request)
        entry = self.entries.get(request.key)
        if entry is None:
            entry = self.entries[request.key] = Entry()
        entry.wanted = True
        if entry.status == "ok":
            return entry.hash != wanted_hash
        if entry.status == "rejected":
            return entry.hash != wanted_hash or (retry_rejected and wanted_hash != "")
        return True

    def sent(self, lane: int, request: Request, at_ms: int) -> None:
        """Record that a request is about to leave. Raises `NoSpace`; then it must not leave."""
        entry = self.entries[request.key]
        attempt, prompt, most = entry.attempts + 1, request.prompt_tokens, request.max_tokens
        event = Sent(request.row, request.model, request.sample, attempt, request.hash, at_ms, prompt, most)
        self._journal(lane).append(event)
        _fold_sent(entry, attempt, prompt, most)

    def heard(self, lane: int, request: Request, exchange: Exchange) -> Completion | Failure:
        """Record what came back, before anybody looks into it; then return what it is. Raises `NoSpace`."""
        entry = self.entries[request.key]
        exchange = told(exchange, request)
        event = heard(request.key, entry.attempts, request.hash, request.path, exchange)
        place = Place(lane, *self._journal(lane).append(event))
        outcome = self._judge(exchange, request.path)
        _fold_heard(entry, event, place, outcome)
        if isinstance(outcome, Completion) and self._room.left > 0:
            size = len(event.body) + _KEPT_BYTES
            self._room.left -= size
            self.kept_bytes += size
            entry.kept = event, outcome
        return outcome

    def reused(self, lane: int, request: Request, exchange: Exchange, run: str) -> bool:
        """Record an answer that another run has paid for, if it is one. Raises `NoSpace`."""
        exchange = told(exchange, request)
        outcome = self._judge(exchange, request.path)
        if not isinstance(outcome, Completion):
            return False
        event = heard(request.key, 0, request.hash, request.path, exchange)
        event = msgspec.structs.replace(event, reused_from=run)
        place = Place(lane, *self._journal(lane).append(event))
        _fold_heard(self.entries[request.key], event, place, outcome)
        return True

    def ended(self, lane: int, request: Request | Unsendable, status: str, failure: Failure) -> None:
        """Record that a row ended without an answer. Raises `NoSpace`."""
        attempts = self.entries[request.key].attempts
        message = failure.message.encode("utf-8", "replace").decode()
        event = Ended(*request.key, attempts, request_hash(request), status, failure.type, message, failure.code)
        offset, length = self._journal(lane).append(event)
        fold(self.entries, Line(offset, length, event), lane, None)

    def sync(self) -> None:
        """Bring the journals to the disk; may be called from another thread."""
        for journal in list(self._writing.values()):
            journal.sync()

    def close(self, lane: int | None = None) -> None:
        """Close a lane's journal for writing, or all files; what is needed later is opened again."""
        if lane is not None:
            if lane in self._writing:
                self._writing.pop(lane).close()
            return
        for journal in self._writing.values():
            journal.close()
        for file in self._reading.values():
            file.close()
        self._writing, self._reading = {}, {}

    def remove_journals(self) -> None:
        """Take the journals away: all that they hold stands in the part."""
        self.close()
        for path in self._journals.values():
            path.unlink(missing_ok=True)
            folder = path.parent
        sync_folder(folder)

    def _journal(self, lane: int) -> Journal:
        journal = self._writing.get(lane)
        if journal is None:
            journal = self._writing[lane] = Journal(self._journals[lane], self.on_no_space)
        return journal


def request_hash(request: Request | Unsendable) -> str:
    """Return the hash that a result is filed under; empty for a row that can't be asked."""
    return request.hash if isinstance(request, Request) else ""


def told(exchange: Exchange, request: Request) -> Exchange:
    """Return an exchange that says what of its request its answer is judged by."""
    return msgspec.structs.replace(exchange, inputs=request.inputs) if request.inputs else exchange


def _outcome(event: Event, judge: Judge) -> Completion | Failure | None:
    return judge(event.exchange(), event.path) if isinstance(event, Heard) else None
