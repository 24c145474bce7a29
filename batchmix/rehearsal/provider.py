"""What the stand-in decides: from a request to its reply, with no network in it."""

from __future__ import annotations

import dataclasses
import email.utils
import hashlib
import math
import time
from collections.abc import Iterator

import msgspec

from batchmix.rehearsal import bodies, streams
from batchmix.rehearsal.behaviour import REFUSED, Behaviour
from batchmix.rehearsal.credit import Credit
from batchmix.rehearsal.limits import Limits
from batchmix.rehearsal.reply_kind import Error, Kind, Retry, Wire
from batchmix.rehearsal.reply_table import KINDS
from batchmix.rehearsal.request import Asked, Json, read
from batchmix.rehearsal.request_log import Ledger, Record
from batchmix.rehearsal.wire import Reply

_PIECE = b"river stone quiet amber window north garden signal " * 1000
_PLAIN = KINDS["answer"]
_encode = msgspec.json.Encoder().encode


class Gate:
    """How requests are let in: one for each model with a behaviour of its own, and one for all others."""

    def __init__(self, behaviour: Behaviour, now: float) -> None:
        self.behaviour = behaviour
        self.limits = Limits(behaviour, now)
        self.in_flight = 0
        """Requests that have been read and not replied to; whoever serves counts them."""


@dataclasses.dataclass(slots=True)
class Turn:
    """One request, and what is to become of it."""

    record: Record
    gate: Gate
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
    """Everything that the stand-in knows: its behaviour, its limits, its money and its ledger."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.ledger = Ledger()
        self.behave(behaviour)

    def behave(self, behaviour: Behaviour) -> None:
        """Take on a behaviour, with its limits full, all its balance there, and its outages to come."""
        self.behaviour = behaviour
        self.begun = time.monotonic()
        self.credit = Credit(behaviour)
        self._gate = Gate(behaviour, self.begun)
        self._gates = {model: Gate(own, self.begun) for model, own in behaviour.own.items()}

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
        gate = self._gates.get(record.model, self._gate)
        turn = Turn(record, gate, KINDS["malformed"], asked, key, detail, 1.0, 0.0)
        record.kind = self._refused(turn, now) or self._fate(turn) or "answer"
        if asked and record.kind != "answer" and not KINDS[record.kind].plays(asked):
            record.kind = "answer"
        turn.kind = KINDS[record.kind]
        self.ledger.totals[record.kind] += 1
        if turn.kind.answer:
            self.credit.sell()
        if turn.kind.late:
            turn.delay_s = gate.behaviour.latency_s(digest, record.attempt)
        return turn

    def _refused(self, turn: Turn, now: float) -> str | None:
        """Return why a request is not let in, or None."""
        behaviour, asked = self.behaviour, turn.asked
        outage = behaviour.outage_at(now - self.begun) if behaviour.outage and asked else None
        if outage is not None and outage != REFUSED:
            return outage
        if behaviour.key and turn.key != behaviour.key:
            return "401"
        if asked is None:
            return "malformed"
        if behaviour.models and asked.model not in behaviour.models:
            return "503_model"
        if self.credit.is_empty:
            return behaviour.broke
        gate, own = turn.gate, turn.gate.behaviour
        if own.concurrency and gate.in_flight >= own.concurrency:
            return "busy"
        wait_s = gate.limits.admit(bodies.charge(asked, own) if own.tpm else 0, now)
        if wait_s:
            turn.wait_s = wait_s
            return "throttled"
        return None

    def _fate(self, turn: Turn) -> str | None:
        """Return the kind that markers and shares give to a request that was let in, if they give it any."""
        behaviour, record, asked = turn.gate.behaviour, turn.record, turn.asked
        assert asked is not None  # whatever can't be read is refused
        kind = behaviour.marked(record.prompt, record.attempt)
        if kind is not None and kind not in KINDS:
            turn.detail = f"The rehearsal has no kind {kind!r}; it has {', '.join(KINDS)}"
            return "unknown_marker"
        if kind is None and behaviour.reject and behaviour.draw(asked.canonical, "reject") < behaviour.reject:
            return "reject"
        if kind is None:
            kind = self._drawn(turn, behaviour)
        return kind

    def _drawn(self, turn: Turn, behaviour: Behaviour) -> str | None:
        digest = turn.record.digest
        kind = behaviour.drawn(digest, turn.record.attempt)
        if kind is None or not KINDS[kind].passing:
            return kind
        if not self.ledger.may_fault(digest, behaviour.max_faults):
            return None
        self.ledger.fault(digest)
        return kind

    def reply(self, turn: Turn) -> Reply:
        """Return the reply to a request; for one that is to be cut, the whole of it."""
        kind = turn.kind
        tid = bodies.trace_id()
        headers = [(kind.trace, tid), *kind.headers] if kind.trace else list(kind.headers)
        if isinstance(kind.body, bytes):
            return Reply(kind.status or 200, kind.body, kind.content_type, headers)
        if turn.gate.behaviour.rate_headers:
            headers += turn.gate.limits.headers(time.monotonic())
        if isinstance(kind.body, Error):
            return self._error(turn, kind.body, headers, tid)
        assert turn.asked is not None  # whatever can't be read is an error
        headers.append(("X-Aihubmix-Model", turn.asked.model))
        return self._answer(turn, turn.asked, headers, tid)

    def _error(self, turn: Turn, error: Error, headers: list[tuple[str, str]], tid: str) -> Reply:
        kind, behaviour = turn.kind, turn.gate.behaviour
        if behaviour.rate_headers:
            headers += _waits(kind.retry, turn.wait_s)
        message = error.message
        if "{" in message:
            message = message.replace("{key}", turn.key).replace("{detail}", turn.detail or "as asked")
            message = message.replace("{model}", turn.record.model).replace("{successor}", behaviour.successor)
        return Reply(kind.status or 500, bodies.error(error, message, tid), kind.content_type, headers)

    def _answer(self, turn: Turn, asked: Asked, headers: list[tuple[str, str]], tid: str) -> Reply:
        kind, behaviour = turn.kind, turn.gate.behaviour
        body = bodies.answer(asked, behaviour, kind, tid)
        self.credit.bill(body["usage"], behaviour)
        if kind is _PLAIN and not asked.streams and not behaviour.speed:  # nearly all, and benchmarks live on it
            return Reply(200, _encode(body), kind.content_type, headers)
        if kind.reshape is not None:
            body = kind.reshape(body, asked)
        reply = Reply(200, b"", kind.content_type, headers)
        if behaviour.speed:
            reply.takes_s = bodies.length(asked, behaviour) / behaviour.speed
        if kind.wire is Wire.DRIP:
            reply.takes_s += behaviour.slow_s
        if kind.endless_bytes:
            reply.pieces = _endless(body, kind.endless_bytes)
        elif asked.streams and kind.streams and kind.recode is None:
            reply.pieces, reply.content_type = streams.pieces(body, asked, kind), streams.CONTENT_TYPE
        else:
            reply.body = _encode(body) if kind.recode is None else kind.recode(body)
        return reply


def _waits(retry: Retry, wait_s: float) -> list[tuple[str, str]]:
    """Return the headers that tell how long to wait."""
    seconds, ms = str(math.ceil(wait_s)), str(math.ceil(wait_s * 1000))
    match retry:
        case Retry.USUAL:
            return [("Retry-After", seconds), ("retry-after-ms", ms)]
        case Retry.SECONDS:
            return [("Retry-After", seconds)]
        case Retry.DATE:
            return [("Retry-After", email.utils.formatdate(math.ceil(time.time() + wait_s), usegmt=True))]
        case Retry.MS:
            return [("retry-after-ms", ms)]
        case Retry.LITELLM:
            return [("llm_provider-retry-after", seconds)]
        case Retry.NONE:
            return []


def _endless(body: Json, size: int) -> Iterator[bytes]:
    """Make a body whose content is this large, piece by piece."""
    mark = "the content stands here"
    choice = body["choices"][0]
    if "message" in choice:
        choice["message"]["content"] = mark
    else:
        choice["text"] = mark
    before, _, after = _encode(body).partition(mark.encode())
    yield before
    for at in range(0, size, len(_PIECE)):
        yield _PIECE[: size - at]
    yield after
