"""The exact test of paired differences: their sum, compared with what it would be if each sign were random.

This is the test of Fisher, "The Design of Experiments" (1935), section 21. For differences of one size, such as those
of scores of 0 and 1, it is the exact test of McNemar (1947).
"""

from __future__ import annotations

import math

import numpy as np

from batchmix.statistics.metrics import Floats, Ints

_TIE = 1e-9
"""Sums that differ by less than this share of the largest difference are the same."""
_BINOMIAL = 1_000
"""The most differences of one size for which the binomial distribution is summed up."""
_ALL = 15
"""The most differences for which all signs are tried."""
_STEPS = 20_000_000
"""The most work for which the distribution is computed step by step: differences times steps away from 0."""
_FINEST = 12
"""The most steps that the smallest difference is split into, in order to find a step that all are multiples of."""


def sign_flip_p(differences: Floats) -> float:
    """Return the probability that the sum of the differences is this small, or smaller, if their signs are random.

    This is the one-sided p-value of a fall. It is exact for up to 15 differences, for up to 1,000 of one size, and if
    all are multiples of one step, such as those of grades from 1 to 5. Otherwise it is approximated.
    """
    moved = moved_of(differences)
    if not len(moved):
        return 1.0
    sizes = np.abs(moved)
    largest = float(sizes.max())
    if np.all(np.abs(sizes - largest) <= _TIE * largest):
        return _of_one_size(len(moved), int((moved > 0).sum()))
    if len(moved) <= _ALL:
        return _of_all_signs(moved, _TIE * largest)
    steps = _in_steps(moved)
    return _of_steps(steps) if steps is not None else _saddlepoint(sizes, float(moved.sum()))


def moved_of(differences: Floats) -> Floats:
    """Return the differences that are not 0."""
    return differences[np.abs(differences) > 1e-12]


def least_p(count: int) -> float:
    """Return the smallest p-value that so many differences could have, whatever their signs."""
    return math.ldexp(1.0, -min(1_000, count))


def _of_one_size(count: int, rises: int) -> float:
    if count > _BINOMIAL:
        return math.erfc((count - 2 * rises - 1) / math.sqrt(2 * count)) / 2  # -1: the sum moves in steps of two
    return float(sum(math.comb(count, k) for k in range(rises + 1)) / 2**count)


def _of_all_signs(moved: Floats, tie: float) -> float:
    sums = np.zeros(1)
    for size in np.abs(moved):
        sums = np.concatenate([sums - size, sums + size])
    return float((sums <= float(moved.sum()) + tie).mean())


def _in_steps(moved: Floats) -> Ints | None:
    """Return the differences as multiples of one step. None if no step fits all, or if they are too many steps."""
    smallest = float(np.abs(moved).min())
    for parts in range(1, _FINEST + 1):
        steps = moved * parts / smallest
        whole = np.rint(steps)
        if np.abs(whole).sum() * len(moved) > _STEPS:
            return None
        if np.all(np.abs(steps - whole) <= 1e-6):
            return whole.astype(np.int64)
    return None


def _of_steps(steps: Ints) -> float:
    """Return the p-value from the distribution of the sum, step by step (Pagano and Tritchler 1983)."""
    furthest = int(np.abs(steps).sum())
    chances = np.zeros(2 * furthest + 1)
    chances[furthest] = 1.0
    for size in np.abs(steps):
        halves = np.zeros_like(chances)
        halves[:-size] += chances[size:] / 2
        halves[size:] += chances[:-size] / 2
        chances = halves
    return min(1.0, float(chances[: furthest + int(steps.sum()) + 1].sum()))


def _saddlepoint(sizes: Floats, total: float) -> float:
    """Return the p-value by the saddlepoint approximation (Robinson 1982; the formula is Lugannani and Rice's, 1980).

    It stays close far out in the tail, where random draws see nothing and the normal approximation is off.
    """
    scaled = sizes / math.sqrt(float(sizes @ sizes))
    x = abs(total) / math.sqrt(float(sizes @ sizes))
    if x < 1e-6:
        return 0.5
    if x >= float(scaled.sum()) * (1 - 1e-9):
        tail = least_p(len(sizes))
    else:
        s = _tilt(scaled, x)
        log_cosh = float((s * scaled + np.log1p(np.exp(-2 * s * scaled)) - math.log(2)).sum())
        w = math.sqrt(max(2 * (s * x - log_cosh), 1e-12))
        u = s * math.sqrt(float((scaled**2 / np.cosh(np.minimum(s * scaled, 300)) ** 2).sum()))
        tail = math.erfc(w / math.sqrt(2)) / 2 + math.exp(-w * w / 2) / math.sqrt(2 * math.pi) * (1 / u - 1 / w)
    return tail if total < 0 else 1 - tail


def _tilt(scaled: Floats, x: float) -> float:
    """Return the s at which the sum of size × tanh(s × size) is x, by halving."""
    low, high = 0.0, 1.0
    while float(scaled @ np.tanh(high * scaled)) < x:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if float(scaled @ np.tanh(middle * scaled)) < x else (low, middle)
    return (low + high) / 2
