"""How far each model of a run is, how fast it goes, and how long it will take."""

from __future__ import annotations

import collections
import time
from collections.abc import Iterable, Sequence

import msgspec

from batchmix.engine.bottlenecks import bottleneck_of
from batchmix.engine.run_status import LaneStatus, Phase, RunStatus
from batchmix.formats.display import clean
from batchmix.records import Bottleneck
from batchmix.store.answer_totals import AnswerTotals

_SPAN_S = 10.0
"""Seconds over which rates are averaged."""
_MAX_CHARS = 4_000
"""The most characters of a text that is shown."""

Rates = Sequence[tuple[float, float]]
"""For each lane, the answers and the tokens per second."""


class ModelProgress(msgspec.Struct, frozen=True):
    """The progress of one model."""

    model: str
    finished: int
    results: int
    """The number of results once the run is complete; 0 if unknown."""
    failed: int
    answers_per_s: float
    cost_usd: float | None
    limited_by: str
    idle: bool = False
    """Whether no more requests are sent to the model."""
    checked: AnswerTotals | None = None
    """How its answers fared in the check. None if the job has no schema."""

    @property
    def left_s(self) -> float | None:
        """The seconds until the model is finished at this rate. None if unknown."""
        left = self.results - self.finished
        return left / self.answers_per_s if self.answers_per_s > 0 and left > 0 and not self.idle else None


def model_progress(run_status: RunStatus, rates: Rates) -> list[ModelProgress]:
    """Return the progress of each model of the run in this process."""
    return [
        ModelProgress(
            shown_text(run_status, lane.model),
            lane.finished,
            lane.results,
            lane.failed + lane.rejected,
            answers_per_s,
            lane.cost_usd,
            "done"
            if lane.finished >= lane.results > 0
            else bottleneck_of(run_status, lane) + pause_end([lane], " until {}"),
            bool(lane.idle) or run_status.phase is not Phase.SENDING,
            lane.checked,
        )
        for lane, (answers_per_s, _) in zip(
            run_status.lanes, [*rates, *[(0.0, 0.0)] * len(run_status.lanes)], strict=False
        )
    ]


def left_s(models: Iterable[ModelProgress]) -> float | None:
    """Return the seconds until the last model is finished. None if unknown."""
    active = [model for model in models if model.finished < model.results and not model.idle]
    each = [model.left_s for model in active]
    return None if None in each else max(filter(None, each), default=None)


class RateMeter:
    """Measures the answers and tokens per second of each lane (one per model)."""

    def __init__(self, run_status: RunStatus) -> None:
        self._run_status = run_status
        self._seen: collections.deque[tuple[float, list[tuple[int, int]]]] = collections.deque()

    def now(self) -> Rates:
        """Return the rates over the last seconds."""
        counts = [(lane.answers, lane.tokens) for lane in self._run_status.lanes]
        if self._seen and len(counts) != len(self._seen[-1][1]):
            self._seen.clear()  # the lanes have just been created
        self._seen.append((time.monotonic(), counts))
        while len(self._seen) > 2 and self._seen[-1][0] - self._seen[0][0] > _SPAN_S:
            self._seen.popleft()
        (then, before), (at, now) = self._seen[0], self._seen[-1]
        span = max(at - then, 1e-9)
        return [
            ((answers - answers_then) / span, (tokens - tokens_then) / span)
            for (answers_then, tokens_then), (answers, tokens) in zip(before, now, strict=True)
        ]


def shown_text(run_status: RunStatus, text: str) -> str:
    """Return text that is safe to show: secrets masked, control codes escaped."""
    return clean(run_status.secrets.redacted_text(text), _MAX_CHARS)


def pause_end(lanes: list[LaneStatus], template: str) -> str:
    """Return `template` with the time at which a pause requested by the provider ends. Empty if there is no pause."""
    until = max((lane.paused_until for lane in lanes if lane.limited_by is Bottleneck.PAUSE), default=0.0)
    if until <= time.time():
        return ""
    return template.format(time.strftime("%H:%M:%S", time.localtime(until)))
