"""The state of a shard, read from its part and then from the events in its journals.

While a run goes on, `LaneLog` updates the state. Opening the shard again from the disk gives the same state.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec
import pyarrow as pa

from batchmix.answers.typed import INVALID, TypedAnswers
from batchmix.errors import PartDamaged
from batchmix.records import Completion, InvalidAnswer, Key, Outcome, RejectedRow, Request, Status, Usage
from batchmix.responses.classify import Classifier
from batchmix.store.answer_totals import Fared
from batchmix.store.events import Event, JournalHeader, LinePosition, ResponseReceived, RowFailed
from batchmix.store.filesystem import PRIVATE, replace_file, set_mode, sync_folder
from batchmix.store.journal import Journal, encode_line
from batchmix.store.journal_reader import Damage, Line, decode_line, open_journal, read_own_lines
from batchmix.store.parts import read_part_of, row_groups
from batchmix.store.row_state import RowState, apply_event, need_work
from batchmix.store.totals import Totals

_STATUSES = {status.value: status for status in Status}


class JournalSettings(msgspec.Struct, frozen=True):
    """How the journals of a run are written."""

    header: JournalHeader | None = None
    """The first line of each journal, apart from its shard and lane. None if journals get no header."""
    mode: int | None = None
    """The permissions of the journals. None if only the owner has access."""
    on_created: Callable[[int], None] = lambda _: None
    """Called with a shard's number when it gets its first journal."""
    on_no_space: Callable[[], bool] = lambda: False
    """Called when the disk is full. Returns whether it is worth trying again."""


class Shard:
    """An open shard. While lanes work on it, only the event loop uses it. Any thread may call `sync` and `answer`.

    `journals` has the path of each lane's journal. Existing journals are read at once. A new journal is created when
    its lane first has something to record. Journals are opened before `part` is read, so that a reader without a lock
    does not miss answers if the shard is sealed meanwhile.
    """

    def __init__(
        self,
        index: int,
        journals: dict[int, Path],
        part: Path,
        *,
        classifier: Classifier = Classifier(),  # noqa: B008 - it is frozen
        settings: JournalSettings = JournalSettings(),  # noqa: B008 - it is frozen
    ) -> None:
        self.index = index
        self.classifier = classifier
        """Says what the responses in the journals are."""
        self.states: dict[Key, RowState] = {}
        self.part: Path | None = None
        self.part_totals = Totals()
        self.part_damage: list[str] = []
        """Messages about damage in the part. Rows that can't be read have no state."""
        self.damage: list[Damage] = []
        """Damaged places in the journals."""
        self.warnings: list[str] = []
        """Messages about damage in the journals."""
        self.whole_bytes = 0
        """The size of the journals when they were opened, each counted up to its last complete line."""
        self.earlier_usage: dict[str, list[tuple[str | None, Usage]]] = {}
        """For each model, the billed model and the usage of each answer in the journals when they were opened."""
        self._journals = journals
        self._settings = settings
        self._without_header: set[int] = set()
        """Lanes whose journals end with lines of another shard or lane."""
        self._writing: dict[int, Journal] = {}
        self._reading: dict[int, BinaryIO] = {}
        try:
            for lane in sorted(journals):
                with contextlib.suppress(FileNotFoundError):
                    self._file(lane)
            self.has_journals = bool(self._reading)
            """Whether the shard has journals, whose events may not be in the part."""
            self._read_part(part)
            self.adds_to_part = self.has_journals and (self.part is None or bool(self.part_damage))
            """Whether the journals had more, when they were opened, than invalid answers that the part includes."""
            for lane, file in self._reading.items():
                self._read_journal(file, lane)
        except BaseException:
            self.close()
            raise

    @property
    def answers(self) -> int:
        """The number of answers in the shard, including those of the part that no longer fit the job's schema."""
        return sum(state.status is Status.OK or state.is_unfit for state in self.states.values())

    @property
    def possible_answers(self) -> int:
        """The number of keys whose last event is a successful response that this version does not accept as an answer.

        An older version may have accepted it.
        """
        return sum(map(self._may_be_answer, self.states.values()))

    def _may_be_answer(self, state: RowState) -> bool:
        response, result = state.last_response, state.result
        if response is None or state.in_flight or state.status is Status.OK:
            return False
        if result is not None and result.lane == response.lane and result.offset > response.offset:
            return False
        event = self.event(response)
        if not isinstance(event, ResponseReceived) or event.fault or not 200 <= (event.status or 0) < 300:
            return False
        return not isinstance(self.outcome(event), InvalidAnswer)  # a repair follows on it, by any version

    def _read_part(self, part: Path) -> None:
        try:
            self.part_totals = read_part_of(part, self.index)[0].totals
            self.part = part
            self.states = _read_states(part, self.part_damage, self.classifier.typed)
        except FileNotFoundError:
            return
        except PartDamaged as error:
            self.part_damage.append(error.damage)

    def _read_journal(self, file: BinaryIO, lane: int) -> None:
        end = 0
        entry: Line | Damage | None = None
        for entry in read_own_lines(file, self.index, lane):
            if isinstance(entry, Damage):
                self.adds_to_part = True
                self.damage.append(entry)
                self.warnings.append(entry.message(self._journals[lane].name))
            elif not isinstance(entry.event, JournalHeader):
                end = entry.offset + entry.length
                self._apply(entry.event, LinePosition(lane, entry.offset, entry.length))
        self.whole_bytes += end
        if isinstance(entry, Damage):
            self._without_header.add(lane)

    def _apply(self, event: Event, position: LinePosition) -> None:
        state, outcome = self.states.get(event.key), None
        if isinstance(event, ResponseReceived):
            outcome = self.outcome(event)
        else:
            self.adds_to_part = True
        self.adds_to_part |= state is None or event.attempt > state.attempts or not event.attempt
        apply_event(self.states, event, position, outcome)
        if isinstance(event, ResponseReceived) and isinstance(outcome, Completion) and not event.reused_from:
            self.earlier_usage.setdefault(event.model, []).append((event.served_model, outcome.usage))

    def _file(self, lane: int) -> BinaryIO:
        file = self._reading.get(lane)
        if file is None:
            file = self._reading[lane] = open_journal(self._journals[lane])
        return file

    def event(self, position: LinePosition) -> Event:
        """Return the event at a position in a journal."""
        event = decode_line(os.pread(self._file(position.lane).fileno(), position.length, position.offset))
        if event is None or isinstance(event, JournalHeader):
            raise OSError(f"{self._journals[position.lane]}: the line at {position.offset} can no longer be read")
        return event

    def outcome(self, event: ResponseReceived) -> Outcome:
        """Classify a response in the journals by the rules of this version."""
        return self.classifier.outcome(event.exchange(), event.path)

    def answer(self, key: Key) -> tuple[ResponseReceived, bool] | None:
        """Return the answer to a key in the journals, and whether it is kept although it does not fit the schema.

        None if there is none. Any thread may call this.
        """
        state = self.states.get(key)
        if state is None or state.status is not Status.OK or state.result is None:
            return None
        result, shown = self._reread(state.result), state.shown_response
        is_kept = isinstance(result, RowFailed)
        event = self._reread(shown) if is_kept and shown else result
        return (event, is_kept) if isinstance(event, ResponseReceived) else None

    def _reread(self, position: LinePosition) -> Event | JournalHeader | None:
        # The journal is opened once more, because the sealing thread closes the other file and removes the journals.
        with contextlib.suppress(FileNotFoundError), open_journal(self._journals[position.lane]) as file:
            return decode_line(os.pread(file.fileno(), position.length, position.offset))
        return None

    def need_work(self, requests: Sequence[Request | RejectedRow], *, retry_rejected: bool) -> list[bool]:
        """Return for each request whether it has work left, and mark its result as part of the job."""
        return need_work(self.states, requests, retry_rejected=retry_rejected)

    def sync(self) -> None:
        """Flush the journals to the disk. Any thread may call this."""
        for journal in list(self._writing.values()):
            journal.sync()

    def close(self, lane: int | None = None) -> None:
        """Stop writing a lane's journal, or close all files if `lane` is None. Files needed later are opened again."""
        if lane is not None:
            if lane in self._writing:
                self._writing.pop(lane).close()
            return
        for journal in self._writing.values():
            journal.close()
        for file in self._reading.values():
            file.close()
        self._writing, self._reading = {}, {}

    @property
    def unfinished_turns(self) -> list[LinePosition]:
        """The positions of the answers that a part can't hold: on each, a request follows in a later start."""
        chained = [state for state in self.states.values() if state.chain and state.wanted]
        return [turn.position for state in chained for turn in state.unfinished_turns]

    def remove_journals(self) -> None:
        """Remove the journals, whose events are all in the part. Only the lines of `unfinished_turns` stay."""
        lines: dict[int, list[bytes]] = {}
        for position in self.unfinished_turns:
            lines.setdefault(position.lane, []).append(encode_line(self.event(position)))
        self.close()
        for lane, path in self._journals.items():
            if lane in lines:
                header, mode = self._header(lane), self._settings.mode
                kept = [encode_line(header), *lines[lane]] if header else lines[lane]
                replace_file(path, b"".join(kept), PRIVATE if mode is None else mode)
            else:
                path.unlink(missing_ok=True)
        sync_folder(next(iter(self._journals.values())).parent)

    def _header(self, lane: int) -> JournalHeader | None:
        header = self._settings.header
        return header and msgspec.structs.replace(header, shard=self.index, lane=lane)

    def open_for_writing(self, lane: int) -> Journal:
        """Return the journal of a lane, and create it if it is missing. Raises `NoSpace` and `DiskError`."""
        settings = self._settings
        journal = self._writing.get(lane)
        if journal is None:
            journal = self._writing[lane] = Journal(self._journals[lane], settings.on_no_space)
            set_mode(journal.path, settings.mode)
        if (journal.is_new or lane in self._without_header) and (header := self._header(lane)):
            journal.append(header)
            self._without_header.discard(lane)
        if not self.has_journals:
            settings.on_created(self.index)
            self.has_journals = True
        return journal


def _read_states(part: Path, damage: list[str], typed: TypedAnswers | None) -> dict[Key, RowState]:
    """Return the states of a part's rows. Answers are checked once more, because the job's schema may have changed.

    All columns are read, because a row can be copied to a new part only if all of its columns are undamaged.
    """
    columns = ["row", "model", "sample", "status", "request_hash", "attempts", "maybe_billed"]
    states: dict[Key, RowState] = {}
    for group in row_groups(part, None, damage):
        rows = zip(*(group.column(name).to_pylist() for name in columns), _fared(group), strict=True)
        for row, model, sample, status, hash_, attempts, maybe_billed, fared in rows:
            states[row, model, sample] = RowState(
                _STATUSES.get(status), hash_, attempts=attempts, maybe_billed=maybe_billed, fared=fared
            )
        for key, bill in _unfit(group, typed) if typed else ():
            states[key].becomes_unfit(bill)
    return states


def _fared(group: pa.Table) -> list[Fared | None]:
    """Return how the answer of each row fared in the check by the job's schema."""
    if "repairs" not in group.schema.names:
        return [None] * len(group)
    rows = zip(*(group.column(name).to_pylist() for name in ("healed", "repairs", "error_type")), strict=True)
    return [Fared.of(healed=healed, repairs=repairs, error_type=error_type) for healed, repairs, error_type in rows]


def _unfit(group: pa.Table, typed: TypedAnswers) -> Iterator[tuple[Key, tuple[str | None, Usage] | None]]:
    """Yield the keys of the answers that do not fit the job's schema, with the billed model and the usage of each.

    There is no bill if the answer was reused. Answers that are kept although they do not fit are left out.
    """
    names = ("row", "model", "sample", "status", "error_type", "response", "tool_calls")
    rows = zip(*(group.column(name).to_pylist() for name in names), strict=True)
    for at, (row, model, sample, status, error_type, response, tool_calls) in enumerate(rows):
        if status == Status.OK and error_type != INVALID and not typed.fits(response, tool_calls):
            found = group.slice(at, 1).to_pylist()[0]
            usage = Usage(**{name: found[name] for name in Usage.__struct_fields__ if name in found})
            is_own = found["reused_from"] is None and None not in (usage.prompt_tokens, usage.completion_tokens)
            yield (row, model, sample), (found["served_model"], usage) if is_own else None
