"""A simulated provider: its limits, how long its answers take, and the most that it could have let in."""

from __future__ import annotations

import bisect
import dataclasses
import heapq
import itertools
import math
import random
from collections.abc import Iterator

import numpy as np

from batchmix.engine.retries import RowAttempts
from batchmix.records import Quota
from tests.pacing.rules import Rule, meter, quota

CEILING = 2000
"""The most requests in flight that a job allows."""
ROWS_AT_ONCE = 256
"""How many rows are drawn at once, because that is faster."""


@dataclasses.dataclass(frozen=True)
class Profile:
    """The behaviour of a provider, and the requests that are sent to it."""

    name: str
    rules: tuple[Rule, ...] = ()
    concurrency: float = math.inf
    """The most requests that are served at once."""
    queue: float = 0
    """How many more wait until one of those is done. All others are refused at once."""
    queue_s: float = math.inf
    """The longest that one waits there before it is refused."""
    latency_s: float = 1.0
    """The median latency of the answers."""
    spread: float = 0.3
    """The sigma of the logarithm of the latency."""
    slots: float = math.inf
    """The most requests in flight that do not slow each other down. Beyond, the latency grows in proportion."""
    batch: float = math.inf
    """So many requests in flight double the latency, twice as many triple it, as in a batch on a GPU."""
    retry_after: str | float = "seconds"
    """The wait that a refusal states: exactly (`ms`), rounded up (`seconds`), not at all (`none`), or always so many
    seconds, whatever is true."""
    status: int = 429
    """The HTTP status of refusals: 429, 503 with a page that says nothing of limits, or 500, an error like any other."""
    bare: bool = False
    """Whether refusals have no headers that report limits, although answers do."""
    strays: float = 0.0
    """The share of requests that is refused at random."""
    stray_status: int = 429
    """The HTTP status of those."""
    outage: tuple[float, float] = (math.inf, math.inf)
    """From when to when all requests get a 503."""
    workers: int = 1
    """Processes of the provider: each has its part of the limits, and the requests come to any of them."""
    network_s: tuple[float, float] = (0.002, 0.02)
    """The shortest and the longest time on the network, one way."""
    course: tuple[tuple[float, float], ...] = ()
    """Times in seconds, and the factor by which the limits are multiplied from then on."""
    prompt: float = 200.0
    """The median of the estimated prompt tokens."""
    prompt_ratio: float = 1.3
    """Reported prompt tokens per estimated one."""
    overhead: int = 0
    """Tokens that the provider charges beside the reported ones."""
    completion: float = 100.0
    sizes: float = 0.4
    """The sigma of the logarithm of prompt and completion tokens."""
    max_tokens: int = 400
    rows: int | None = None
    """How many requests there are. None means without end."""
    told: bool = False
    """Whether the job states the limits."""

    def told_per_minute(self, *, requests: bool) -> float | None:
        """Return the limit that a job could state, of requests or of tokens."""
        limits = (rule.per_minute for rule in self.rules if (rule.counts == "requests") is requests)
        return min(limits, default=None)

    @property
    def reports(self) -> bool:
        """Whether headers report any limit."""
        return any(rule.reported for rule in self.rules)


@dataclasses.dataclass(slots=True, eq=False)
class Row:
    """A request. `slowness` is its latency beside the median one."""

    estimate: int
    prompt: int
    completion: int
    slowness: float
    attempts: RowAttempts | None = None
    sent_at: float = 0.0


def rows(profile: Profile, seed: int, client: int = 0) -> Iterator[Row]:
    """Yield the requests of a client."""
    rng = np.random.default_rng([seed, client])
    sigmas = (profile.sizes, profile.sizes, profile.spread)
    left = math.inf if profile.rows is None else profile.rows
    while left > 0:
        factors = np.exp(rng.standard_normal((ROWS_AT_ONCE, 3)) * sigmas).tolist()
        for longer, wordier, slowness in factors[: int(min(left, ROWS_AT_ONCE))]:
            prompt = max(1, int(profile.prompt * longer))
            completion = max(1, min(profile.max_tokens, int(profile.completion * wordier)))
            yield Row(prompt, int(prompt * profile.prompt_ratio), completion, slowness)
        left -= ROWS_AT_ONCE


class Provider:
    """The limits of a profile in use."""

    def __init__(self, profile: Profile, seed: int, *, foresees: bool = False) -> None:
        self.profile = profile
        self._foresees = foresees  # charges an answer when its request comes
        self._rng = random.Random(f"phase {seed}")
        self.minute_at = -60 * self._rng.random()
        """When a minute of the clock began."""
        parts = [dataclasses.replace(rule, per_minute=rule.per_minute / profile.workers) for rule in profile.rules]
        self._workers = [[(rule, meter(rule, self.minute_at)) for rule in parts] for _ in range(profile.workers)]
        self._meters = self._workers[0]
        self.concurrency = profile.concurrency
        self.slots = profile.slots
        self.serving = 0
        self._factor = 1.0

    def route(self) -> None:
        """Let any worker take the next request."""
        if len(self._workers) > 1:
            self._meters = self._rng.choice(self._workers)

    def change(self, now: float, factor: float) -> None:
        """Multiply the original limits by `factor`."""
        by, self._factor = factor / self._factor, factor
        for _, used in itertools.chain(*self._workers):
            used.scale(now, by)
        self.concurrency *= by
        self.slots *= by

    def _amount(self, rule: Rule, row: Row) -> float:
        if rule.counts == "requests":
            return 1.0
        if rule.counts == "output":
            return row.completion
        tokens = row.prompt + self.profile.overhead
        if rule.counts == "input":
            return tokens
        return tokens + (row.completion if rule.counts == "usage" else self.profile.max_tokens)

    def _is_late(self, rule: Rule) -> bool:
        return rule.counts == "output" and not self._foresees

    def wait_s(self, now: float, row: Row) -> float:
        """Return the seconds until the rules let a request in, and take nothing."""
        wait_s = 0.0
        for rule, used in self._meters:
            missing_s = used.wait_s(now, 1.0 if self._is_late(rule) else self._amount(rule, row))
            wait_s = missing_s if missing_s > wait_s else wait_s
        return wait_s

    def enter(self, now: float, row: Row) -> None:
        """Let a request in."""
        for rule, used in self._meters:
            if not self._is_late(rule):
                used.take(now, self._amount(rule, row))

    def serve(self, row: Row) -> float:
        """Begin to serve a request; return its latency."""
        self.serving += 1
        load = max(1.0, self.serving / self.slots) + self.serving / self.profile.batch
        return self.profile.latency_s * row.slowness * load

    def leave(self, now: float, row: Row) -> None:
        """End a request that was served."""
        self.serving -= 1
        for rule, used in self._meters:
            if self._is_late(rule):
                used.take(now, self._amount(rule, row))

    def quotas(self, now: float) -> tuple[Quota | None, Quota | None]:
        """Return what headers report of requests and of tokens."""
        found: list[Quota | None] = [None, None]
        for rule, used in self._meters:
            if rule.reported:
                found[rule.counts != "requests"] = quota(rule, used, now)
        return found[0], found[1]


class Best:
    """What a client could have had that knows the limits: as many requests as they let in, each as soon as they do.

    It foresees how long answers will be, where they are charged, and the provider's workers share their limits.
    """

    def __init__(self, profile: Profile, seed: int, seconds: float) -> None:
        self._entered: list[float] = []
        self.finished_s = 0.0
        """When the last answer has arrived."""
        provider = Provider(dataclasses.replace(profile, workers=1), seed, foresees=True)
        course = [*reversed(profile.course)]
        ends: list[tuple[float, int, Row]] = []
        round_trip_s = sum(profile.network_s)
        now = 0.0
        for row in rows(profile, seed):
            while wait_s := self._wait_s(provider, now, row, ends):
                now += max(wait_s, 1e-9)  # else rounding might stop the clock
                if course and course[-1][0] <= now:
                    now, factor = course.pop()
                    provider.change(now, factor)
                while ends and ends[0][0] <= now:
                    provider.leave(now, heapq.heappop(ends)[2])
            if now >= seconds:
                break
            self._entered.append(now)
            provider.enter(now, row)
            end = now + provider.serve(row) + round_trip_s
            heapq.heappush(ends, (end, len(self._entered), row))
            self.finished_s = max(self.finished_s, end)

    @staticmethod
    def _wait_s(provider: Provider, now: float, row: Row, ends: list[tuple[float, int, Row]]) -> float:
        most = min(provider.concurrency, provider.slots, CEILING)
        busy_s = ends[0][0] - now if provider.serving >= max(1.0, most) else 0.0
        return max(busy_s, provider.wait_s(now, row))

    def entered(self, start: float, end: float) -> int:
        """Return how many requests were let in between two times."""
        return bisect.bisect_left(self._entered, end) - bisect.bisect_left(self._entered, start)
