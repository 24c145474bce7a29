"""The log of the rehearsal provider: a record of each request and its outcome, and counts by request body."""

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
    """The text of the last user message, or the whole body if it is invalid."""
    digest: str
    """SHA-256 of the body's bytes."""
    model: str
    """The `model` in the body. Empty if the body is invalid."""
    attempt: int
    """The number of this request among those with the same body, from 1."""
    begun: float
    """When the request had been read."""
    finished: float | None = None
    """When the last byte of the reply was passed to the kernel. None if that never happened."""
    status: int | None = None
    """The HTTP status that was sent. None if no reply was sent."""
    kind: str = ""
    """The kind of reply: a key of `reply_table.REPLY_KINDS`."""
    answered: bool = False
    """Whether a whole answer was sent. The client should not send this body again then."""
    turns: int = 1
    """The number of the user's messages in the request. One that asks for a repair has one more than the first."""
    opening: str = ""
    """The text of the first of them, which shows the row of a repair. Empty if there is only one."""
    asked: str = ""
    """How the request asks for a schema: a value of `asked_schema.SchemaWay`. Empty if it asks for none."""
    max_tokens: int | None = None
    """The bound of the answer. None if the request has none."""


class BodyTally(msgspec.Struct):
    """Counts of the requests with the same body, by outcome."""

    prompt: str
    digest: str
    model: str
    requests: int = msgspec.field(default=0, name="asked")
    """The number of requests with this body."""
    answered: int = 0
    """The number of them that got a whole answer."""
    again: int = 0
    """The number of them that arrived after a whole answer had been sent to an earlier one."""
    faults: dict[str, int] = {}
    """The number of requests by kind of reply, for kinds that are not answers."""


class RequestTotals(msgspec.Struct):
    """Counts of all logged requests, by outcome."""

    requests: int
    bodies: int
    """The number of different request bodies."""
    answered: int
    """The number of requests that got a whole answer."""
    again: int
    """The number of requests that arrived after a whole answer to the same body. Further samples of a row count too."""
    retries: int
    """The number of requests whose body had arrived before, but had no whole answer yet."""
    faults: dict[str, int]
    """The number of requests by kind of reply, for kinds that are not answers."""


class RequestLog:
    """Keeps the records of all requests, and counts them by body and by kind of reply."""

    def __init__(self) -> None:
        self.records: list[RequestRecord] = []
        self.totals: Counter[str] = Counter()
        """The number of all `requests`, of those `answered`, and of each kind of reply."""
        self._attempts: dict[str, int] = {}
        self._faults: dict[str, int] = {}

    def open(self, prompt: str, digest: str, model: str, begun: float, *, keep: bool) -> RequestRecord:
        """Count a request and return a new record of it. `keep` says whether the record is added to `records`."""
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
        """Return the counts for each body, in the order in which the bodies first arrived."""
        tallies: dict[str, BodyTally] = {}
        answered_at: dict[str, float] = {}
        for record in self.records:
            digest = record.digest
            tally = tallies.get(digest) or tallies.setdefault(digest, BodyTally(record.prompt, digest, record.model))
            tally.requests += 1
            tally.again += record.begun > answered_at.get(digest, math.inf)
            if record.answered and record.finished is not None:
                tally.answered += 1
                answered_at[digest] = min(record.finished, answered_at.get(digest, math.inf))
            elif record.kind not in _ANSWERS:
                tally.faults[record.kind] = tally.faults.get(record.kind, 0) + 1
        return list(tallies.values())

    def account(self) -> RequestTotals:
        """Return the counts of all requests."""
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

    def may_fault(self, digest: str, max_faults: int) -> bool:
        """Return whether the shares have given fewer than `max_faults` temporary faults to a body so far."""
        return self._faults.get(digest, 0) < max_faults

    def count_fault(self, digest: str) -> None:
        """Count a temporary fault that the shares gave to a body."""
        self._faults[digest] = self._faults.get(digest, 0) + 1

    def clear(self) -> None:
        """Drop all records and counts."""
        self.records.clear()
        self.totals.clear()
        self._attempts.clear()
        self._faults.clear()
