"""Student's t distribution, which tells how far a mean of few rows may be off. All functions are pure."""

from __future__ import annotations

import functools
import math
from statistics import NormalDist

_NORMAL_FROM = 1e7
"""The degrees of freedom from which on the normal distribution is taken."""


@functools.lru_cache(maxsize=1_000)
def t_quantile(p: float, df: float) -> float:
    """Return the quantile of Student's t distribution with `df` degrees of freedom, which need not be whole.

    `p` is between 0 and 1. Newton's method begins at the normal quantile, which is nearer to 0; since the tail is
    convex, it comes closer from there with each step, and never too far.
    """
    if p <= 0.5:
        return -t_quantile(1 - p, df) if p < 0.5 else 0.0
    t = NormalDist().inv_cdf(p)
    if df >= _NORMAL_FROM:
        return t
    for _ in range(100):
        step = (t_tail(t, df) - (1 - p)) / _density(t, df)
        t += step
        if step <= 1e-13 * t:
            break
    return t


def _density(t: float, df: float) -> float:
    log_factor = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - math.log(df * math.pi) / 2
    return math.exp(log_factor - (df + 1) / 2 * math.log1p(t * t / df))


def t_tail(t: float, df: float) -> float:
    """Return the probability that Student's t is larger than `t`, which is not negative.

    It is half of the regularised incomplete beta function (Abramowitz and Stegun 1964, 26.7.1 and 26.5.27).
    """
    return _beta_share(df / 2, 0.5, df / (df + t * t)) / 2


def _beta_share(a: float, b: float, x: float) -> float:
    """Return the regularised incomplete beta function, from its continued fraction (Abramowitz and Stegun, 26.5.8)."""
    if x in (0.0, 1.0):
        return x
    log_beta = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    front = math.exp(a * math.log(x) + b * math.log1p(-x) - log_beta)
    if x < (a + 1) / (a + b + 2):  # there the fraction converges fast; elsewhere that of the other tail does
        return front * _fraction(a, b, x) / a
    return 1 - front * _fraction(b, a, 1 - x) / b


def _fraction(a: float, b: float, x: float) -> float:
    """Return the continued fraction of the incomplete beta function, by the method of Lentz (1976)."""
    c, d = 1.0, _away_from_0(1 - (a + b) * x / (a + 1))
    result = d = 1 / d
    for m in range(1, 10_000):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            c, d = _away_from_0(1 + term / c), 1 / _away_from_0(1 + term * d)
            result *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return result


def _away_from_0(value: float) -> float:
    return value if abs(value) > 1e-300 else 1e-300
