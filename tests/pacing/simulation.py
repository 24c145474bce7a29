"""Clients that send requests to a simulated provider. The clock is simulated too: an hour takes seconds.

A client does what `batchmix.engine.pool` does, without sockets: it waits for the governor, sends, learns from the
response, and lets refused rows wait as long as the provider requests. It calls the governor's public methods alone, so
that any other governor can take its place.
"""

from __future__ import annotations

import bisect
import collections
import heapq
import itertools
import math
import random
from typing import Any

import msgspec

from batchmix.engine.retries import RetryBucket, RowAttempts, next_wait
from batchmix.errors import FailureAction
from batchmix.job import Limits
from batchmix.pacing.breaker import Breaker
from batchmix.pacing.governor import Governor
from batchmix.records import Exchange, Failure, Usage
from tests.pacing.provider import CEILING, Best, Profile, Provider, Row, rows

ATTEMPTS, TIMEOUT_S, OUTAGE_S = 6, 600.0, 600.0
"""The defaults of `retry.attempts`, `timeout_s` and `retry.outage_s`."""
THROTTLED = Failure(FailureAction.PAUSE, "throttled", "")
SPEECHLESS = Failure(FailureAction.RETRY, "server_error", "", may_be_throttling=True)
BROKEN = Failure(FailureAction.RETRY, "server_error", "")
TIMED_OUT = Failure(FailureAction.RETRY, "timeout", "")


class Client:
    """A client with one lane."""

    def __init__(self, sim: Simulation, limits: Limits, supply: Any) -> None:
        self.sim = sim
        self.governor = Governor(limits, 0.0, sim.provider.minute_at)
        self.breaker = Breaker(OUTAGE_S)
        self.retries = RetryBucket(0.0)
        self.due: collections.deque[Row] = collections.deque()
        self.waiting = 0
        self.supply = supply
        self.next: Row | None = next(supply)
        self.sent = self.in_flight = 0
        self.accepted: list[float] = []
        self.refused: list[float] = []
        self.answered = self.failed_rows = 0
        self.most_refused = 0
        self.finished_s = 0.0
        """When the last row so far had its outcome."""
        self._wake_at = math.inf  # when the next request may be sent, if nothing happens until then

    def pump(self) -> None:
        """Send all requests that may be sent now, and continue when the next may be sent."""
        governor, sim = self.governor, self.sim
        now, profile = sim.now, sim.profile
        while True:
            row = self.due[0] if self.due else self.next
            if row is None or (not self.due and self.waiting >= max(1000, 2 * governor.window)):
                return
            tokens = governor.estimate(row.estimate, profile.max_tokens)
            wait_s = self.breaker.wait_s(now) if self.breaker.is_open else 0.0
            wait_s = wait_s or governor.wait_s(now, tokens)
            if wait_s > 0:
                if abs(now + wait_s - self._wake_at) > 1e-6:  # else a wake is set already
                    self._wake_at = now + wait_s
                    if wait_s < math.inf:
                        sim.at(now + wait_s + sim.rng.random() * 0.001, self.wake, self._wake_at)
                return
            if self.due:
                self.due.popleft()
            else:
                self.next = next(self.supply, None)
            if self.breaker.is_open:
                self.breaker.sent()
            row.sent_at = now
            self.sent += 1
            self.in_flight += 1
            ticket = governor.admit(now, tokens)
            sim.at(now + sim.on_way_s(), sim.arrive, self, row, ticket)

    def wake(self, at: float) -> None:
        """Go on, unless another wake was set since then."""
        if at == self._wake_at:
            self._wake_at = math.inf
            self.pump()

    def answer(self, row: Row, ticket: Any, headers: Any) -> None:
        usage = Usage(row.prompt, row.completion, row.prompt + row.completion)
        if headers:
            self.governor.follow(self.sim.now, ticket, headers)
        self.governor.completed(self.sim.now, ticket, row.estimate, usage)
        if not self.breaker.is_clear:
            self.breaker.succeeded()
        self.in_flight -= 1
        self.answered += 1
        self.finished_s = self.sim.now
        self.pump()

    def fail(self, row: Row, ticket: Any, failure: Failure, retry_after_s: float | None, headers: Any) -> None:
        """Take a refusal, an error or a time-out, as `batchmix.engine.admission` does."""
        now, governor, breaker = self.sim.now, self.governor, self.breaker
        self.in_flight -= 1
        self.refused.append(now)
        if headers:
            governor.follow(now, ticket, headers)
        if failure.may_be_throttling and not breaker.is_open:
            failure = msgspec.structs.replace(failure, action=FailureAction.PAUSE)
        attempts = row.attempts = row.attempts or RowAttempts(ATTEMPTS, longest_s=OUTAGE_S)
        attempts.count(failure, Exchange(0, 0, 0.0, retry_after_s=retry_after_s))
        self.most_refused = max(self.most_refused, attempts.failed)
        if failure is THROTTLED:
            breaker.inconclusive()
        else:
            breaker.failed(now, row.sent_at, failure, awaited=self.in_flight > 0)
        if failure.action is FailureAction.PAUSE:
            governor.throttled(now, ticket, attempts.retry_after_s)
        else:
            governor.failed(now)
        governor.settle(ticket, None if failure is TIMED_OUT else 0.0)
        wait_s = next_wait(attempts, failure, now)
        if breaker.given_up or wait_s is None:
            self._end(row)
        else:
            attempts.count_wait(failure, wait_s)
            if failure.action is FailureAction.RETRY:
                wait_s = max(wait_s, self.retries.wait_s(now, self.sent))
            self.waiting += 1
            self.sim.at(now + wait_s, self.again, row)
        self.pump()

    def _end(self, row: Row) -> None:
        """Give a row up, and all rows that are still to come if the breaker has given up."""
        self.failed_rows += 1
        self.finished_s = self.sim.now
        if self.breaker.given_up:
            self.next = None

    def again(self, row: Row) -> None:
        self.waiting -= 1
        self.due.append(row)
        self.pump()


class Simulation:
    """A provider and its clients on one clock."""

    def __init__(self, profile: Profile, seed: int = 0, clients: int = 1) -> None:
        self.profile = profile
        self.rng = random.Random(seed)
        random.seed(seed)  # used by the governor
        self.now = 0.0
        self._events: list[tuple[float, int, Any, tuple[Any, ...]]] = []
        self._count = itertools.count()
        self.provider = Provider(profile, seed)
        self._queue: collections.deque[tuple[Client, Row, Any]] = collections.deque()
        self._seed = seed
        self.best: Best
        """What was possible; known after `run`."""
        limits = Limits(concurrency=CEILING)
        if profile.told:
            limits = Limits(
                requests_per_minute=profile.told_per_minute(requests=True),
                tokens_per_minute=profile.told_per_minute(requests=False),
                concurrency=int(min(CEILING, profile.concurrency)),
            )
        self.clients = [Client(self, limits, rows(profile, seed, number)) for number in range(clients)]

    def at(self, when: float, call: Any, *args: Any) -> None:
        heapq.heappush(self._events, (when, next(self._count), call, args))

    def on_way_s(self) -> float:
        """Return the time that a message takes on the network."""
        shortest, longest = self.profile.network_s
        return shortest + (longest - shortest) * self.rng.random()

    def arrive(self, client: Client, row: Row, ticket: Any) -> None:
        provider, profile = self.provider, self.profile
        if profile.outage[0] <= self.now < profile.outage[1]:
            self._refuse(client, row, ticket, 0.001, 503)
            return
        if profile.strays and self.rng.random() < profile.strays:
            self._refuse(client, row, ticket, 0.001, profile.stray_status)
            return
        provider.route()
        is_full = provider.serving >= provider.concurrency
        if is_full and len(self._queue) >= profile.queue:
            self._refuse(client, row, ticket, profile.latency_s / 4, profile.status)
            return
        wait_s = provider.wait_s(self.now, row)
        if wait_s:
            self._refuse(client, row, ticket, wait_s, profile.status)
            return
        provider.enter(self.now, row)
        if is_full:
            waiting = (client, row, ticket)
            self._queue.append(waiting)
            self.at(min(self.now + profile.queue_s, row.sent_at + TIMEOUT_S), self._expire, waiting)
        else:
            self._serve(client, row, ticket)

    def _expire(self, waiting: tuple[Client, Row, Any]) -> None:
        """End a wait in the queue, if it still lasts."""
        if waiting not in self._queue:
            return
        self._queue.remove(waiting)
        client, row, ticket = waiting
        if self.now >= row.sent_at + TIMEOUT_S:
            client.fail(row, ticket, TIMED_OUT, None, None)
        else:
            self._refuse(client, row, ticket, self.profile.latency_s / 4, self.profile.status)

    def _refuse(self, client: Client, row: Row, ticket: Any, wait_s: float, status: int) -> None:
        profile = self.profile
        back = self.now + 0.03 + self.on_way_s()
        if status != 429:
            self.at(back, client.fail, row, ticket, BROKEN if status == 500 else SPEECHLESS, None, None)
            return
        headers = self.provider.quotas(self.now) if profile.reports and not profile.bare else None
        self.at(back, client.fail, row, ticket, THROTTLED, _stated_s(profile.retry_after, wait_s), headers)

    def _serve(self, client: Client, row: Row, ticket: Any) -> None:
        provider = self.provider
        client.accepted.append(self.now)
        latency_s = provider.serve(row)
        end = self.now + latency_s
        self.at(end, self._leave, row)
        headers = provider.quotas(self.now) if self.profile.reports else None
        back = end + self.on_way_s()
        if back > row.sent_at + TIMEOUT_S:
            self.at(row.sent_at + TIMEOUT_S, client.fail, row, ticket, TIMED_OUT, None, None)
        else:
            self.at(back, client.answer, row, ticket, headers)

    def _leave(self, row: Row) -> None:
        self.provider.leave(self.now, row)
        if self._queue and self.provider.serving < self.provider.concurrency:
            self._serve(*self._queue.popleft())

    def run(self, seconds: float, apart_s: float = 0.01) -> None:
        """Let so many seconds pass. The clients start one after the other, `apart_s` apart."""
        for at_s, factor in self.profile.course:
            self.at(at_s, lambda factor: self.provider.change(self.now, factor), factor)
        for number, client in enumerate(self.clients):
            self.at(apart_s * number, client.pump)
        events, pop = self._events, heapq.heappop
        while events and events[0][0] <= seconds:
            self.now, _, call, args = pop(events)
            call(*args)
        self.now = seconds
        self.best = Best(self.profile, self._seed, seconds)

    def accepted(self, start: float, end: float, client: int | None = None) -> int:
        """Return how many requests of one or all clients were let in between two times."""
        clients = self.clients if client is None else [self.clients[client]]
        return sum(_between(one.accepted, start, end) for one in clients)

    def used(self, start: float, end: float, client: int | None = None) -> float:
        """Return the requests that were let in between two times, as a share of those that could have been."""
        return self.accepted(start, end, client) / max(1, self.best.entered(start, end))

    def refused(self, start: float, end: float) -> float:
        """Return the refused requests between two times, as a share of the requests sent."""
        refused = sum(_between(client.refused, start, end) for client in self.clients)
        return refused / max(1, refused + self.accepted(start, end))

    def reached_s(self, since: float, until: float, share: float = 0.9) -> float:
        """Return the seconds from `since` until the rate reached a share of the possible rate.

        The rate is measured over spans of 2 s or 40 requests; the possible rate, a minute after `since` and later.
        """
        settled = since + min(60.0, (until - since) / 2)
        per_s = self.best.entered(settled, until) / (until - settled)
        times = sorted(at - since for client in self.clients for at in client.accepted if at >= since)
        count = max(math.ceil(2 * per_s), 40)
        for first, last in zip(times, times[count:], strict=False):
            if count / max(last - first, 1e-9) >= share * per_s:
                return first
        return math.inf


def _stated_s(retry_after: str | float, wait_s: float) -> float | None:
    """Return the wait that a refusal states."""
    if retry_after == "none":
        return None
    if retry_after == "ms":
        return math.ceil(wait_s * 1000) / 1000
    return float(math.ceil(wait_s)) if isinstance(retry_after, str) else retry_after


def _between(times: list[float], start: float, end: float) -> int:
    return bisect.bisect_left(times, end) - bisect.bisect_left(times, start)
