"""Holds requests back until the first one with the same long prefix is answered, so that they read it from the cache.

A prefix can be read once an answer to a request with it has ended. Requests that leave earlier pay its full price, or
even that of writing it to the cache. So one request leads, and the others with its prefix wait for its answer. Usage
shows whether that helps: until an answer has read from the cache, the next request leads too. If none of them does,
nothing is held back any more. No request waits longer than `cache.wait_s`, whatever becomes of the leaders. A lane with
nothing else to send may wait for as long in all, and for a small share of its time; then it sends what is held back.
"""

from __future__ import annotations

import asyncio
import collections
import math
from collections.abc import Callable, Iterable, Iterator

from batchmix.engine.prefixes import Prefix
from batchmix.engine.retries import OpenRequest
from batchmix.records import Failure, InvalidAnswer, Outcome, Usage

_LIFE_S = 240.0
"""For how long after its last use a prefix is taken to be in the cache. Providers keep it for five minutes or more."""
_MOST_TRIES = 3
"""After so many leaders of a prefix without a sign of the cache, nothing is held back any more, and after so many that
failed, nothing with their prefix."""
_MOST_MISSES = 20
"""The same after so many answers that should have read from the cache, over all prefixes, if none did."""
_STALLED_SHARE = 0.03
"""The share of its time for which a lane may have nothing to send, beside `cache.wait_s`, because of what is held."""
_READ_SHARE = 0.75
"""The share of a prefix that an answer must have read from the cache. Caches work in blocks of up to 1,024 tokens."""


class WarmUp:
    """Decides which requests of one lane wait for the answer to another.

    `release` is called with requests that have waited long enough. Others are returned by the call that releases them.
    """

    def __init__(self, wait_s: float, release: Callable[[list[OpenRequest]], None]) -> None:
        """Hold requests back for up to `wait_s` seconds each. If this is 0, hold nothing back."""
        self.is_off = wait_s == 0
        """Whether nothing is held back, or nothing any more."""
        self.held = 0
        """The number of requests that are held back."""
        self._wait_s = wait_s
        self._release = release
        self._followers: dict[OpenRequest, list[OpenRequest]] = {}  # by the leader that they wait for
        self._waiting: collections.deque[OpenRequest] = collections.deque()  # all that were held, the oldest first
        self._timer: asyncio.TimerHandle | None = None
        self._works = False
        """Whether any answer has read from the cache."""
        self._lags = False
        """Whether a prefix was once not in the cache yet when the first answer with it had ended."""
        self._misses = 0
        self._began = math.inf  # when a request was first held back
        self._stalled_s = 0.0
        self._stalled_at: float | None = None  # since when there is nothing to send; None if there is something

    def holds(self, now: float, item: OpenRequest) -> bool:
        """Hold a request back and return True, or return False if it may be sent."""
        if item.prefix is None or self.is_off or now >= item.held_until:
            return False
        for prefix in _chain(item):
            leader = prefix.leader
            if leader is not None and leader is not item and now >= prefix.warm_until:
                break
        else:
            return False
        if item.held_until == math.inf:
            self._began = min(self._began, now)
            item.held_until = now + self._wait_s
            while self._waiting and self._waiting[0].ticket is not None:
                self._waiting.popleft()  # it was sent, and its body need not be kept
            self._waiting.append(item)
            self._set_timer(now)
        self._followers.setdefault(leader, []).append(item)
        item.is_held = True
        self.held += 1
        return True

    def sent(self, now: float, item: OpenRequest) -> None:
        """Let a request that is sent lead the others with its prefixes, where these are not in the cache."""
        if self.is_off:
            return
        for prefix in _chain(item):
            if prefix.leader is None and now >= prefix.warm_until:
                prefix.leader = item

    def returned(self, now: float, item: OpenRequest, outcome: Outcome | None) -> list[OpenRequest]:
        """Learn from the outcome of a request, which is None if it was cut off. Return the requests to release."""
        if self.is_off:
            return []
        if isinstance(outcome, InvalidAnswer):
            outcome = outcome.completion
        if outcome is None or isinstance(outcome, Failure):
            self._failed(now, item)
        else:
            self._answered(now, item, outcome.usage)
        return self.all() if self.is_off else self._freed(self._followers.pop(item, []))

    def has_stalled(self, now: float) -> list[OpenRequest]:
        """Note that there is nothing to send but what is held back. Return one to release if it lasts too long."""
        if self._stalled_at is None:
            self._stalled_at = now
        stalled_s = self._stalled_s + now - self._stalled_at
        if stalled_s < self._wait_s + _STALLED_SHARE * (now - self._began):
            return []
        while self._waiting:
            item = self._waiting.popleft()
            if item.is_held:
                item.held_until = now
                return self._freed([item])
        return []

    def goes_on(self, now: float) -> None:
        """Note that there is something to send."""
        if self._stalled_at is not None:
            self._stalled_s += now - self._stalled_at
            self._stalled_at = None

    def all(self) -> list[OpenRequest]:
        """Return all requests that are held back, to release them."""
        self._followers.clear()
        return self._freed(self._waiting)

    def _failed(self, now: float, item: OpenRequest) -> None:
        for prefix in _chain(item):
            if prefix.leader is item:
                prefix.leader = None
                prefix.failed += 1
                if prefix.failed >= _MOST_TRIES:
                    prefix.warm_until = now + _LIFE_S

    def _answered(self, now: float, item: OpenRequest, usage: Usage) -> None:
        self._works = self._works or bool(usage.cached_tokens)
        if not self._works and self._is_useless(now, item, usage):
            self.is_off = True
            return
        for prefix in _chain(item):
            has_read = _has_read(usage, prefix, item)
            if prefix.leader is item:
                prefix.leader = None
                self._lags |= has_read and prefix.tries > 1
                prefix.tries += 1
            if has_read or (self._works and (not self._lags or prefix.tries >= _MOST_TRIES)):
                prefix.warm_until = now + _LIFE_S

    def _is_useless(self, now: float, item: OpenRequest, usage: Usage) -> bool:
        """Return whether the answers so far show that holding requests back brings nothing, or can't show it."""
        if usage.cached_tokens is None:
            return True
        self._misses += any(now < prefix.warm_until for prefix in _chain(item))
        tries = (prefix.tries for prefix in _chain(item) if prefix.leader is item)
        return self._misses >= _MOST_MISSES or max(tries, default=0) + 1 >= _MOST_TRIES

    def _freed(self, items: Iterable[OpenRequest]) -> list[OpenRequest]:
        freed = [item for item in items if item.is_held]
        for item in freed:
            item.is_held = False
        self.held -= len(freed)
        return freed

    def _set_timer(self, now: float) -> None:
        if self._timer is None and self._waiting:
            wait_s = self._waiting[0].held_until - now
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._expire)

    def _expire(self) -> None:
        """Release the requests that have waited long enough. Their prefixes then count as cached."""
        self._timer = None
        now = asyncio.get_running_loop().time()
        late: list[OpenRequest] = []
        while self._waiting and (now >= self._waiting[0].held_until or self._waiting[0].ticket is not None):
            item = self._waiting.popleft()
            if item.is_held:
                late.append(item)
                for prefix in _chain(item):
                    prefix.warm_until = max(prefix.warm_until, now + _LIFE_S)
        self._set_timer(now)
        self._release(self._freed(late))


def _chain(item: OpenRequest) -> Iterator[Prefix]:
    """Yield the prefixes of a request, the longest first."""
    prefix = item.prefix
    while prefix is not None and prefix.text:
        yield prefix
        prefix = prefix.parent


def _has_read(usage: Usage, prefix: Prefix, item: OpenRequest) -> bool:
    """Return whether an answer has read a prefix from the cache, by the share of the prompt that it is."""
    if not usage.cached_tokens or not usage.prompt_tokens:
        return False
    share = usage.cached_tokens / usage.prompt_tokens
    return share >= _READ_SHARE * len(prefix.text) / len(item.request.body)
