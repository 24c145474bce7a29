"""A simulated provider and a pool that sends requests to it. The clock is simulated too: an hour takes seconds.

The provider counts requests and tokens in buckets with a burst, in fixed windows or in sliding windows. It may limit the
requests in flight, slow down under load, change its limits on the way, have two clients with the same key, and send
`Retry-After` with a 429. The pool does what `batchmix.engine.pool` does, without sockets: it waits for the
governor, sends, learns from the response, and lets throttled rows wait as long as the provider requests.
"""

from __future__ import annotations

import collections
import dataclasses
import heapq
import itertools
import math
import random
from typing import Any

from batchmix.job import Limits
from batchmix.pacing.governor import Governor
from batchmix.records import Quota, Usage


@dataclasses.dataclass(frozen=True)
class Profile:
    """The behaviour of a provider, and the size of the requests that are sent to it."""

    name: str
    rpm: float = math.inf
    tpm: float = math.inf
    burst_s: float = 60.0
    """The unused capacity that a bucket accumulates, in seconds."""
    window: str = "bucket"
    """How the provider counts: in a `bucket`, a `fixed` minute, or a `sliding` minute."""
    concurrency: float = math.inf
    latency_s: float = 1.0
    """The median latency of the answers."""
    spread: float = 0.3
    """The sigma of the logarithm of the latency."""
    slots: float = math.inf
    """The most requests in flight that do not slow each other down. Beyond, the latency grows in proportion."""
    retry_after: str = "seconds"
    """The `Retry-After` of a 429: the exact wait (`ms`), the wait rounded up (`seconds`), or `none`."""
    headers: bool = False
    """Whether headers report each limit, what remains of it, and when it is full again."""
    charge: str = "usage"
    """The tokens that count against the limit: `usage`, or `reserved` for prompt plus max_tokens."""
    prompt: float = 200.0
    completion: float = 100.0
    sizes: float = 0.4
    """The sigma of the logarithm of prompt and completion tokens."""
    max_tokens: int = 400
    change_at_s: float = math.inf
    change: float = 1.0
    """The factor by which the limits are multiplied at `change_at_s`."""
    configured: bool = False
    """Whether the job states the limits."""
    random_throttles: float = 0.0
    """The share of requests that is throttled at random."""


@dataclasses.dataclass(slots=True)
class Row:
    """A request in flight."""

    estimate: int
    prompt: int
    completion: int
    throttled: int = 0


class Budget:
    """One limit of the provider, and what is left of it."""

    def __init__(self, kind: str, per_s: float, burst_s: float) -> None:
        self.kind = kind
        self.per_s = per_s
        self._burst_s = burst_s if kind == "bucket" else 60.0
        self.level = self.room
        self._at = 0.0
        self._log: collections.deque[tuple[float, float]] = collections.deque()

    @property
    def room(self) -> float:
        return max(1.0, self.per_s * self._burst_s)

    def wait_s(self, now: float, amount: float) -> float:
        """Return the seconds until `amount` fits under the limit, and take nothing."""
        if self.per_s == math.inf:
            return 0.0
        if self.kind == "sliding":
            while self._log and self._log[0][0] <= now - 60:
                self.level += self._log.popleft()[1]
            missing, freed = min(amount, self.room) - self.level, 0.0
            if missing <= 1e-9:
                return 0.0
            for at, took in self._log:
                freed += took
                if freed >= missing:
                    return at + 60 - now
            return 60.0
        if self.kind == "fixed":
            if now // 60 > self._at // 60:
                self.level = self.room
            self._at = now
            return 0.0 if min(amount, self.room) <= self.level + 1e-9 else 60 - now % 60
        self.level = min(self.room, self.level + (now - self._at) * self.per_s)
        self._at = now
        return max(0.0, (min(amount, self.room) - self.level - 1e-9) / self.per_s)

    def take(self, now: float, amount: float) -> None:
        self.level -= amount
        if self.kind == "sliding" and self.per_s < math.inf:
            self._log.append((now, amount))

    def scale(self, factor: float) -> None:
        before = self.room
        self.per_s *= factor
        more = 0.0 if self.kind == "bucket" else max(0.0, self.room - before)
        self.level = min(self.level + more, self.room)

    def quota(self, now: float) -> Quota:
        """Return the state of the limit, as response headers report it."""
        self.wait_s(now, 0)
        reset = 60 - now % 60 if self.kind == "fixed" else (self.room - self.level) / self.per_s
        return Quota(round(self.room), math.floor(max(0.0, self.level)), reset)


class Provider:
    """A simulated provider with the behaviour of a profile."""

    def __init__(self, profile: Profile, rng: random.Random) -> None:
        self.profile = profile
        self.rng = rng
        self.requests = Budget(profile.window, profile.rpm / 60, profile.burst_s)
        self.tokens = Budget(profile.window, profile.tpm / 60, profile.burst_s)
        self.concurrency = profile.concurrency
        self.slots = profile.slots
        self.in_flight = 0

    def change(self) -> None:
        """Multiply the limits by the profile's `change`."""
        self.requests.scale(self.profile.change)
        self.tokens.scale(self.profile.change)
        self.concurrency *= self.profile.change
        self.slots *= self.profile.change

    def charge(self, row: Row) -> float:
        """Return the tokens that a request takes from the limit."""
        return row.prompt + (row.completion if self.profile.charge == "usage" else self.profile.max_tokens)

    def arrive(self, now: float, row: Row) -> float:
        """Admit a request and return 0. If the limits are used up, return the seconds to wait."""
        if self.in_flight >= self.concurrency:
            return self.profile.latency_s / 4
        charge = self.charge(row)
        wait_s = max(self.requests.wait_s(now, 1), self.tokens.wait_s(now, charge))
        if wait_s:
            return wait_s
        self.requests.take(now, 1)
        self.tokens.take(now, charge)
        self.in_flight += 1
        return 0.0

    def latency_s(self) -> float:
        profile = self.profile
        return profile.latency_s * math.exp(self.rng.gauss(0, profile.spread)) * max(1.0, self.in_flight / self.slots)

    def allowed_per_s(self) -> float:
        """Return the most requests per second that the present limits allow."""
        profile = self.profile
        mean = math.exp(profile.sizes**2 / 2)
        charge = profile.prompt * mean * 1.3
        charge += profile.completion * mean if profile.charge == "usage" else profile.max_tokens
        latency_s = profile.latency_s * math.exp(profile.spread**2 / 2) + 0.022  # plus the round trip
        return min(
            self.requests.per_s, self.tokens.per_s / charge, self.concurrency / latency_s, self.slots / latency_s
        )


class Client:
    """A client with one lane and an endless supply of requests."""

    def __init__(self, sim: Simulation, limits: Limits) -> None:
        self.sim = sim
        self.governor = Governor(limits, 0.0)
        self.due: collections.deque[Row] = collections.deque()
        self.waiting = 0
        self.next = self._new()
        self.accepted: list[float] = []
        self.charges: list[float] = []
        self.refused: list[float] = []
        self.most_throttled = 0
        self._wake = 0

    def _new(self) -> Row:
        profile, gauss = self.sim.profile, self.sim.rng.gauss
        prompt = max(1, int(profile.prompt * math.exp(gauss(0, profile.sizes))))
        completion = max(1, min(profile.max_tokens, int(profile.completion * math.exp(gauss(0, profile.sizes)))))
        return Row(prompt, int(prompt * 1.3), completion)

    def pump(self) -> None:
        """Send all requests that may be sent now, and continue when the next may be sent."""
        governor, sim = self.governor, self.sim
        while True:
            if self.due:
                row = self.due[0]
            elif self.waiting >= max(1000, 2 * governor.window):
                return
            else:
                row = self.next
            tokens = governor.estimate(row.estimate, sim.profile.max_tokens)
            wait_s = governor.wait_s(sim.now, tokens)
            if wait_s > 0:
                self._wake += 1
                if wait_s < math.inf:
                    sim.at(sim.now + wait_s + sim.rng.random() * 0.001, self.wake, self._wake)
                return
            if self.due:
                self.due.popleft()
            else:
                self.next = self._new()
            ticket = governor.admit(sim.now, tokens)
            sim.at(sim.now + sim.rng.uniform(0.002, 0.02), sim.arrive, self, row, ticket)

    def wake(self, number: int) -> None:
        if number == self._wake:
            self.pump()

    def answer(self, row: Row, ticket: Any, headers: Any) -> None:
        usage = Usage(row.prompt, row.completion, row.prompt + row.completion)
        self.governor.completed(self.sim.now, ticket, row.estimate, usage)
        if headers:
            self.governor.follow(self.sim.now, ticket, headers)
        self.pump()

    def refuse(self, row: Row, ticket: Any, retry_after_s: float | None, headers: Any) -> None:
        sim = self.sim
        self.refused.append(sim.now)
        row.throttled += 1
        self.most_throttled = max(self.most_throttled, row.throttled)
        self.governor.throttled(sim.now, ticket, retry_after_s)
        self.governor.settle(ticket, 0)
        if headers:
            self.governor.follow(sim.now, ticket, headers)
        wait_s = retry_after_s if retry_after_s else sim.rng.uniform(0.25, min(5.0, 0.5 * 2**row.throttled))
        self.waiting += 1
        sim.at(sim.now + wait_s, self.again, row)
        self.pump()

    def again(self, row: Row) -> None:
        self.waiting -= 1
        self.due.append(row)
        self.pump()


class Simulation:
    """A provider and its clients on one clock."""

    def __init__(self, profile: Profile, seed: int = 0, clients: int = 1, concurrency: int = 2000) -> None:
        self.profile = profile
        self.rng = random.Random(seed)
        random.seed(seed)  # used by the governor
        self.now = 0.0
        self._events: list[tuple[float, int, Any, tuple[Any, ...]]] = []
        self._count = itertools.count()
        self.provider = Provider(profile, self.rng)
        self.allowed: list[tuple[float, float]] = [(0.0, self.provider.allowed_per_s())]
        limits = Limits(concurrency=concurrency)
        if profile.configured:
            limits = Limits(
                requests_per_minute=profile.rpm if profile.rpm < math.inf else None,
                tokens_per_minute=profile.tpm if profile.tpm < math.inf else None,
                concurrency=int(min(concurrency, profile.concurrency)),
            )
        self.clients = [Client(self, limits) for _ in range(clients)]

    def at(self, when: float, call: Any, *args: Any) -> None:
        heapq.heappush(self._events, (when, next(self._count), call, args))

    def arrive(self, client: Client, row: Row, ticket: Any) -> None:
        provider, profile = self.provider, self.profile
        at_random = profile.random_throttles and self.rng.random() < profile.random_throttles
        wait_s = 0.001 if at_random else provider.arrive(self.now, row)
        headers = None
        if profile.headers:
            headers = (
                provider.requests.quota(self.now) if profile.rpm < math.inf else None,
                provider.tokens.quota(self.now) if profile.tpm < math.inf else None,
            )
        back = self.now + self.rng.uniform(0.002, 0.02)
        if wait_s:
            requested_s = {"ms": math.ceil(wait_s * 1000) / 1000, "seconds": float(math.ceil(wait_s)), "none": None}
            self.at(back + 0.03, client.refuse, row, ticket, requested_s[profile.retry_after], headers)
        else:
            client.accepted.append(self.now)
            client.charges.append(provider.charge(row))
            latency_s = provider.latency_s()
            self.at(self.now + latency_s, self.leave)
            self.at(back + latency_s, client.answer, row, ticket, headers)

    def leave(self) -> None:
        self.provider.in_flight -= 1

    def _change(self) -> None:
        self.provider.change()
        self.allowed.append((self.now, self.provider.allowed_per_s()))

    def run(self, seconds: float, apart_s: float = 0.01) -> None:
        """Let so many seconds pass. The clients start one after the other, `apart_s` apart."""
        if self.profile.change_at_s < math.inf:
            self.at(self.profile.change_at_s, self._change)
        for number, client in enumerate(self.clients):
            self.at(apart_s * number, client.pump)
        while self._events and self._events[0][0] <= seconds:
            self.now, _, call, args = heapq.heappop(self._events)
            call(*args)
        self.now = seconds

    def used(self, start: float, end: float, client: int | None = None) -> float:
        """Return the requests accepted between two times, as a share of the requests allowed."""
        clients = self.clients if client is None else [self.clients[client]]
        accepted = sum(start <= at < end for c in clients for at in c.accepted)
        by_requests = accepted / self._allowance(start, end)
        if self.profile.tpm == math.inf or self.profile.change != 1:
            return by_requests
        tokens = sum(
            charge for c in clients for at, charge in zip(c.accepted, c.charges, strict=True) if start <= at < end
        )
        by_tokens = tokens / (self.provider.tokens.per_s * (end - start))
        return max(by_tokens, accepted / (self.provider.requests.per_s * (end - start)))

    def _allowance(self, start: float, end: float) -> float:
        total = 0.0
        for (begin, per_s), (stop, _) in itertools.pairwise([*self.allowed, (math.inf, 0.0)]):
            total += per_s * max(0.0, min(end, stop) - max(start, begin))
        return total

    def throttled(self, start: float, end: float) -> float:
        """Return the throttled requests between two times, as a share of the requests sent."""
        refused = sum(start <= at < end for c in self.clients for at in c.refused)
        accepted = sum(start <= at < end for c in self.clients for at in c.accepted)
        return refused / max(1, refused + accepted)

    def reached_s(self, since: float, share: float = 0.9) -> float:
        """Return the seconds from `since` until the rate reached a share of the allowed rate.

        The rate is measured over spans of 2 s or 40 requests.
        """
        times = sorted(at - since for c in self.clients for at in c.accepted if at >= since)
        per_s = next(per_s for begin, per_s in reversed(self.allowed) if begin <= since)
        count = max(math.ceil(2 * per_s), 40)
        for first, last in zip(times, times[count:], strict=False):
            if count / max(last - first, 1e-9) >= share * per_s:
                return first
        return math.inf
