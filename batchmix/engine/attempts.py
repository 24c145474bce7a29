"""Whether and when a request is asked again. Its first attempt has failed before anything here is called."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import TypeGuard

import tenacity

from batchmix.engine.wait_limit import limited_wait_s, requested_wait_s
from batchmix.errors import FailureAction
from batchmix.records import Completion, Exchange, Failure

Outcome = Completion | Failure
_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 60.0
_LONGEST_UNASKED_S = 5.0
"""A row that was throttled with no word on how long: the lane's pause holds it back, and is not to be outlasted."""
_LONGEST_THROTTLE_S = 3600.0
"""A row that was throttled for this long in all is given up."""
_MOST_PUT_OFF = 2
"""So often a row may be told to come back at a time that nobody waits for."""

_PASSING = (FailureAction.RETRY, FailureAction.PAUSE)
_backoff = tenacity.wait_random_exponential(multiplier=_FIRST_WAIT_S, max=_LONGEST_WAIT_S, min=_FIRST_WAIT_S / 2)


class RowAttempts:
    """What the attempts of one row have cost so far, in this start."""

    def __init__(self, limit: int, until: float = math.inf, longest_s: float = math.inf) -> None:
        """Allow `limit` attempts; none after `until`. `longest_s` is how long a provider may ask to wait."""
        self._limit = self._most = limit
        self._until = until
        self._longest_s = longest_s
        self.costly = 0
        self._put_off = 0  # asked to wait for longer than anybody does
        self.throttled_s = 0.0
        self.retry_after_s: float | None = None
        """What the provider asked for with the last failure, as far as anybody waits for it."""
        self.last: Failure | None = None
        self.after = ""
        """What the last failure was, in a word: its HTTP status, or its type."""

    def note(self, failure: Failure, exchange: Exchange, *, is_free: bool = False) -> None:
        """Count a failed attempt; one that `is_free` costs nothing."""
        self.last = failure
        self.after = str(exchange.status) if (exchange.status or 0) >= 400 else failure.type
        asked = requested_wait_s(failure, exchange)
        self.retry_after_s = limited_wait_s(asked, self._longest_s)
        self._put_off += self.retry_after_s != asked
        self._most = min(self._limit, failure.attempts or self._limit)
        if failure.action is FailureAction.RETRY and not is_free:
            self.costly += 1

    def used_up(self, now: float) -> bool:
        """Return whether no further attempt is allowed."""
        if self._put_off >= _MOST_PUT_OFF:
            return True
        return self.costly >= self._most or self.throttled_s >= _LONGEST_THROTTLE_S or now >= self._until


async def retried(
    first: Failure,
    again: Callable[[], Awaitable[Outcome]],
    tries: RowAttempts,
    sleep: Callable[[float], Awaitable[None]],
) -> Outcome:
    """Return the outcome of the last attempt: an answer, an end, or the failure that used up the tries.

    `again` makes an attempt and notes its failure in `tries`. Waits are random and grow exponentially, and are never
    shorter than what the provider asked for. Throttled attempts cost nothing but time.
    """
    made = False

    async def attempt() -> Outcome:
        nonlocal made
        if not made:  # tenacity starts with a call; that attempt is already behind us
            made = True
            return first
        return await again()

    def wait_s(state: tenacity.RetryCallState) -> float:
        asked = tries.retry_after_s or 0.0
        if not _is(state, FailureAction.PAUSE):
            return max(asked, _backoff(state))
        wait = asked or min(_backoff(state), _LONGEST_UNASKED_S)
        tries.throttled_s += wait
        return wait

    # A new object for each row: tenacity keeps state in it that tasks would mix up.
    retrying = tenacity.AsyncRetrying(
        sleep=sleep,
        wait=wait_s,
        stop=lambda _: tries.used_up(asyncio.get_running_loop().time()),
        retry=tenacity.retry_if_result(is_passing),
        retry_error_callback=lambda state: state.outcome.result() if state.outcome else first,
    )
    return await retrying(attempt)


def is_passing(outcome: Outcome) -> TypeGuard[Failure]:
    """Return whether it helps to ask again."""
    return isinstance(outcome, Failure) and outcome.action in _PASSING


def _is(state: tenacity.RetryCallState, following: FailureAction) -> bool:
    outcome = state.outcome.result() if state.outcome else None
    return isinstance(outcome, Failure) and outcome.action is following
