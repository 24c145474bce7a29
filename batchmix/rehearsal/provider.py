"""Decides which kind of reply each request gets, and builds the reply. Contains no network code.

The first of these that applies decides: an outage, a wrong key or body, the balance, the rate limits, a marker in the
prompt, the shares of the options. Otherwise the request gets a plain answer.
"""

from __future__ import annotations

import dataclasses
import email.utils
import hashlib
import math
import time
from collections.abc import Iterator

import msgspec

from batchmix.rehearsal import bodies, streams
from batchmix.rehearsal.asked_schema import SchemaWay, prompt_schema
from batchmix.rehearsal.behaviour import Behaviour
from batchmix.rehearsal.delivery import RehearsalReply
from batchmix.rehearsal.limits import ModelPlaces, RehearsalBalance, RehearsalLimits
from batchmix.rehearsal.option_values import REFUSED
from batchmix.rehearsal.prompt_cache import CacheUse, PromptCache, saved_tokens, usage_with
from batchmix.rehearsal.reply_kind import Delivery, ErrorBody, ReplyKind, RetryHint
from batchmix.rehearsal.reply_table import REPLY_KINDS
from batchmix.rehearsal.request import Json, RehearsalRequest, read_request
from batchmix.rehearsal.request_log import RequestLog, RequestRecord

_PIECE = b"river stone quiet amber window north garden signal " * 1000
_PLAIN = REPLY_KINDS["answer"]
_encode = msgspec.json.Encoder().encode


class ModelState:
    """The limits, the cache and the load of one model that has its own behaviour, or of all other models together."""

    def __init__(self, behaviour: Behaviour, now: float) -> None:
        self.behaviour = behaviour
        self.cache = PromptCache(behaviour)
        self.places = ModelPlaces(behaviour)
        self._limits: dict[object, RehearsalLimits] = {None: RehearsalLimits(behaviour, now)}

    def limits_for(self, connection: object, now: float) -> RehearsalLimits:
        """Return the limits that apply to a connection: its own, or those that are common to all."""
        if self.behaviour.limit_by == "model":
            connection = None
        return self._limits.get(connection) or self._limits.setdefault(connection, RehearsalLimits(self.behaviour, now))


@dataclasses.dataclass(slots=True)
class PlannedReply:
    """A request, and what was decided about its reply."""

    record: RequestRecord
    model_state: ModelState
    kind: ReplyKind
    request: RehearsalRequest | None
    """The parsed request. None if the body is invalid."""
    key: str
    """The API key that the client sent. Empty if it sent none."""
    detail: str
    """The text that replaces `{detail}` in the error's message."""
    wait_s: float
    """The seconds to wait that the headers ask for, if the request is throttled."""
    delay_s: float
    """The seconds before the reply starts."""
    limits: RehearsalLimits
    queued: bool = False
    """Whether the request has to wait for a place in flight."""
    over_limit: bool = False
    """Whether the request is refused because of a limit."""
    cache_use: CacheUse | None = None
    """What an answer reads from the prompt cache and writes to it. None if there is no cache, or no answer."""


class RehearsalProvider:
    """The state of the rehearsal provider: behaviour, limits, balance and request log."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.log = RequestLog()
        self.adopt(behaviour)

    def adopt(self, behaviour: Behaviour) -> None:
        """Replace the behaviour. Limits and balance are full again, and the times of outages count from now."""
        self.behaviour = behaviour
        self.started_at = time.monotonic()
        self.balance = RehearsalBalance(behaviour)
        self._default_state = ModelState(behaviour, self.started_at)
        self._own_states = {model: ModelState(own, self.started_at) for model, own in behaviour.own.items()}

    def reset(self) -> None:
        """Clear the log and start again with the current behaviour."""
        self.log.clear()
        self.adopt(self.behaviour)

    def plan(self, endpoint: str, raw: bytes, key: str, connection: object = None) -> PlannedReply:
        """Log a request, and decide which kind of reply it gets. `connection` tells its connection from others."""
        now = time.monotonic()
        parsed = read_request(endpoint, raw)
        request, detail = (parsed, "") if isinstance(parsed, RehearsalRequest) else (None, parsed)
        prompt = request.prompt if request else raw.decode("utf-8", "replace")
        digest = hashlib.sha256(raw).hexdigest()
        record = self.log.open(prompt, digest, request.model if request else "", now, keep=self.behaviour.ledger)
        state = self._own_states.get(record.model, self._default_state)
        if request is not None:
            record.turns, record.opening, record.max_tokens = request.turns, request.opening, request.max_tokens
            record.asked = request.asked.way if request.asked else ""
            request = _understood(request, state.behaviour)
        limits = state.limits_for(connection, now)
        plan = PlannedReply(record, state, REPLY_KINDS["malformed"], request, key, detail, 1.0, 0.0, limits)
        record.kind = self._refusal(plan, now) or self._assigned(plan) or "answer"
        if request and record.kind != "answer" and not REPLY_KINDS[record.kind].applies_to(request):
            record.kind = "answer"
        plan.kind = REPLY_KINDS[record.kind]
        self.log.totals[record.kind] += 1
        if plan.kind.answer:
            self.balance.count_answer()
            if request and state.behaviour.cache:
                plan.cache_use = state.cache.use(request, now)
        if plan.kind.delayed and not plan.over_limit:
            plan.delay_s = state.behaviour.latency_s(digest, record.attempt)
        return plan

    def _refusal(self, plan: PlannedReply, now: float) -> str | None:
        """Return the kind of reply that an outage, a check or a limit requires. None if the request is admitted."""
        behaviour, request = self.behaviour, plan.request
        outage = behaviour.outage_at(now - self.started_at) if behaviour.outage and request else None
        if outage is not None and outage != REFUSED:
            return outage
        if behaviour.key and plan.key != behaviour.key:
            return "401"
        if request is None:
            return "malformed"
        if behaviour.models and request.model not in behaviour.models:
            return "503_model"
        if self.balance.is_empty:
            return behaviour.broke
        return self._over_limit(plan, request, now)

    def _over_limit(self, plan: PlannedReply, request: RehearsalRequest, now: float) -> str | None:
        """Return the kind of reply to a request that is over a limit. None if it is admitted, or waits for a place."""
        places, behaviour = plan.model_state.places, plan.model_state.behaviour
        plan.over_limit = True
        if places.are_taken and places.queue_is_full:
            return behaviour.refuse_with or "busy"
        if wait_s := plan.limits.admit(now, lambda unit: bodies.charge(request, behaviour, unit)):
            plan.wait_s = wait_s
            return behaviour.refuse_with or "throttled"
        plan.over_limit, plan.queued = False, places.are_taken
        return None

    def refused(self, plan: PlannedReply) -> RehearsalReply:
        """Refuse a request that has waited too long for a place; return the reply."""
        self.log.totals[plan.record.kind] -= 1
        plan.record.kind = plan.model_state.behaviour.refuse_with or "busy"
        plan.kind, plan.cache_use = REPLY_KINDS[plan.record.kind], None
        self.log.totals[plan.record.kind] += 1
        return self.reply(plan)

    def _assigned(self, plan: PlannedReply) -> str | None:
        """Return the kind of reply that a marker or the shares give to an admitted request. None for a plain answer."""
        behaviour, record, request = plan.model_state.behaviour, plan.record, plan.request
        assert request is not None  # an invalid body is refused
        kind = behaviour.marked_kind(record.prompt, record.attempt)
        if kind is not None and kind not in REPLY_KINDS:
            plan.detail = f"The rehearsal has no kind {kind!r}; it has {', '.join(REPLY_KINDS)}"
            return "unknown_marker"
        if kind is None and behaviour.reject and behaviour.draw(request.canonical, "reject") < behaviour.reject:
            return "reject"
        if kind is None:
            kind = self._drawn(plan, behaviour)
        return kind

    def _drawn(self, plan: PlannedReply, behaviour: Behaviour) -> str | None:
        digest = plan.record.digest
        kind = behaviour.drawn_kind(digest, plan.record.attempt)
        if kind is None or not REPLY_KINDS[kind].temporary:
            return kind
        if not self.log.may_fault(digest, behaviour.max_faults):
            return None
        self.log.count_fault(digest)
        return kind

    def reply(self, plan: PlannedReply) -> RehearsalReply:
        """Build the planned reply and log its status. The reply is complete, even if only a part of it will be sent."""
        reply = self._reply(plan)
        plan.record.status = reply.status
        return reply

    def close(self, plan: PlannedReply) -> None:
        """Log that the whole reply was sent, and let an answer's prompt be in the cache from now on."""
        now = time.monotonic()
        self.log.close(plan.record, now)
        if plan.cache_use is not None and plan.record.answered:
            plan.model_state.cache.answered(plan.cache_use, now)

    def _reply(self, plan: PlannedReply) -> RehearsalReply:
        kind = plan.kind
        tid = bodies.trace_id()
        headers = [(kind.trace, tid), *kind.headers] if kind.trace else list(kind.headers)
        if isinstance(kind.body, bytes):
            return RehearsalReply(kind.status or 200, kind.body, kind.content_type, headers)
        if plan.model_state.behaviour.rate_headers:
            headers += plan.limits.headers(time.monotonic())
        if isinstance(kind.body, ErrorBody):
            return self._error(plan, kind.body, headers, tid)
        assert plan.request is not None  # an invalid body gets an error
        headers.append(("X-Aihubmix-Model", plan.request.model))
        return self._answer(plan, plan.request, headers, tid)

    def _error(self, plan: PlannedReply, error: ErrorBody, headers: list[tuple[str, str]], tid: str) -> RehearsalReply:
        kind, behaviour = plan.kind, plan.model_state.behaviour
        if behaviour.rate_headers:
            headers += _retry_headers(kind.retry, plan.wait_s)
        message = error.message
        if "{" in message:
            message = message.replace("{key}", plan.key).replace("{detail}", plan.detail or "as requested")
            message = message.replace("{model}", plan.record.model).replace("{successor}", behaviour.successor)
        return RehearsalReply(kind.status or 500, bodies.error(error, message, tid), kind.content_type, headers)

    def _answer(
        self, plan: PlannedReply, request: RehearsalRequest, headers: list[tuple[str, str]], tid: str
    ) -> RehearsalReply:
        kind, behaviour = plan.kind, plan.model_state.behaviour
        body = bodies.answer(request, behaviour, kind, tid)
        self.balance.charge(body["usage"], behaviour, saved_tokens(plan.cache_use, behaviour) if plan.cache_use else 0)
        if plan.cache_use is not None:
            body["usage"] = usage_with(body["usage"], plan.cache_use, behaviour)
        if kind is _PLAIN and not request.streams and not behaviour.speed:  # the fast path: nearly all replies
            return RehearsalReply(200, _encode(body), kind.content_type, headers)
        if kind.edit_body is not None:
            body = kind.edit_body(body, request)
        reply = RehearsalReply(200, b"", kind.content_type, headers)
        if behaviour.speed:
            reply.duration_s = bodies.length(request, behaviour) / behaviour.speed
        if kind.delivery is Delivery.DRIP:
            reply.duration_s += behaviour.slow_s
        if kind.endless_bytes:
            reply.pieces = _endless(body, kind.endless_bytes)
        elif request.streams and kind.streams and kind.encode_body is None:
            reply.pieces, reply.content_type = streams.pieces(body, request, kind), streams.CONTENT_TYPE
        else:
            reply.body = _encode(body) if kind.encode_body is None else kind.encode_body(body)
        return reply


def _understood(request: RehearsalRequest, behaviour: Behaviour) -> RehearsalRequest:
    """Return a request without what the model ignores: without structured outputs, this is `response_format`."""
    if behaviour.structured_outputs or request.asked is None or request.asked.way is not SchemaWay.RESPONSE_FORMAT:
        return request
    return msgspec.structs.replace(request, asked=prompt_schema(request.content))


def _retry_headers(retry: RetryHint, wait_s: float) -> list[tuple[str, str]]:
    """Return the headers that tell a throttled client how many seconds to wait."""
    seconds, ms = str(math.ceil(wait_s)), str(math.ceil(wait_s * 1000))
    match retry:
        case RetryHint.USUAL:
            return [("Retry-After", seconds), ("retry-after-ms", ms)]
        case RetryHint.SECONDS:
            return [("Retry-After", seconds)]
        case RetryHint.DATE:
            return [("Retry-After", email.utils.formatdate(math.ceil(time.time() + wait_s), usegmt=True))]
        case RetryHint.MS:
            return [("retry-after-ms", ms)]
        case RetryHint.LITELLM:
            return [("llm_provider-retry-after", seconds)]
        case RetryHint.NONE:
            return []


def _endless(body: Json, size: int) -> Iterator[bytes]:
    """Yield a body with content of `size` bytes, in pieces. The whole body is never in memory."""
    placeholder = "the content goes here"
    choice = body["choices"][0]
    if "message" in choice:
        choice["message"]["content"] = placeholder
    else:
        choice["text"] = placeholder
    before, _, after = _encode(body).partition(placeholder.encode())
    yield before
    for at in range(0, size, len(_PIECE)):
        yield _PIECE[: size - at]
    yield after
