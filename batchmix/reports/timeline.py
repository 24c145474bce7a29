"""Computes the speed of a run over its active time, and what limited the speed.

The active time leaves out the pauses between the run's starts.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from itertools import pairwise

import msgspec
import numpy as np

from batchmix.statistics.metrics import Floats, Ints
from batchmix.store.run_folder import RunFile, Start

_SLOTS = 64
"""The most time slots of a run. The report's chart can't show more."""
_ANSWERS_PER_SLOT = 4
"""The fewest answers per slot, on average. A run with few answers has fewer slots."""


class LimitSpan(msgspec.Struct, frozen=True):
    """A span of time, in shares of the run's active time, in which one thing limited a model's speed."""

    begin: float
    end: float
    limit: str
    """What limited the speed, as a key of `metric_text.LIMITS`."""


class Timeline(msgspec.Struct, frozen=True):
    """The speed of each model over a run's active time, which is all its starts without the pauses between them."""

    span_s: float
    rates: dict[str, list[float]]
    """By model: answers per second in time slots of equal length."""
    limited_by: dict[str, list[LimitSpan]]
    """By model: the spans in which something limited its speed. A start that was killed has none."""
    restarts: list[float]
    """The times at which the run was started again, in shares of the active time."""


def timeline(run: RunFile, times: Mapping[str, tuple[Ints, Ints]]) -> Timeline | None:
    """Return a run's timeline. None if no request was sent.

    `times` has for each model when its requests were sent and when their answers arrived, in ms (Unix time).
    """
    sent = np.concatenate([pair[0] for pair in times.values()] or [np.zeros(0, np.int64)])
    if not len(sent):
        return None
    finished = np.concatenate([pair[1] for pair in times.values()])
    stretches = _stretches(run.starts, sent, finished)
    begins, ends = (np.array([stretch[at] for stretch in stretches], np.float64) for at in (1, 2))
    lengths = np.maximum(1.0, ends - begins)
    offsets = np.concatenate([[0.0], np.cumsum(lengths)])
    whole = float(offsets[-1])
    slots = int(np.clip(len(finished) / len(times) / _ANSWERS_PER_SLOT, 4, _SLOTS))

    def rates(received: Ints) -> list[float]:
        at = np.clip(np.searchsorted(begins, received, side="right") - 1, 0, None)
        places: Floats = offsets[at] + np.clip(received - begins[at], 0, lengths[at])
        counts, _ = np.histogram(places, bins=slots, range=(0.0, whole))
        return [float(count) for count in counts / (whole / slots / 1000)]

    return Timeline(
        span_s=whole / 1000,
        rates={model: rates(received) for model, (_, received) in times.items()},
        limited_by={
            model: [
                limited
                for number, (start, *_) in enumerate(stretches)
                for limited in _limited(start.limited_by.get(model, []), offsets[number : number + 2] / whole, whole)
            ]
            for model in times
        },
        restarts=[float(offset) / whole for offset in offsets[1:-1]],
    )


def _stretches(starts: list[Start], sent: Ints, finished: Ints) -> list[tuple[Start, float, float]]:
    """Return each start that has answers, with the times of its first request and of its last answer."""
    begins = [_ms(start.at) for start in starts] or [0.0]
    begins[0] = min(begins[0], float(sent.min()))
    stretches = []
    for start, (begin, end) in zip(starts or [Start("", 0, "")], pairwise([*begins, np.inf]), strict=True):
        in_start = (sent >= begin) & (sent < end)
        if in_start.any():
            stretches.append((start, float(sent[in_start].min()), float(finished[in_start].max())))
    return stretches


def _limited(spans: list[tuple[float, str]], shares: Floats, whole_ms: float) -> list[LimitSpan]:
    """Return what limited one start, as spans of the run's active time.

    `shares` are the begin and the end of the start, as shares of that time.
    """
    first, last = float(shares[0]), float(shares[1])
    begins = [min(last, first + second * 1000 / whole_ms) for second, _ in spans]
    pairs = zip(pairwise([*begins, last]), spans, strict=True)
    return [LimitSpan(begin, end, limit) for (begin, end), (_, limit) in pairs if end > begin]


def _ms(text: str) -> float:
    """Return a time from run.json in milliseconds. 0 if the text is not a valid time."""
    try:
        return datetime.datetime.fromisoformat(text).timestamp() * 1000
    except (ValueError, OverflowError):
        return 0.0
