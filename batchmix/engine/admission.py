"""What holds the requests of one lane back, and what that learns from each exchange."""

from __future__ import annotations

import time
from collections.abc import Collection

from batchmix.engine.early_failures import LaneEarlyFailures
from batchmix.engine.outcomes import SendingRules
from batchmix.engine.retries import OpenRequest, RowAttempts
from batchmix.engine.status import Bottleneck, LaneStatus
from batchmix.engine.wait_limit import WaitLimit, requested_wait_s
from batchmix.errors import FailureAction
from batchmix.pacing.breaker import Breaker
from batchmix.pacing.governor import Governor, Limit, Ticket
from batchmix.records import Completion, Exchange, Failure, Outcome, Request
from batchmix.responses.stream import UNFINISHED

_UNSAID = (None, None)
_BOTTLENECKS: dict[Limit, Bottleneck] = {limit: Bottleneck(limit.value) for limit in Limit if limit is not Limit.NONE}
_NEWS_S = 2.0
"""A pause that lasts longer is told with its end."""


class Admission:
    """Joins the governor, which paces, with those who stop: breaker, doubts and patience.

    `wait_s` and `learn` write into `status` what limits the lane.
    """

    def __init__(
        self, governor: Governor, status: LaneStatus, rules: SendingRules, flying: Collection[OpenRequest]
    ) -> None:
        self._governor = governor
        self._status = status
        self._rules = rules
        self._breaker = Breaker(rules.outage_s)
        self._doubts = LaneEarlyFailures(rules.seen, flying, has_paths=rules.has_paths, keep_going=rules.keep_going)
        self._patience = WaitLimit(rules.outage_s)
        self._tokens = 0.0  # that the request which is next is expected to take

    @property
    def window(self) -> float:
        """How many may be in flight."""
        return self._governor.window

    def wait_s(self, now: float, request: Request) -> float:
        """Return how long a request has to wait: 0 not at all, infinity until one in flight has ended."""
        status = self._status
        if self._breaker.is_open and (wait_s := self._breaker.wait_s(now)) > 0:
            status.limit(Bottleneck.OUTAGE)
            return wait_s
        if (wait_s := self._doubts.wait_s(now, request.path)) > 0:
            status.limit(Bottleneck.REFUSALS)
            return wait_s
        self._tokens = self._governor.estimate(request.prompt_tokens, request.max_tokens)
        wait_s = self._governor.wait_s(now, self._tokens)
        if wait_s > 0:
            status.limit(_BOTTLENECKS[self._governor.limited_by])
            if self._governor.limited_by is Limit.PAUSE and wait_s > _NEWS_S:
                status.pause(time.time() + wait_s)
        return wait_s

    def leaves(self, now: float) -> Ticket:
        """Take note that the request leaves that `wait_s` was asked about last."""
        self._status.limit(Bottleneck.NONE)
        if self._breaker.is_open:
            self._breaker.sent()
        return self._governor.admit(now, self._tokens)

    def learn(self, now: float, item: OpenRequest, exchange: Exchange, outcome: Outcome) -> None:
        """Learn from what came back, and settle its ticket."""
        ticket = item.ticket
        assert ticket is not None
        self._rules.seen.hear(exchange)
        if exchange.quotas != _UNSAID:
            self._governor.follow(now, ticket, exchange.quotas)
        if isinstance(outcome, Completion):
            if not self._breaker.is_clear:
                self._breaker.succeeded()
            self._doubts.good(item.request.path)
            if not self._patience.is_clear:
                self._patience.good(ticket.sent_at)
            usage = outcome.usage
            self._governor.completed(now, ticket, item.request.prompt_tokens, usage)
            self._status.received(usage)
        else:
            self._learn_of_failure(now, item, ticket, exchange, outcome)
            self._governor.settle(ticket, None if exchange.maybe_billed else 0.0)

    def abandon(self, ticket: Ticket) -> None:
        """Settle the ticket of a request that brought no outcome."""
        self._governor.settle(ticket, None)

    def verdict(self, path: str, open_rows: int) -> Failure | None:
        """Return why the lane has to be given up, or the path that was asked last; `open_rows` have no end yet."""
        if self._breaker.given_up:
            last = self._breaker.given_up
            message = f"no answer came for too long (retry.outage_s), at last: {last.message}"
            return Failure(FailureAction.STOP_MODEL, last.type, message, last.code)
        in_flight = self._status.in_flight
        return self._patience.given_up(in_flight, open_rows) or self._doubts.decided(path)

    def _learn_of_failure(
        self, now: float, item: OpenRequest, ticket: Ticket, exchange: Exchange, outcome: Failure
    ) -> None:
        if item.attempts is None:
            item.attempts = RowAttempts(self._rules.attempts, ticket.sent_at + self._rules.row_s, self._rules.outage_s)
        self._patience.heard(now, ticket.sent_at, item.request.row, outcome, requested_wait_s(outcome, exchange))
        is_doubtful = self._doubts.note(item.request, ticket.sent_at, now, outcome)
        is_unfinished = outcome.type == UNFINISHED
        item.attempts.count(outcome, exchange, is_free=(is_doubtful and not exchange.maybe_billed) or is_unfinished)
        if outcome.action is FailureAction.PAUSE:
            self._breaker.inconclusive()
            self._governor.throttled(now, ticket, item.attempts.retry_after_s)
            self._status.count_throttled()
        elif outcome.action is FailureAction.RETRY and not is_unfinished:
            # What is in doubt, or what nobody knows, may be the job's own at first: no outage to be waited out.
            if not is_doubtful and (outcome.attempts is None or self._status.answers or self._breaker.is_open):
                self._breaker.failed(now, ticket.sent_at, outcome)
            self._governor.failed(now)
        else:
            self._breaker.succeeded()
