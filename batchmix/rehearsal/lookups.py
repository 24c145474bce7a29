"""What the stand-in says where no answer is asked for: models, prices, money."""

from __future__ import annotations

import hashlib

import msgspec

from batchmix.rehearsal import bodies
from batchmix.rehearsal.model_list import catalogue, models
from batchmix.rehearsal.provider import Provider
from batchmix.rehearsal.reply_kind import Error
from batchmix.rehearsal.reply_table import KINDS
from batchmix.rehearsal.request import Json
from batchmix.rehearsal.wire import Reply

_BILLING = "/v1/dashboard/billing/"


def look_up(provider: Provider, method: str, path: str, key: str, known: str) -> Reply:
    """Return the reply to a request under `/v1` or `/api`; `known` is the ETag that the client has."""
    if method in {"GET", "HEAD"}:
        found = _found(provider, path)
        if found is not None and path.startswith(_BILLING) and provider.behaviour.key not in {"", key}:
            return _error(401, KINDS["401"].body, key)
        if found is not None:
            return _tagged(found, known) if path.startswith("/api/") else _reply(200, found)
    return _error(404, Error(f"Invalid URL ({method} {path})", "invalid_request_error"), key)


def _found(provider: Provider, path: str) -> Json | None:
    match path:
        case "/v1/models":
            return models(provider.behaviour)
        case "/api/v1/models":
            return catalogue(provider.behaviour)
        case "/v1/dashboard/billing/subscription":
            return provider.credit.subscription()
        case "/v1/dashboard/billing/usage":
            return provider.credit.usage()
        case _:
            return None


def _tagged(found: Json, known: str) -> Reply:
    """Return a reply with an ETag, and without a body where the client has it already."""
    reply = _reply(200, found)
    tag = f'"{hashlib.blake2b(reply.body, digest_size=12).hexdigest()}"'
    reply.headers.append(("ETag", tag))
    if tag in known:
        reply.status, reply.body = 304, b""
    return reply


def _reply(status: int, found: Json) -> Reply:
    return Reply(status, msgspec.json.encode(found), headers=[("x-aihubmix-request-id", bodies.trace_id())])


def _error(status: int, error: object, key: str) -> Reply:
    assert isinstance(error, Error)
    tid = bodies.trace_id()
    body = bodies.error(error, error.message.replace("{key}", key), tid)
    return Reply(status, body, headers=[("x-aihubmix-request-id", tid)])
