"""What is behind `/rehearsal/`: the ledger, read and changed over HTTP."""

from __future__ import annotations

from typing import Any

import msgspec

from batchmix.rehearsal.behaviour import Behaviour
from batchmix.rehearsal.provider import Provider
from batchmix.rehearsal.wire import Reply


def control(provider: Provider, method: str, what: str, raw: bytes) -> Reply:
    """Do what is asked of the stand-in itself, and return the reply; all but the reads return the totals."""
    match method, what:
        case "GET", "ledger":
            return _json(provider.ledger.records)
        case "GET", "bodies":
            return _json(provider.ledger.tallies())
        case "GET", "account":
            return _json(provider.ledger.account())
        case "POST", "reset":
            provider.reset()
        case "POST", "behaviour":
            try:
                provider.behave(Behaviour.parse(raw.decode("utf-8", "replace")))
            except ValueError as error:
                return _json({"error": {"message": str(error)}}, 400)
        case "GET", "totals":
            pass
        case _:
            return _json({"error": {"message": f"not found: {method} /rehearsal/{what}"}}, 404)
    return _json(dict(provider.ledger.totals))


def _json(value: Any, status: int = 200) -> Reply:
    return Reply(status, msgspec.json.encode(value))
