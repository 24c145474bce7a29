"""Replies to requests that are not for completions: models, prices, the balance, and `/rehearsal/…`."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from batchmix.rehearsal import bodies
from batchmix.rehearsal.behaviour import Behaviour
from batchmix.rehearsal.delivery import RehearsalReply
from batchmix.rehearsal.prompt_cache import cache_prices
from batchmix.rehearsal.provider import RehearsalProvider
from batchmix.rehearsal.reply_kind import ErrorBody
from batchmix.rehearsal.reply_table import REPLY_KINDS
from batchmix.rehearsal.request import Json

_BILLING = "/v1/dashboard/billing/"
_CREATED = 1_700_000_000
"""The Unix time at which all models were created. It never changes, so replies can be compared."""


def look_up(provider: RehearsalProvider, method: str, path: str, key: str, client_etag: str) -> RehearsalReply:
    """Return the reply to a request under `/v1` or `/api` that is not for a completion."""
    if method in {"GET", "HEAD"}:
        body = _body(provider, path)
        if body is not None and path.startswith(_BILLING) and provider.behaviour.key not in {"", key}:
            return _error(401, REPLY_KINDS["401"].body, key)
        if body is not None:
            return _with_etag(body, client_etag) if path.startswith("/api/") else _reply(200, body)
    return _error(404, ErrorBody(f"Invalid URL ({method} {path})", "invalid_request_error"), key)


def _body(provider: RehearsalProvider, path: str) -> Json | None:
    match path:
        case "/v1/models":
            return models(provider.behaviour)
        case "/api/v1/models":
            return catalogue(provider.behaviour)
        case "/v1/dashboard/billing/subscription":
            return provider.balance.subscription()
        case "/v1/dashboard/billing/usage":
            return provider.balance.usage()
        case _:
            return None


def _with_etag(body: Json, client_etag: str) -> RehearsalReply:
    """Return a reply with an ETag. If the client sent the same ETag, the reply is a 304 without a body."""
    reply = _reply(200, body)
    tag = f'"{hashlib.blake2b(reply.body, digest_size=12).hexdigest()}"'
    reply.headers.append(("ETag", tag))
    if tag in client_etag:
        reply.status, reply.body = 304, b""
    return reply


def _reply(status: int, body: Json) -> RehearsalReply:
    return RehearsalReply(status, msgspec.json.encode(body), headers=[("x-aihubmix-request-id", bodies.trace_id())])


def _error(status: int, error: object, key: str) -> RehearsalReply:
    assert isinstance(error, ErrorBody)
    tid = bodies.trace_id()
    body = bodies.error(error, error.message.replace("{key}", key), tid)
    return RehearsalReply(status, body, headers=[("x-aihubmix-request-id", tid)])


def models(behaviour: Behaviour) -> Json:
    """Return the body of `GET /v1/models`, in the format of OpenAI's model list."""
    names = _model_names(behaviour)
    data = [{"id": name, "object": "model", "created": _CREATED, "owned_by": "rehearsal"} for name in names]
    return {"object": "list", "data": data}


def catalogue(behaviour: Behaviour) -> Json:
    """Return the body of `GET /api/v1/models`, in the format of AiHubMix's catalogue. Prices are USD per 1M tokens."""
    data = [_catalogue_entry(name, behaviour.for_model(name)) for name in _model_names(behaviour)]
    return {"data": data, "message": "", "success": True}


def _model_names(behaviour: Behaviour) -> tuple[str, ...]:
    """Return the ids of the models that the options name. Empty if they name none, so that any model is served."""
    return behaviour.models or tuple(behaviour.own)


def _catalogue_entry(name: str, behaviour: Behaviour) -> Json:
    retired = any(behaviour.faults.get(kind) == 1 for kind in ("404_retired", "410"))
    structured = behaviour.structured_outputs and behaviour.faults.get("400_schema") != 1
    prompt, completion = behaviour.price
    return {
        "model_id": name,
        "desc": "A model of the rehearsal",
        "types": "llm",
        "features": "tools,function_calling,structured_outputs" if structured else "tools,function_calling",
        "input_modalities": "text",
        "endpoints": "chat_completions,responses",
        "context_length": 128_000,
        "max_output": 16_384,
        "pricing": {"input": prompt, "output": completion, **cache_prices(behaviour)},
        "retire_stage": "retired" if retired else "",
        "successor_model": behaviour.successor if retired else "",
    }


def control(provider: RehearsalProvider, method: str, name: str, raw: bytes) -> RehearsalReply:
    """Serve `/rehearsal/NAME`, which reads the request log, resets it, or replaces the behaviour.

    The names `ledger`, `bodies` and `account` return parts of the log. All others return the totals.
    """
    match method, name:
        case "GET", "ledger":
            return _json(provider.log.records)
        case "GET", "bodies":
            return _json(provider.log.tallies())
        case "GET", "account":
            return _json(provider.log.account())
        case "POST", "reset":
            provider.reset()
        case "POST", "behaviour":
            try:
                provider.adopt(Behaviour.parse(raw.decode("utf-8", "replace")))
            except ValueError as error:
                return _json({"error": {"message": str(error)}}, 400)
        case "GET", "totals":
            pass
        case _:
            return _json({"error": {"message": f"not found: {method} /rehearsal/{name}"}}, 404)
    return _json(dict(provider.log.totals))


def _json(value: Any, status: int = 200) -> RehearsalReply:
    return RehearsalReply(status, msgspec.json.encode(value))
