"""A shard's state: the fold of its part, then its journals.

The fold is the same while a run goes on (`Shard.sent`, `heard`, `ended`) and when it is opened again from the disk.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import msgspec

from batchmix.errors import PartDamaged
from batchmix.records import Completion, Exchange, Failure, Key, RejectedRow, Request, Usage
from batchmix.redact import Secrets
from batchmix.responses.classify import classify
from batchmix.store.events import Begun, Ended, Event, Heard, Sent, decode_line, heard
from batchmix.store.filesystem import set_mode, sync_folder
from batchmix.store.fold import Entry, Place, fold, fold_heard, fold_sent
from batchmix.store.journal import Damage, Journal, Line, open_journal, read_own_lines
from batchmix.store.parts import check_place, whole_groups
from batchmix.store.totals import Totals

_KEPT_BYTES = 700
"""What an answer takes in memory besides its text."""


class Room:
    """Memory for answers that shards keep until they are sealed: to read one again costs as much as all the rest."""

    def __init__(self) -> None:
        self.left = 0
        """In bytes."""


def _read_entries(part: Path, damage: list[str]) -> dict[Key, Entry]:
    """Return what a part knows of each key; all of a row must be whole, since it may be written again."""
    columns = ["row", "model", "sample", "status", "request_hash", "attempts", "maybe_billed"]
    entries: dict[Key, Entry] = {}
    for group in whole_groups(part, None, damage):
        rows = zip(*(group.column(name).to_pylist() for name in columns), strict=True)
        for row, model, sample, status, hash_, attempts, maybe_billed in rows:
            entries[row, model, sample] = Entry(status, hash_, attempts=attempts, unheard=maybe_billed)
    return entries


class Shard:
    """One open shard. Not thread-safe: while lanes work on it only the event loop touches it.

    `journals` names the file of each lane; a file is made when its lane first has something to record, and files
    that are there are folded at once. They are opened before `part` is read, so that a reader who takes no lock sees
    a shard that is sealed meanwhile either in its journals or in its part.
    """

    def __init__(
        self,
        index: int,
        journals: dict[int, Path],
        part: Path,
        *,
        secrets: Secrets | None = None,
        room: Room | None = None,
    ) -> None:
        self.index = index
        self.damage: list[str] = []
        """Where the journals are damaged, in words."""
        self.part_damage: list[str] = []
        """Where the part is damaged, in words; its rows that can't be read are not known of."""
        self.holes: list[Damage] = []
        """Where the journals are damaged."""
        self.whole_bytes = 0
        """Of the journals when they were opened, to the end of the last whole line of each."""
        self.origin: Begun | None = None
        """What the journals say of themselves, whatever their shard and lane."""
        self.on_begun: Callable[[int], None] = lambda _: None
        """Called with the shard's number when a journal was made where there was none."""
        self.mode: int | None = None
        """The permissions of journals; None: they are for their owner only."""
        self.on_no_space: Callable[[], bool] = lambda: False
        """Called on a full disk; returns whether another try makes sense."""
        self._journals = journals
        self._secrets = secrets
        self._others: set[int] = set()
        """Lanes whose journals end with what is another's."""
        self._writing: dict[int, Journal] = {}
        self._reading: dict[int, BinaryIO] = {}
        self._room = room or Room()
        self.kept_bytes = 0
        """What it has taken of the room; to be given back once it is sealed."""
        for lane in sorted(journals):
            with contextlib.suppress(FileNotFoundError):
                self._file(lane)
        self.part: Path | None = None
        self.entries: dict[Key, Entry] = {}
        """What is known of each key."""
        self.before = Totals()
        """Of the part."""
        self.found: dict[str, list[tuple[str | None, Usage]]] = {}
        """Of answers in the journals when they were opened, by model: the billed model, and the usage."""
        self._read_part(part)
        for lane, file in self._reading.items():
            self._fold_file(file, self._journals[lane].name, lane)

    @property
    def has_journals(self) -> bool:
        """Whether anything was recorded that may not be in the part."""
        return bool(self._reading or self._writing)

    @property
    def answers(self) -> int:
        """How many there are."""
        return sum(entry.status == "ok" for entry in self.entries.values())

    @property
    def doubtful(self) -> int:
        """How many keys have a 200 for their last event that is no answer; another version may have accepted it."""
        return sum(map(self._is_doubtful, self.entries.values()))

    def _is_doubtful(self, entry: Entry) -> bool:
        heard, result = entry.last_heard, entry.result
        if heard is None or entry.in_flight or entry.status == "ok":
            return False
        if result is not None and result.lane == heard.lane and result.offset > heard.offset:
            return False
        event = self.event(heard)
        return isinstance(event, Heard) and event.fault is None and 200 <= (event.status or 0) < 300

    def _read_part(self, part: Path) -> None:
        try:
            self.before = check_place(part, self.index)[0].totals
            self.part = part
            self.entries = _read_entries(part, self.part_damage)
        except FileNotFoundError:
            return
        except PartDamaged as error:
            self.part_damage.append(error.damage)

    def _fold_file(self, file: BinaryIO, name: str, lane: int) -> None:
        end = 0
        found: Line | Damage | None = None
        for found in read_own_lines(file, self.index, lane):
            if isinstance(found, Damage):
                self.holes.append(found)
                self.damage.append(found.words(name))
            elif not isinstance(found.event, Begun):
                end = found.offset + found.length
                place = Place(lane, found.offset, found.length)
                outcome = self.outcome(found.event) if isinstance(found.event, Heard) else None
                fold(self.entries, found.event, place, outcome)
                if isinstance(found.event, Heard) and isinstance(outcome, Completion) and not found.event.reused_from:
                    paid = found.event.served_model, outcome.usage
                    self.found.setdefault(found.event.model, []).append(paid)
        self.whole_bytes += end
        if isinstance(found, Damage):
            self._others.add(lane)

    def _file(self, lane: int) -> BinaryIO:
        file = self._reading.get(lane)
        if file is None:
            file = self._reading[lane] = open_journal(self._journals[lane])
        return file

    def event(self, place: Place) -> Event:
        """Return the event at a place in a journal."""
        event = decode_line(os.pread(self._file(place.lane).fileno(), place.length, place.offset))
        if event is None or isinstance(event, Begun):
            raise OSError(f"{self._journals[place.lane]}: the line at {place.offset} can no longer be read")
        return event

    def outcome(self, event: Heard) -> Completion | Failure:
        """Return what came of an exchange in the journals, as it is classified now."""
        return classify(event.exchange(), event.path, self._secrets)

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

    def needs(self, request: Request | RejectedRow, *, retry_rejected: bool) -> bool:
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
        fold_sent(entry, attempt, prompt, most)

    def heard(self, lane: int, request: Request, exchange: Exchange) -> Completion | Failure:
        """Record what came back, before anybody looks into it; then return what it is. Raises `NoSpace`."""
        entry = self.entries[request.key]
        exchange = told(exchange, request)
        event = heard(request.key, entry.attempts, request.hash, request.path, exchange)
        place = Place(lane, *self._journal(lane).append(event))
        outcome = classify(exchange, request.path, self._secrets)
        fold_heard(entry, event, place, outcome)
        if isinstance(outcome, Completion) and self._room.left > 0:
            size = len(event.body) + _KEPT_BYTES
            self._room.left -= size
            self.kept_bytes += size
            entry.kept = event, outcome
        return outcome

    def reused(self, lane: int, request: Request, exchange: Exchange, run: str) -> bool:
        """Record an answer that another run has paid for, if it is one. Raises `NoSpace`."""
        exchange = told(exchange, request)
        outcome = classify(exchange, request.path, self._secrets)
        if not isinstance(outcome, Completion):
            return False
        event = heard(request.key, 0, request.hash, request.path, exchange)
        event = msgspec.structs.replace(event, reused_from=run)
        place = Place(lane, *self._journal(lane).append(event))
        fold_heard(self.entries[request.key], event, place, outcome)
        return True

    def ended(self, lane: int, request: Request | RejectedRow, status: str, failure: Failure) -> None:
        """Record that a row ended without an answer. Raises `NoSpace`."""
        attempts = self.entries[request.key].attempts
        message = failure.message.encode("utf-8", "replace").decode()
        event = Ended(*request.key, attempts, request_hash(request), status, failure.type, message, failure.code)
        fold(self.entries, event, Place(lane, *self._journal(lane).append(event)), None)

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
            first = not self.has_journals
            journal = self._writing[lane] = Journal(self._journals[lane], self.on_no_space)
            set_mode(journal.path, self.mode)
            if self.origin and (journal.is_new or lane in self._others):
                journal.append(msgspec.structs.replace(self.origin, shard=self.index, lane=lane))
                self._others.discard(lane)
            if first:
                self.on_begun(self.index)
        return journal


def request_hash(request: Request | RejectedRow) -> str:
    """Return the hash that a result is filed under; empty for a row that can't be asked."""
    return request.hash if isinstance(request, Request) else ""


def told(exchange: Exchange, request: Request) -> Exchange:
    """Return an exchange that says what of its request its answer is classified by."""
    return msgspec.structs.replace(exchange, inputs=request.inputs) if request.inputs else exchange
