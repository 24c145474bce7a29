"""What the stand-in writes down."""

from __future__ import annotations

import math
import sys
from collections import Counter

import msgspec

from batchmix.rehearsal.reply_table import KINDS

_ANSWERS = frozenset(name for name, kind in KINDS.items() if kind.answer)


class Record(msgspec.Struct, gc=False):
    """One request. Times are `time.monotonic()`, which all processes of a machine share."""

    prompt: str
    """The last user message's text; the body where there is none."""
    digest: str
    """SHA-256 of the body's bytes."""
    model: str
    """As the body names it; empty where it can't be read."""
    attempt: int
    """How often this body has come, with this time, from 1."""
    begun: float
    """When it had been read."""
    finished: float | None = None
    """When the last byte of the reply was with the kernel; None if that never happened."""
    status: int | None = None
    """The status that was sent; None if none was."""
    kind: str = ""
    """`answer`, or another name in `kinds.KINDS`."""
    answered: bool = False
    """A whole answer was sent, which should not be asked for again."""


class Tally(msgspec.Struct):
    """What became of one body."""

    prompt: str
    digest: str
    model: str
    asked: int = 0
    """How often it came."""
    answered: int = 0
    """How often it was answered whole."""
    again: int = 0
    """How often it came although it had been answered whole before."""
    faults: dict[str, int] = {}
    """How often it got a kind that is no answer."""


class Account(msgspec.Struct):
    """What became of all requests that were written down."""

    requests: int
    bodies: int
    """How many different ones."""
    answered: int
    """How many requests were answered whole."""
    again: int
    """How many came although their body had been answered whole before. Of samples, all but the first may."""
    retries: int
    """How many came although their body had come before, and had not been answered whole."""
    faults: dict[str, int]
    """How many got a kind that is no answer."""


class Ledger:
    """The records of all requests, their totals, and how often each body came."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.totals: Counter[str] = Counter()
        """Requests, how many were answered, and how many there were of each kind."""
        self._attempts: dict[str, int] = {}
        self._faults: dict[str, int] = {}

    def open(self, prompt: str, digest: str, model: str, begun: float, *, keep: bool) -> Record:
        """Count a request and return its record, which stays here if it is to be kept."""
        attempt = self._attempts.get(digest, 0) + 1
        self._attempts[digest] = attempt
        self.totals["requests"] += 1
        record = Record(prompt, digest, sys.intern(model), attempt, begun)  # a million records, a few models
        if keep:
            self.records.append(record)
        return record

    def close(self, record: Record, now: float) -> None:
        """Note that the whole reply to a request is with the kernel."""
        record.finished = now
        record.answered = record.status == 200 and record.kind in _ANSWERS
        self.totals["answered"] += record.answered

    def tallies(self) -> list[Tally]:
        """Return what became of each body, in the order in which they first came."""
        found: dict[str, Tally] = {}
        answered_at: dict[str, float] = {}
        for record in self.records:
            digest = record.digest
            tally = found.get(digest) or found.setdefault(digest, Tally(record.prompt, digest, record.model))
            tally.asked += 1
            tally.again += record.begun > answered_at.get(digest, math.inf)
            if record.answered and record.finished is not None:
                tally.answered += 1
                answered_at[digest] = min(record.finished, answered_at.get(digest, math.inf))
            elif record.kind not in _ANSWERS:
                tally.faults[record.kind] = tally.faults.get(record.kind, 0) + 1
        return list(found.values())

    def account(self) -> Account:
        """Return the sum of the tallies."""
        tallies = self.tallies()
        faults: Counter[str] = Counter()
        for tally in tallies:
            faults.update(tally.faults)
        again = sum(tally.again for tally in tallies)
        return Account(
            requests=len(self.records),
            bodies=len(tallies),
            answered=sum(tally.answered for tally in tallies),
            again=again,
            retries=len(self.records) - len(tallies) - again,
            faults=dict(faults),
        )

    def may_fault(self, digest: str, most: int) -> bool:
        """Return whether a body has had fewer than the most faults by shares."""
        return self._faults.get(digest, 0) < most

    def fault(self, digest: str) -> None:
        """Count a fault by shares."""
        self._faults[digest] = self._faults.get(digest, 0) + 1

    def clear(self) -> None:
        """Forget all."""
        self.records.clear()
        self.totals.clear()
        self._attempts.clear()
        self._faults.clear()
