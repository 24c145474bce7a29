"""How fast a run was over the time that it was at work, start by start, and what limited it."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from itertools import pairwise

import msgspec
import numpy as np

from batchmix.evaluate.metrics import Floats, Ints
from batchmix.store.run_folder import RunFile, Start

_SLOTS = 64
_ANSWERS_A_SLOT = 4
"""On average; a short run has fewer slots."""


class Limited(msgspec.Struct, frozen=True):
    """What limited a model for a while, in shares of the whole time."""

    begin: float
    end: float
    what: str


class Timeline(msgspec.Struct, frozen=True):
    """A run's starts one after the other, without the time between them."""

    span_s: float
    rates: dict[str, list[float]]
    """By model: answers per second in equal slots."""
    limited_by: dict[str, list[Limited]]
    """By model, as far as it is known: a start that was killed leaves nothing."""
    restarts: list[float]
    """Where another start began, in shares of the whole time."""


def timeline(run: RunFile, times: Mapping[str, tuple[Ints, Ints]]) -> Timeline | None:
    """Return a run's course from when each model's answers were sent and had come, in milliseconds (Unix time, UTC).

    None where nothing was sent.
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
    slots = int(np.clip(len(finished) / len(times) / _ANSWERS_A_SLOT, 4, _SLOTS))

    def rates(came: Ints) -> list[float]:
        at = np.clip(np.searchsorted(begins, came, side="right") - 1, 0, None)
        places: Floats = offsets[at] + np.clip(came - begins[at], 0, lengths[at])
        counts, _ = np.histogram(places, bins=slots, range=(0.0, whole))
        return [float(count) for count in counts / (whole / slots / 1000)]

    return Timeline(
        span_s=whole / 1000,
        rates={model: rates(came) for model, (_, came) in times.items()},
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
    """Return each start from which there are answers, with when the first was sent and the last had come."""
    begins = [_ms(start.at) for start in starts] or [0.0]
    begins[0] = min(begins[0], float(sent.min()))
    found = []
    for start, (begin, end) in zip(starts or [Start("", 0, "")], pairwise([*begins, np.inf]), strict=True):
        mine = (sent >= begin) & (sent < end)
        if mine.any():
            found.append((start, float(sent[mine].min()), float(finished[mine].max())))
    return found


def _limited(spans: list[tuple[float, str]], shares: Floats, whole_ms: float) -> list[Limited]:
    """Return the spans of one start, cut off where it ended."""
    first, last = float(shares[0]), float(shares[1])
    begins = [min(last, first + second * 1000 / whole_ms) for second, _ in spans]
    pairs = zip(pairwise([*begins, last]), spans, strict=True)
    return [Limited(begin, end, what) for (begin, end), (_, what) in pairs if end > begin]


def _ms(text: str) -> float:
    """Return a moment of run.json; the beginning of time where that is damaged."""
    try:
        return datetime.datetime.fromisoformat(text).timestamp() * 1000
    except (ValueError, OverflowError):
        return 0.0
