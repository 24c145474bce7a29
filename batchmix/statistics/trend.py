"""Finds a slow fall of a score over many nights, each of which is too small for the comparison of two runs.

Each night, the last nights are compared with those before them, over several lengths of both. This is the changepoint
model of Hawkins, Qiu and Kang, "The Changepoint Model for Statistical Process Control" (2003): the level before the
change is not known beforehand, and the probability of a false alarm is bounded on each night, so that the number of
false alarms in a month is bounded too. In place of all changepoints there are windows of doubling lengths, and in
place of a simulated limit there is Bonferroni's, which holds whatever the windows have in common.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import NormalDist

import msgspec
import numpy as np

from batchmix.statistics.metrics import Floats

SHORTEST = 4
"""The fewest nights that are a window. One odd night is for the comparison of two runs."""
_LASTING = 0.5
"""The share of the fall that the last nights, and the very last, must still have. A fall that is over is no alarm."""
_NIGHTS_PER_MONTH = 365.25 / 12


class Night(msgspec.Struct, frozen=True):
    """The mean score of one night."""

    mean: float
    rows: int
    """The number of rows, or of clusters of rows, that the mean is of."""
    noise: float | None = None
    """The standard error of the mean if the same rows were asked again.

    It is that of the paired difference between two nights, divided by √2. None if it is not known for this night.
    """
    restart: bool = False
    """Whether this night can't be compared with those before: the dataset has changed, or a new level was accepted."""


class Trend(msgspec.Struct, frozen=True):
    """What the nights say about a fall of the score."""

    alarm: bool
    nights: int
    """The number of nights since the last restart."""
    statistic: float = 0.0
    """The largest fall of the last nights, in standard errors. It is an alarm if it is larger than the bound."""
    bound: float = math.inf
    """The bound of the statistic. Infinite if there are too few nights."""
    since: int | None = None
    """The index of the night with which the lower scores begin, in the sequence of nights. None without a fall."""
    before: float | None = None
    """The mean score before `since`."""
    after: float | None = None
    """The mean score from `since` on."""


def trend(
    nights: Sequence[Night], rate_per_month: float, tests: int = 1, nights_per_month: float = _NIGHTS_PER_MONTH
) -> Trend:
    """Return whether the score of a job falls slowly. The last night is the one that is judged.

    Without a fall, at most `rate_per_month` nights of a month are alarms in the mean. `tests` is the number of scores
    that are watched together, which share this rate.
    """
    first = max((at for at, night in enumerate(nights) if night.restart), default=0)
    chosen = nights[first:]
    contrasts = list(_contrasts(len(chosen)))
    if not contrasts:
        return Trend(alarm=False, nights=len(chosen))
    means = np.array([night.mean for night in chosen])
    weights = np.array([float(night.rows) for night in chosen])
    noise = _noise(chosen, means, weights)
    level = rate_per_month / nights_per_month / max(1, tests) / len(contrasts)
    bound = -NormalDist().inv_cdf(min(0.5, level))
    falls = [_fall(means, weights, noise, begin, turn) for begin, turn in contrasts]
    largest = max(range(len(falls)), key=lambda at: falls[at])
    begin, turn = contrasts[largest]
    return Trend(
        alarm=falls[largest] > bound,
        nights=len(chosen),
        statistic=falls[largest],
        bound=bound,
        since=first + turn if falls[largest] > 0 else None,
        before=float(np.average(means[begin:turn], weights=weights[begin:turn])),
        after=float(np.average(means[turn:], weights=weights[turn:])),
    )


def _contrasts(count: int) -> Iterator[tuple[int, int]]:
    """Yield the begin of the earlier nights and of the later ones, which go to the end, for each comparison.

    The later nights are 4, 8, 16, …; the earlier ones as many, twice as many and so on, and all that there are: a score
    that had risen long ago is compared with what it was just before it fell.
    """
    later = SHORTEST
    while later + SHORTEST <= count:
        turn, earlier = count - later, max(later, SHORTEST)
        while earlier < turn:
            yield turn - earlier, turn
            earlier *= 2
        yield 0, turn
        later *= 2


def _noise(nights: Sequence[Night], means: Floats, weights: Floats) -> float:
    """Return the variance of a night's mean times its number of rows, pooled over all nights.

    It is that of the same rows asked again, or that of successive nights if it is larger: something may differ from
    night to night that rows of one night share. Successive differences (von Neumann 1941) hardly see a slow fall.
    One answer that turns wrong and right again is added, so that a few nights without any difference are not certain.
    """
    known = [(night.noise**2 * night.rows**2, night.rows) for night in nights if night.noise is not None]
    asked_again = (sum(square for square, _ in known) + 1.0) / max(1, sum(rows for _, rows in known))
    steps = np.diff(means) ** 2 / (1 / weights[1:] + 1 / weights[:-1])
    return max(asked_again, float(steps.mean()))


def _fall(means: Floats, weights: Floats, noise: float, begin: int, turn: int) -> float:
    """Return by how many standard errors the later nights are below the earlier ones. 0 if the fall is over."""
    before = float(np.average(means[begin:turn], weights=weights[begin:turn]))
    fall = before - float(np.average(means[turn:], weights=weights[turn:]))
    last = before - float(np.average(means[-SHORTEST:], weights=weights[-SHORTEST:]))
    if min(last, before - float(means[-1])) < _LASTING * fall:
        return 0.0
    error = math.sqrt(noise * (1 / float(weights[begin:turn].sum()) + 1 / float(weights[turn:].sum())))
    return fall / error
