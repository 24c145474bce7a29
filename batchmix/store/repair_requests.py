"""What follows on a row's invalid answers in an open shard: the next request, or the failure that ends the row."""

from __future__ import annotations

import msgspec

from batchmix.records import Exchange, Failure, InvalidAnswer, Request
from batchmix.responses.streaming import streamed_if_long
from batchmix.store.events import ResponseReceived
from batchmix.store.repair_chain import InvalidTurn
from batchmix.store.shard import Shard


def follow_up(shard: Shard, request: Request, invalid: InvalidAnswer) -> Request | None:
    """Return the request that follows on an invalid answer to `request`. None if the row is given up."""
    typed = shard.classifier.typed
    assert typed is not None
    turns = shard.states[request.key].to_continue(request.hash)
    following = typed.follow_up(request, invalid, [turn.is_cut_off for turn in turns])
    return following and streamed_if_long(following)


def continued(shard: Shard, request: Request) -> Request | Failure:
    """Return the request that follows on the invalid answers that earlier starts have received to a request.

    This is the request itself if there are none. If the row is given up, return its failure.
    """
    typed = shard.classifier.typed
    turns = shard.states[request.key].to_continue(request.hash)
    for number, turn in enumerate(turns if typed else (), 1):
        found = _answer(shard, turn)
        if found is None or typed is None:
            continue
        following = typed.follow_up(request, found[1], [turn.is_cut_off for turn in turns[:number]])
        if following is None:
            return found[1].failure
        request = streamed_if_long(following)
    return request


def refused_repair(shard: Shard, request: Request, refusal: Failure) -> tuple[Exchange, InvalidAnswer] | None:
    """Return the answer that a refused request was to repair, with a failure that tells of both.

    None if the request was to repair none, so that the row's own request was refused.
    """
    turns = shard.states[request.key].to_continue(request.hash)
    found = _answer(shard, turns[-1]) if turns else None
    if found is None:
        return None
    exchange, invalid = found
    message = f"{invalid.failure.message}; the request that followed on this answer was refused: {refusal.message}"
    failure = msgspec.structs.replace(invalid.failure, message=message)
    return exchange, msgspec.structs.replace(invalid, failure=failure)


def _answer(shard: Shard, turn: InvalidTurn) -> tuple[Exchange, InvalidAnswer] | None:
    event = shard.event(turn.position)
    if not isinstance(event, ResponseReceived):
        return None
    outcome = shard.outcome(event)
    return (event.exchange(), outcome) if isinstance(outcome, InvalidAnswer) else None
