"""What is known of each (row, model, sample) of a shard, and how one more event changes that.

Folding twice changes nothing, and an answer is never replaced by a non-answer of the same request hash.
"""

from __future__ import annotations

import msgspec

from batchmix.records import UNKNOWN_COMPLETION, Completion, Failure, Key, Tokens, Usage
from batchmix.store.events import Event, Heard, Sent
from batchmix.store.totals import Untold


class Place(msgspec.Struct, frozen=True, gc=False):
    """Where an event's line stands."""

    lane: int
    offset: int
    length: int


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


def fold(entries: dict[Key, Entry], event: Event, place: Place, outcome: Completion | Failure | None) -> None:
    """Fold one event, whose line stands at `place`, into the entries; `outcome` says what a `Heard` is."""
    entry = entries.get(event.key)
    if entry is None:
        entry = entries[event.key] = Entry()
    if isinstance(event, Sent):
        fold_sent(entry, event.attempt, event.prompt, event.most)
    elif isinstance(event, Heard):
        fold_heard(entry, event, place, outcome)
    elif not (entry.status == "ok" and entry.hash == event.hash):
        entry.status, entry.hash, entry.kept = event.status, event.hash, None
        entry.result = place


def fold_sent(entry: Entry, attempt: int, prompt: int, most: int | None) -> None:
    """Fold that an attempt is about to leave, with the estimates of its tokens."""
    if attempt <= entry.attempts:  # folded before, in the part
        return
    if entry.in_flight:
        entry.lose()
    entry.in_flight = entry.attempts = attempt
    entry.prompt, entry.most = prompt, most


def fold_heard(entry: Entry, event: Heard, place: Place, outcome: Completion | Failure | None) -> None:
    """Fold what was heard of an attempt."""
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
