"""The progress of a run and of its lanes: counters that the engine updates and the progress bar reads.

Only methods of these classes change the counters, and only the run's own thread calls them: before, on and after its
event loop. The progress bar reads the counters in its own thread without a lock. That is safe because each attribute is
replaced as a whole, and lists are only appended to. A sum over several counters may be one request behind for a moment.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping

import msgspec

from batchmix.records import Bottleneck, Status, Usage
from batchmix.redact import Secrets
from batchmix.store.answer_totals import AnswerTotals, totals_of
from batchmix.store.lane_log import RowCounts


class Phase(enum.StrEnum):
    """The phases of a start."""

    STARTING = "starting"
    SCANNING = "scanning"
    SENDING = "sending"
    DRAINING = "draining"
    """Nothing more is sent; requests in flight may finish."""
    SEALING = "sealing"
    """All requests have finished; the last parts are written."""


class Idle(enum.StrEnum):
    """The reason why a lane sends nothing more. The values are shown, and stored in `run.json`."""

    STOPPED = "stopped"
    NOT_CHOSEN = "not asked"
    """This start was limited to other models."""


class LaneStatus(RowCounts):
    """The progress of one lane in this start."""

    results: int = 0
    """Number of results that the lane will have; 0 if unknown."""
    max_in_flight: int = 0
    in_flight: int = 0
    retrying: int = 0
    """Number of rows whose last request failed and that wait for a retry or are being retried."""
    replies: int = 0
    """Number of HTTP responses from the provider in this start, whatever their status."""
    answers: int = 0
    """Number of answers received in this start."""
    tokens: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    completion_tokens: int = 0
    usd_of: Callable[[Usage], float | None] | None = None
    """A function that returns the cost of the lane's tokens in USD; None if the price is unknown."""
    throttled: int = 0
    paused_until: float = 0.0
    """Unix time at which the last long pause ends; 0 if there was no long pause."""
    limited_by: Bottleneck = Bottleneck.NONE
    idle: Idle | None = None
    """Why the lane sends nothing; None if it is sending or has finished."""
    tail: int | None = None
    """How many of the last rows wait for a retry. None until only the last rows are left."""
    retrying_after: str = ""
    """The failures of the last rows that wait for a retry, such as `503, timeout`."""
    oldest_sent_at: float | None = None
    """When the oldest of the last requests in flight was sent, on the event loop's clock (monotonic)."""

    @property
    def cost_usd(self) -> float | None:
        """The cost of all answers so far, estimated from their total tokens; None if the price is unknown."""
        if self.usd_of is None:
            return self.earlier_usd
        used = Usage(
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            cached_tokens=self.cached_tokens,
            cache_write_tokens=self.cache_write_tokens,
        )
        return (self.earlier_usd or 0.0) + (self.usd_of(used) or 0.0)

    def set_max_in_flight(self, max_in_flight: int) -> None:
        """Set the number of requests that this lane may have in flight."""
        self.max_in_flight = max_in_flight

    def sent(self) -> None:
        """Count a request that is sent."""
        self.in_flight += 1
        self.limited_by = Bottleneck.NONE

    def failed_once(self, *, replied: bool) -> None:
        """Count a request that returned without an answer. `replied` says whether the provider responded at all."""
        self.in_flight -= 1
        self.replies += replied

    def answered(self, usage: Usage, *, is_valid: bool = True) -> None:
        """Count a request that returned with an answer. `is_valid` is False if it does not fit the job's schema."""
        self.in_flight -= 1
        self.replies += 1
        self.answers += is_valid
        self.tokens += usage.total_tokens or 0
        if usage.prompt_tokens is not None and usage.completion_tokens is not None:  # else the answer has no price
            self.prompt_tokens += usage.prompt_tokens
            self.completion_tokens += usage.completion_tokens
            if usage.cached_tokens or usage.cache_write_tokens:
                self.cached_tokens += usage.cached_tokens or 0
                self.cache_write_tokens += usage.cache_write_tokens or 0

    def count_throttled(self) -> None:
        """Count a request that the provider throttled."""
        self.throttled += 1

    def limit(self, bottleneck: Bottleneck) -> None:
        """Set the reason why the next request can't be sent yet."""
        self.limited_by = bottleneck

    def pause(self, until: float) -> None:
        """Set the Unix time at which a long pause ends."""
        self.paused_until = until

    def set_retrying(self, rows: int) -> None:
        """Set the number of rows whose last request failed and that wait for a retry or are being retried."""
        self.retrying = rows

    def show_tail(self, waiting: int, failures: Iterable[str], oldest_sent_at: float | None) -> None:
        """Set the state of the last rows: how many wait for a retry, after which failures, and the oldest in flight."""
        self.tail = waiting
        self.oldest_sent_at = oldest_sent_at
        self.retrying_after = ", ".join(sorted(set(failures)))

    def stop(self, why: Idle | None) -> None:
        """Record that the lane sends nothing more, and the reason; None if the lane has finished."""
        self.idle = why

    def settle(self, usd: float | None, counts: Mapping[str, int] | None, checked: AnswerTotals | None) -> None:
        """Replace the counters by the summary's figures: the cost of all answers and, if given, the rows.

        `counts` are the rows by status, and `checked` says how their answers fared.
        """
        self.usd_of, self.earlier_usd = None, usd
        if counts is not None:
            self.checked = checked
            self.ok, self.failed, self.rejected = (
                counts.get(status, 0) for status in (Status.OK, Status.FAILED, Status.REJECTED)
            )


class RunStatus(msgspec.Struct):
    """The progress of a run."""

    phase: Phase = Phase.STARTING
    scanned: int = 0
    """Number of input rows that the scan has read so far."""
    results: int = 0
    """Number of results that the run will have."""
    lanes: list[LaneStatus] = []
    """The status of each lane; there is one lane per model, in the job's order."""
    warnings: list[str] = []
    secrets: Secrets = Secrets()
    """The run's secrets, to be masked wherever the progress is shown."""

    @property
    def ok(self) -> int:
        """Number of answers. Answers of earlier starts are included as far as the folder has been read."""
        return sum(lane.ok for lane in self.lanes)

    @property
    def replies(self) -> int:
        """Number of HTTP responses from the provider in this start, whatever their status."""
        return sum(lane.replies for lane in self.lanes)

    @property
    def rejected(self) -> int:
        """Number of results whose row gave no request, or whose request the provider rejected."""
        return sum(lane.rejected for lane in self.lanes)

    @property
    def failed(self) -> int:
        """Number of results that failed in this start."""
        return sum(lane.failed for lane in self.lanes)

    @property
    def checked(self) -> AnswerTotals | None:
        """How the answers fared in the check. None if the job has no schema."""
        return totals_of(lane.checked for lane in self.lanes)

    @property
    def finished(self) -> int:
        """Number of results of any status."""
        return sum(lane.finished for lane in self.lanes)

    @property
    def cost_usd(self) -> float | None:
        """The estimated cost of all answers so far; None if no price is known."""
        costs = [usd for lane in self.lanes if (usd := lane.cost_usd) is not None]
        return sum(costs) if costs else None

    def hide(self, secrets: Secrets) -> None:
        """Set the run's secrets, to be masked wherever the progress is shown."""
        self.secrets = secrets

    def enter(self, phase: Phase) -> None:
        """Set the phase of the start."""
        self.phase = phase

    def set_scanned(self, rows: int) -> None:
        """Set the number of input rows that the scan has read so far."""
        self.scanned = rows

    def begin(self, lanes: list[LaneStatus], results: int) -> None:
        """Set the lanes, and the number of results that the run will have."""
        self.lanes, self.results = lanes, results

    def warn(self, messages: Iterable[str]) -> None:
        """Add warnings to show at the end of the run."""
        self.warnings.extend(messages)
