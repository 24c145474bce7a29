"""The state of each (row, model, sample) of a shard, and how each event changes it.

Applying an event twice changes nothing, and an answer is never replaced by a failure of the same request hash.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from batchmix.answers.typed import INVALID
from batchmix.records import (
    NO_INPUT,
    SKIPPED,
    UNKNOWN_COMPLETION,
    Completion,
    Failure,
    InvalidAnswer,
    Key,
    Outcome,
    RejectedRow,
    Request,
    Status,
    Tokens,
    Usage,
)
from batchmix.store.answer_totals import Fared
from batchmix.store.events import AttemptSent, Event, LinePosition, ResponseReceived, RowFailed
from batchmix.store.repair_chain import InvalidTurn, RepairChain
from batchmix.store.usage_totals import EstimatedUsage

_FINAL = frozenset({Status.OK, Status.REJECTED})
"""The statuses after which the same request is not sent again, unless rejected rows are to be retried."""
_OF_THE_INPUT = frozenset({SKIPPED, NO_INPUT})
"""The reasons for sending nothing that depend on the run that is the input."""
_ANSWER_BYTES = 700
"""The measured memory of an answer in bytes, without its text: the event, the completion and its usage."""


class CacheMemory:
    """The limited memory for answers that are kept until their shard is sealed.

    Reading an answer again takes as long as all other work on its result row. Used on the event loop only.
    """

    def __init__(self, size: int = 0) -> None:
        self._left = size
        self._taken: dict[int, int] = {}

    def resize(self, size: int) -> None:
        """Set the size in bytes, before anything is taken."""
        self._left = size

    def take(self, shard: int, event: ResponseReceived) -> bool:
        """Take memory for an answer. Return False if none is left."""
        if self._left <= 0:
            return False
        size = len(event.body) + _ANSWER_BYTES
        self._left -= size
        self._taken[shard] = self._taken.get(shard, 0) + size
        return True

    def give_back(self, shard: int) -> None:
        """Give back all memory that was taken for a shard's answers."""
        self._left += self._taken.pop(shard, 0)


class RowState(msgspec.Struct, gc=False):
    """The state of one (row, model, sample). Only this module changes it."""

    status: Status | None = None
    """None if there is no result yet."""
    hash: str = ""
    """The hash of the request that the result belongs to."""
    result: LinePosition | None = None
    """The position of the answer or of the row's failure in the journals. None if it is in the part, or if there is
    none.
    """
    last_response: LinePosition | None = None
    """The position of the last response in the journals, whether an answer or not."""
    attempts: int = 0
    in_flight: int = 0
    """The number of the attempt that was sent and has no response yet. 0 if there is none."""
    maybe_billed: int = 0
    """The number of attempts that may have been billed without an answer, including the one in flight."""
    prompt_tokens: int = 0
    """The estimated number of tokens of the last prompt in the journals."""
    max_tokens: int | None = None
    """The maximum number of tokens in the answer to that prompt. None if unlimited."""
    lost: Tokens = Tokens()
    """The estimated tokens of the attempts in the journals that may have been billed, except the one in flight."""
    unreported: EstimatedUsage = EstimatedUsage()
    """The estimated usage of answers in the journals that did not report a complete usage."""
    billed_failures: tuple[tuple[str | None, Usage], ...] = ()
    """The billed model and the usage of each attempt in the journals that was billed without an answer."""
    chain: RepairChain | None = None
    """The invalid answers in the journals. None if there are none."""
    fared: Fared | None = None
    """How the row's answer fared in the check. None if the job has no schema, or if there is no result."""
    wanted: bool = False
    """Whether the job contains this result now."""
    cached: tuple[ResponseReceived, Completion] | None = None
    """The response at `result` and its answer. None if it arrived in an earlier start, or if memory was short."""

    @property
    def maybe_billed_before(self) -> int:
        """The number of attempts that may have been billed without an answer, except the one in flight."""
        return self.maybe_billed - (1 if self.in_flight else 0)

    @property
    def lost_tokens(self) -> Tokens:
        """The estimated tokens of all attempts that may have been billed, including the one in flight."""
        return self.lost + self._estimate if self.in_flight else self.lost

    @property
    def _estimate(self) -> Tokens:
        return Tokens(self.prompt_tokens, UNKNOWN_COMPLETION if self.max_tokens is None else self.max_tokens)

    @property
    def is_unfit(self) -> bool:
        """Whether the part has an answer that does not fit the job's schema, and nothing has replaced it."""
        return self.status is None and self.hash != ""

    @property
    def repairs(self) -> int:
        """The number of requests that the row took after its first one, because an answer was invalid."""
        return self.chain.repairs(self.hash) if self.chain else 0

    @property
    def shown_response(self) -> LinePosition | None:
        """The position of the response that a row with an invalid answer shows. None if there is none."""
        return (self.chain and self.chain.last_of(self.hash)) or self.last_response

    def to_continue(self, hash_: str) -> tuple[InvalidTurn, ...]:
        """Return the invalid answers to a request on which another request follows, because the row has not ended."""
        is_answered = self.status is Status.OK and self.hash == hash_
        return self.chain.to_continue(hash_) if self.chain and not is_answered else ()

    @property
    def unfinished_turns(self) -> tuple[InvalidTurn, ...]:
        """The invalid answers of a failed row on which another request will follow, if the row is sent again."""
        return self.to_continue(self.hash) if self.status is Status.FAILED else ()

    def becomes_unfit(self, bill: tuple[str | None, Usage] | None) -> None:
        """Record that the part's answer does not fit the job's schema, and is no result. It stays paid for."""
        self.status = self.fared = None
        if bill:
            self.billed_failures += (bill,)

    def sent(self, attempt: int, prompt_tokens: int, max_tokens: int | None) -> None:
        """Update the state for an attempt that is about to be sent, with the estimates of its tokens."""
        if attempt <= self.attempts:  # the part includes it already
            return
        if self.in_flight:
            self.lost += self._estimate
        self.maybe_billed += 1
        self.in_flight = self.attempts = attempt
        self.prompt_tokens, self.max_tokens = prompt_tokens, max_tokens

    def received(
        self, event: ResponseReceived, position: LinePosition, outcome: Outcome, *, cache: bool = False
    ) -> None:
        """Update the state for the response to an attempt. `cache` keeps an answer in memory."""
        is_new = True
        if self.in_flight == event.attempt:
            if self.in_flight:
                self.in_flight = 0
                self.maybe_billed -= 1
        elif event.attempt > self.attempts:  # the line of its `AttemptSent` is damaged
            self.attempts = event.attempt
        else:
            is_new = False
        self.last_response = position
        if self.chain and event.reused_from:
            self.chain.leave()
        if isinstance(outcome, InvalidAnswer):
            if event.reused_from is None:  # an answer of another row counts as none if it does not fit
                self._add_invalid(event, position, outcome, is_new=is_new)
        elif isinstance(outcome, Completion):
            if self.chain:
                self.chain.follow(event.hash)
            self.status, self.hash, self.result = Status.OK, event.hash, position
            if outcome.healed is not None:
                self.fared = Fared.of(healed=outcome.healed, repairs=self.repairs)
            self.cached = (event, outcome) if cache else None
            reported = outcome.usage.prompt_tokens, outcome.usage.completion_tokens
            if is_new and None in reported and event.reused_from is None:
                self.unreported += EstimatedUsage.of(outcome, self.prompt_tokens)
        elif is_new:
            self._bill(event, outcome)

    def _add_invalid(
        self, event: ResponseReceived, position: LinePosition, invalid: InvalidAnswer, *, is_new: bool
    ) -> None:
        """Add an invalid answer to those that the row's repairs follow on. It is billed only if it `is_new`."""
        if self.chain is None:
            self.chain = RepairChain(event.hash)
        turn = self.chain.add(event, position, invalid, is_new=is_new)
        if turn is None or not is_new:
            return
        if (
            self.status is Status.REJECTED
        ):  # the provider refuses it no longer, so that the next start goes on from here
            self.status, self.hash, self.result = None, "", None
        if invalid.completion.lacks_usage:
            self.unreported += EstimatedUsage.of(invalid.completion, self.prompt_tokens)
        else:
            self.billed_failures += ((event.served_model, turn.usage),)

    def _bill(self, event: ResponseReceived, failure: Failure) -> None:
        if failure.usage is not None:
            self.billed_failures += ((event.served_model, failure.usage),)
        elif event.maybe_billed or failure.maybe_billed:
            self.maybe_billed += 1
            self.lost += self._estimate

    def failed(self, event: RowFailed, position: LinePosition) -> None:
        """Update the state for a failed row, unless the row has an answer to the same request."""
        is_answered = self.status is Status.OK and self.hash == event.hash
        if self.chain and event.type == INVALID and not (is_answered and self.result):
            self.chain.end(event.hash, event.attempt)
        if not is_answered:
            self.status, self.hash, self.result, self.cached = event.status, event.hash, position, None
            self.fared = Fared.LOST if event.type == INVALID else None
            if event.status is Status.OK and self.chain and (last := self.chain.keep_last()):
                self._keep(last)

    def _keep(self, last: InvalidTurn) -> None:
        """Record that the result row has the usage of an invalid answer, so that it is not counted beside it."""
        bills = list(self.billed_failures)
        if last.is_new and (bill := (last.served_model, last.usage)) in bills:
            bills.remove(bill)
        self.billed_failures = tuple(bills)

    def take_cached(self) -> tuple[ResponseReceived, Completion] | None:
        """Return the cached answer, or None, and free its memory. Called by the thread that seals the shard."""
        cached, self.cached = self.cached, None
        return cached


def apply_event(states: dict[Key, RowState], event: Event, position: LinePosition, outcome: Outcome | None) -> None:
    """Update the state for one event of a journal. `outcome` is the classified response, or None for other events."""
    state = states.get(event.key)
    if state is None:
        state = states[event.key] = RowState()
    if isinstance(event, AttemptSent):
        state.sent(event.attempt, event.prompt, event.max_tokens)
    elif isinstance(event, ResponseReceived):
        assert outcome is not None
        state.received(event, position, outcome)
    else:
        state.failed(event, position)


def need_work(
    states: dict[Key, RowState], requests: Iterable[Request | RejectedRow], *, retry_rejected: bool
) -> list[bool]:
    """Return for each request whether it has work left, and mark its state as wanted by the job."""
    needed = []
    for request in requests:
        key = request.row, request.model, request.sample
        state = states.get(key)
        if state is None:
            state = states[key] = RowState()
        state.wanted = True
        is_current = state.hash == request.hash
        retried = state.status is Status.REJECTED and retry_rejected and request.hash != ""
        # Why such a row is not sent may have changed with the run that is the input, and costs nothing to write again.
        told_anew = type(request) is RejectedRow and request.failure.type in _OF_THE_INPUT
        needed.append(state.status not in _FINAL or not is_current or retried or told_anew)
    return needed
