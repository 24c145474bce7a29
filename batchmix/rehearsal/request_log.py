"""The log of the rehearsal provider: a record of each request with its outcome, and counts by request body."""

from __future__ import annotations

import math
import sys
from collections import Counter

import msgspec

from batchmix.rehearsal.reply_table import REPLY_KINDS

_ANSWERS = frozenset(name for name, kind in REPLY_KINDS.items() if kind.answer)


class RequestRecord(msgspec.Struct, gc=False):
    """A logged request. Times are `time.monotonic()`, which all processes of a machine share."""

    prompt: str
    """The text of the last user message; the whole body if that can't be read."""
    digest: str
    """SHA-256 of the body's bytes."""
    model: str
    """The `model` in the body; empty if it can't be read."""
    attempt: int
    """How many requests with this body have come, including this one."""
    begun: float
    """When the request had been read."""
    finished: float | None = None
    """When the last byte of the reply was passed to the kernel; None if that never happened."""
    status: int | None = None
    """The HTTP status that was sent; None if no reply was."""
    kind: str = ""
    """The kind of reply: a key of `reply_table.REPLY_KINDS`."""
    answered: bool = False
    """Whether a whole answer was sent, after which a client should not send this body again."""


class BodyTally(msgspec.Struct):
    """Counts of the requests with the same body, by outcome."""

    prompt: str
    digest: str
    model: str
    requests: int = msgspec.field(default=0, name="asked")
    """Requests with this body."""
    answered: int = 0
    """Requests that got a whole answer."""
    again: int = 0
    """Requests that came after one of them had got a whole answer."""
    faults: dict[str, int] = {}
    """Requests by kind of reply, for the kinds that are no answer."""


class RequestTotals(msgspec.Struct):
    """Counts of all logged requests, by outcome."""

    requests: int
    bodies: int
    """Different request bodies."""
    answered: int
    """Requests that got a whole answer."""
    again: int
    """Requests whose body had got a whole answer before. With several samples, all but the first may be among them."""
    retries: int
    """Requests whose body had come before without a whole answer."""
    faults: dict[str, int]
    """Requests by kind of reply, for the kinds that are no answer."""


class RequestLog:
    """Keeps the records of all requests, and counts them by body and by kind of reply."""

    def __init__(self) -> None:
        self.records: list[RequestRecord] = []
        self.totals: Counter[str] = Counter()
        """The number of all `requests`, of those `answered`, and of each kind of reply."""
        self._attempts: dict[str, int] = {}
        self._faults: dict[str, int] = {}

    def open(self, prompt: str, digest: str, model: str, begun: float, *, keep: bool) -> RequestRecord:
        """Count a request and return a new record of it. `keep`: the record is also kept here."""
        attempt = self._attempts.get(digest, 0) + 1
        self._attempts[digest] = attempt
        self.totals["requests"] += 1
        record = RequestRecord(prompt, digest, sys.intern(model), attempt, begun)  # a million records, a few models
        if keep:
            self.records.append(record)
        return record

    def close(self, record: RequestRecord, now: float) -> None:
        """Record that the whole reply to a request was passed to the kernel at `now`."""
        record.finished = now
        record.answered = record.status == 200 and record.kind in _ANSWERS
        self.totals["answered"] += record.answered

    def tallies(self) -> list[BodyTally]:
        """Return the counts for each body, in the order in which the bodies first came."""
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
        """Return the counts over all bodies."""
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
        """Return whether the shares of the options have given a body fewer than `most` faults so far."""
        return self._faults.get(digest, 0) < most

    def count_fault(self, digest: str) -> None:
        """Count a fault that the shares of the options gave to a body."""
        self._faults[digest] = self._faults.get(digest, 0) + 1

    def clear(self) -> None:
        """Drop all records and counts."""
        self.records.clear()
        self.totals.clear()
        self._attempts.clear()
        self._faults.clear()
