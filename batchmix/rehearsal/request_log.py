"""The rehearsal provider's log: every request with its outcome, and totals by request body."""

from __future__ import annotations

import math
import sys
from collections import Counter

import msgspec

from batchmix.rehearsal.reply_table import REPLY_KINDS

_ANSWERS = frozenset(name for name, kind in REPLY_KINDS.items() if kind.answer)


class RequestRecord(msgspec.Struct, gc=False):
    """One request. Times are `time.monotonic()`, which all processes of a machine share."""

    prompt: str
    """The last user message's text; the body where there is none."""
    digest: str
    """SHA-256 of the body's bytes."""
    model: str
    """The body's `model`; empty where it can't be read."""
    attempt: int
    """How often this body has come, this time included; from 1."""
    begun: float
    """When it had been read."""
    finished: float | None = None
    """When the kernel had the last byte of the reply; None if that never happened."""
    status: int | None = None
    """The status that was sent; None if none was."""
    kind: str = ""
    """`answer`, or another name in `reply_table.REPLY_KINDS`."""
    answered: bool = False
    """Whether a whole answer was sent, so that a client should not send the request again."""


class BodyTally(msgspec.Struct):
    """The requests with one body, counted by outcome."""

    prompt: str
    digest: str
    model: str
    requests: int = msgspec.field(default=0, name="asked")
    """How often it came."""
    answered: int = 0
    """How often it got a whole answer."""
    again: int = 0
    """How often it came although it had got a whole answer before."""
    faults: dict[str, int] = {}
    """How often it got each kind that is no answer."""


class RequestTotals(msgspec.Struct):
    """All logged requests, counted by outcome."""

    requests: int
    bodies: int
    """How many different ones."""
    answered: int
    """How many requests got a whole answer."""
    again: int
    """How many came although their body had got a whole answer before. With several samples, all but the first may."""
    retries: int
    """How many came although their body had come before, without having got a whole answer."""
    faults: dict[str, int]
    """How many got each kind that is no answer."""


class RequestLog:
    """The records of all requests, their totals, and how often each body came."""

    def __init__(self) -> None:
        self.records: list[RequestRecord] = []
        self.totals: Counter[str] = Counter()
        """The numbers of `requests`, of those `answered`, and of each kind."""
        self._attempts: dict[str, int] = {}
        self._faults: dict[str, int] = {}

    def open(self, prompt: str, digest: str, model: str, begun: float, *, keep: bool) -> RequestRecord:
        """Count a request and return its record; `keep` stores it here."""
        attempt = self._attempts.get(digest, 0) + 1
        self._attempts[digest] = attempt
        self.totals["requests"] += 1
        record = RequestRecord(prompt, digest, sys.intern(model), attempt, begun)  # a million records, a few models
        if keep:
            self.records.append(record)
        return record

    def close(self, record: RequestRecord, now: float) -> None:
        """Record that the kernel has the whole reply to a request."""
        record.finished = now
        record.answered = record.status == 200 and record.kind in _ANSWERS
        self.totals["answered"] += record.answered

    def tallies(self) -> list[BodyTally]:
        """Return a tally for each body, in the order in which they first came."""
        found: dict[str, BodyTally] = {}
        answered_at: dict[str, float] = {}
        for record in self.records:
            digest = record.digest
            tally = found.get(digest) or found.setdefault(digest, BodyTally(record.prompt, digest, record.model))
            tally.requests += 1
            tally.again += record.begun > answered_at.get(digest, math.inf)
            if record.answered and record.finished is not None:
                tally.answered += 1
                answered_at[digest] = min(record.finished, answered_at.get(digest, math.inf))
            elif record.kind not in _ANSWERS:
                tally.faults[record.kind] = tally.faults.get(record.kind, 0) + 1
        return list(found.values())

    def account(self) -> RequestTotals:
        """Return the sum of the tallies."""
        tallies = self.tallies()
        faults: Counter[str] = Counter()
        for tally in tallies:
            faults.update(tally.faults)
        again = sum(tally.again for tally in tallies)
        return RequestTotals(
            requests=len(self.records),
            bodies=len(tallies),
            answered=sum(tally.answered for tally in tallies),
            again=again,
            retries=len(self.records) - len(tallies) - again,
            faults=dict(faults),
        )

    def may_fault(self, digest: str, most: int) -> bool:
        """Return whether a body has had fewer than `most` faults by shares."""
        return self._faults.get(digest, 0) < most

    def count_fault(self, digest: str) -> None:
        """Count a fault by shares."""
        self._faults[digest] = self._faults.get(digest, 0) + 1

    def clear(self) -> None:
        """Drop all records and counts."""
        self.records.clear()
        self.totals.clear()
        self._attempts.clear()
        self._faults.clear()
