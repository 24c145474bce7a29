"""How a run is getting on, and each of its lanes: counters that the engine writes and a progress bar reads.

Only the methods here change them, and all of these are called on the event loop. The bar reads them from a thread of
its own without a lock. That is fine: each attribute is replaced as a whole, so a reader sees the value before or after,
never half of one. A sum over several may be one request behind, and the next look is right.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping

import msgspec

from batchmix.records import Status, Usage
from batchmix.store.lane_log import RowCounts


class Phase(enum.StrEnum):
    """What a start is doing."""

    STARTING = "starting"
    SCANNING = "scanning"
    SENDING = "sending"
    DRAINING = "draining"
    """Nothing more is sent; requests in flight may finish."""
    SEALING = "sealing"
    """All requests have finished; the last parts are written."""


class Bottleneck(enum.StrEnum):
    """What keeps the next request of a lane from leaving, as it is shown, and stored in `run.json`."""

    NONE = ""
    REQUESTS = "requests per minute"
    TOKENS = "tokens per minute"
    WINDOW = "window"
    """The number in flight that was found to be best."""
    PAUSE = "pause"
    """The provider asked to wait."""
    OUTAGE = "outage"
    REFUSALS = "refusals"
    """The first requests were refused: it is awaited whether all are."""
    RETRIES = "retries"
    """Too many rows wait for a retry."""
    INPUT = "input"
    BUDGET = "budget"
    CONCURRENCY = "concurrency"
    """The job's ceiling of requests in flight."""
    LAST_ROWS = "last rows"
    DISK = "disk"


class Idle(enum.StrEnum):
    """Why a lane sends nothing more, as it is shown, and stored in `run.json`."""

    STOPPED = "stopped"
    NOT_CHOSEN = "not asked"
    """This start is for other models."""


class LaneStatus(RowCounts):
    """How one lane is getting on in this start."""

    results: int = 0
    """How many there will be; 0: unknown."""
    workers: int = 0
    """The most that may be in flight."""
    in_flight: int = 0
    retrying: int = 0
    """Rows that have failed in this start and will be, or are being, sent again."""
    replies: int = 0
    """HTTP responses of the provider in this start, good or bad."""
    answers: int = 0
    """Received in this start."""
    tokens: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    completion_tokens: int = 0
    usd_of: Callable[[Usage], float | None] | None = None
    """Returns what such tokens cost; None: unknown."""
    throttled: int = 0
    paused_until: float = 0.0
    """Unix time until which the provider has asked to wait, the last time that it was a long one."""
    limited_by: Bottleneck = Bottleneck.NONE
    idle: Idle | None = None
    """None: it sends."""
    tail: int | None = None
    """Of the last rows, how many wait for a retry; None: it is not yet about the last."""
    retrying_after: str = ""
    """At the tail: what those failed with that wait, such as `503, timeout`."""
    oldest_sent_at: float | None = None
    """At the tail: when the oldest request in flight was sent, on the event loop's clock (monotonic)."""

    @property
    def cost_usd(self) -> float | None:
        """About what the answers have cost so far, by the sums of their tokens; None where there is no price."""
        if self.usd_of is None:
            return self.earlier_usd
        used = Usage(
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            cached_tokens=self.cached_tokens,
            cache_write_tokens=self.cache_write_tokens,
        )
        return (self.earlier_usd or 0.0) + (self.usd_of(used) or 0.0)

    def begin(self, workers: int) -> None:
        """Record that up to so many requests may be in flight from now on."""
        self.workers = workers

    def sent(self) -> None:
        """Count a request that leaves."""
        self.in_flight += 1
        self.limited_by = Bottleneck.NONE

    def failed_once(self, *, replied: bool) -> None:
        """Count a request that returned without an answer; `replied`: with an HTTP response of the provider."""
        self.in_flight -= 1
        self.replies += replied

    def answered(self, usage: Usage) -> None:
        """Count a request that returned with an answer."""
        self.in_flight -= 1
        self.replies += 1
        self.answers += 1
        self.tokens += usage.total_tokens or 0
        if usage.prompt_tokens is not None and usage.completion_tokens is not None:  # else it has no price
            self.prompt_tokens += usage.prompt_tokens
            self.completion_tokens += usage.completion_tokens
            if usage.cached_tokens or usage.cache_write_tokens:
                self.cached_tokens += usage.cached_tokens or 0
                self.cache_write_tokens += usage.cache_write_tokens or 0

    def count_throttled(self) -> None:
        """Count a request that the provider throttled."""
        self.throttled += 1

    def limit(self, bottleneck: Bottleneck) -> None:
        """Record what keeps the next request from leaving."""
        self.limited_by = bottleneck

    def pause(self, until: float) -> None:
        """Record until when, in Unix time, the provider has asked to wait."""
        self.paused_until = until

    def count_retrying(self, rows: int) -> None:
        """Record how many rows have failed and have no outcome yet."""
        self.retrying = rows

    def show_tail(self, waiting: int, failures: Iterable[str], oldest_sent_at: float | None) -> None:
        """Record what the last rows wait for: how many for a retry, after which failures, and the oldest in flight."""
        self.tail = waiting
        self.oldest_sent_at = oldest_sent_at
        self.retrying_after = ", ".join(sorted(set(failures)))

    def stop(self, why: Idle | None) -> None:
        """Record that it sends nothing more, and why; None: it has finished."""
        self.idle = why

    def settle(self, usd: float | None, counts: Mapping[str, int] | None) -> None:
        """Take over the summary's figures: the cost of all answers, and the rows by status where these are given."""
        self.usd_of, self.earlier_usd = None, usd
        if counts is not None:
            self.ok, self.failed, self.rejected = (
                counts.get(status, 0) for status in (Status.OK, Status.FAILED, Status.REJECTED)
            )


class RunStatus(msgspec.Struct):
    """How a run is getting on."""

    phase: Phase = Phase.STARTING
    scanned: int = 0
    """Input rows seen by the scan so far."""
    results: int = 0
    """How many there will be."""
    lanes: list[LaneStatus] = []
    """One for each model, in the job's order."""
    warnings: list[str] = []

    @property
    def ok(self) -> int:
        """Answers, those of earlier starts too as far as the folder has been read."""
        return sum(lane.ok for lane in self.lanes)

    @property
    def replies(self) -> int:
        """HTTP responses of the provider in this start, good or bad."""
        return sum(lane.replies for lane in self.lanes)

    @property
    def rejected(self) -> int:
        """Results for which there is no request, or that the provider rejected."""
        return sum(lane.rejected for lane in self.lanes)

    @property
    def failed(self) -> int:
        """Results that failed in this start."""
        return sum(lane.failed for lane in self.lanes)

    @property
    def finished(self) -> int:
        """Results of any status."""
        return sum(lane.finished for lane in self.lanes)

    @property
    def cost_usd(self) -> float | None:
        """About what the answers have cost so far; None where there is no price."""
        costs = [usd for lane in self.lanes if (usd := lane.cost_usd) is not None]
        return sum(costs) if costs else None

    def enter(self, phase: Phase) -> None:
        """Record what the start does from now on."""
        self.phase = phase

    def scan(self, rows: int) -> None:
        """Record how many rows of the input were read."""
        self.scanned = rows

    def begin(self, lanes: list[LaneStatus], results: int) -> None:
        """Record what there is to do."""
        self.lanes, self.results = lanes, results

    def warn(self, messages: Iterable[str]) -> None:
        """Add what a person should know at the end."""
        self.warnings.extend(messages)
