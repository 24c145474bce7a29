"""What the stand-in decides: from a request to its reply, with no network in it."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import time

from batchmix.rehearsal import answers
from batchmix.rehearsal.asking import Asked, read
from batchmix.rehearsal.behaviour import Behaviour
from batchmix.rehearsal.kinds import KINDS, Kind
from batchmix.rehearsal.ledger import Ledger, Record
from batchmix.rehearsal.limits import Limits

JSON = "application/json"
EVENTS = "text/event-stream"


@dataclasses.dataclass(slots=True)
class Reply:
    """What goes over the wire."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: list[tuple[str, str]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(slots=True)
class Turn:
    """One request, and what is to become of it."""

    record: Record
    kind: Kind
    asked: Asked | None
    key: str
    detail: str
    """What the error's message adds."""
    wait_s: float
    """How long a throttled client is told to wait."""
    delay_s: float
    """How long the reply takes."""


class Provider:
    """Everything that the stand-in knows: its behaviour, its limits and its ledger."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.ledger = Ledger()
        self.in_flight = 0
        """Requests that have been read and not replied to; whoever serves counts them."""
        self.behave(behaviour)

    def behave(self, behaviour: Behaviour) -> None:
        """Take on a behaviour, with its limits full and all its balance there."""
        self.behaviour = behaviour
        self.limits = Limits(behaviour, time.monotonic())
        self._sold = 0

    def reset(self) -> None:
        """Be as at the start, with the behaviour of now."""
        self.ledger.clear()
        self.behave(self.behaviour)

    def turn(self, endpoint: str, raw: bytes, key: str) -> Turn:
        """Decide what becomes of a request, and write it down."""
        now = time.monotonic()
        found = read(endpoint, raw)
        asked, detail = (found, "") if isinstance(found, Asked) else (None, found)
        prompt = asked.prompt if asked else raw.decode("utf-8", "replace")
        digest = hashlib.sha256(raw).hexdigest()
        record = self.ledger.open(prompt, digest, asked.model if asked else "", now, keep=self.behaviour.ledger)
        turn = Turn(record, KINDS["malformed"], asked, key, detail, 1.0, 0.0)
        record.kind = self._refused(turn, now) or self._fate(turn)
        turn.kind = KINDS[record.kind]
        self.ledger.totals[record.kind] += 1
        self._sold += turn.kind.how == "answer"
        if turn.kind.late:
            turn.delay_s = self.behaviour.latency_s(digest, record.attempt)
        return turn

    def _refused(self, turn: Turn, now: float) -> str | None:
        """Return why a request is not let in, or None."""
        behaviour, asked = self.behaviour, turn.asked
        if behaviour.key and turn.key != behaviour.key:
            return "401"
        if asked is None:
            return "malformed"
        if behaviour.models and asked.model not in behaviour.models:
            turn.detail = asked.model
            return "unknown_model"
        if 0 <= behaviour.balance <= self._sold:
            return "403"
        if behaviour.concurrency and self.in_flight >= behaviour.concurrency:
            return "busy"
        wait_s = self.limits.admit(answers.charge(asked, behaviour) if behaviour.tpm else 0, now)
        if wait_s:
            turn.wait_s = wait_s
            return "throttled"
        return None

    def _fate(self, turn: Turn) -> str:
        """Return the kind that markers and shares give to a request that was let in."""
        behaviour, record, asked = self.behaviour, turn.record, turn.asked
        marked = behaviour.marked(record.prompt, record.attempt)
        if marked is not None:
            turn.detail = f"The rehearsal has no kind {marked!r}; it has {', '.join(KINDS)}"
            return marked if marked in KINDS else "unknown_marker"
        if behaviour.reject and asked and behaviour.draw(asked.canonical, "reject") < behaviour.reject:
            return "reject"
        drawn = behaviour.drawn(record.digest, record.attempt)
        if drawn is None or not self.ledger.may_fault(record.digest, behaviour.max_faults):
            return "answer"
        self.ledger.fault(record.digest)
        return drawn

    def reply(self, turn: Turn) -> Reply:
        """Return the reply to a request; for one that is to be cut, the whole of it."""
        kind = turn.kind
        if kind.how in {"page", "empty"}:
            return Reply(200, answers.WEB_PAGE if kind.how == "page" else b"", "text/html")
        tid = answers.trace_id()
        headers = [("x-aihubmix-request-id", tid)]
        if self.behaviour.rate_headers:
            headers += self.limits.headers(time.monotonic())
        if kind.how == "error":
            return self._error(turn, headers, tid)
        assert turn.asked is not None  # whatever can't be read is an error
        headers.append(("X-Aihubmix-Model", turn.asked.model))
        name = turn.record.kind if kind.how == "answer" else "answer"
        body = answers.answer(turn.asked, self.behaviour, name, tid)
        return Reply(200, body, EVENTS if turn.asked.stream else JSON, headers)

    def _error(self, turn: Turn, headers: list[tuple[str, str]], tid: str) -> Reply:
        kind = turn.kind
        status = kind.status or 500
        if status == 429 and self.behaviour.rate_headers:
            headers.append(("Retry-After", str(math.ceil(turn.wait_s))))
            headers.append(("retry-after-ms", str(math.ceil(turn.wait_s * 1000))))
        message = kind.message.replace("{key}", turn.key).replace("{detail}", turn.detail or "as asked")
        return Reply(status, answers.error(message, kind.type, kind.code, tid), headers=headers)
