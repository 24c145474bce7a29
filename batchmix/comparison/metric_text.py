"""Formats metrics for the terminal and the report."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from batchmix.job.guards import LESS_IS_BETTER

if TYPE_CHECKING:
    from batchmix.comparison.verdicts import Comparison

_NAMES = {
    "answered": "answered",
    "refused": "refused",
    "empty": "empty",
    "response_chars": "characters",
    "cost_usd": "cost of 1,000",
    "latency_s": "latency",
    "latency_p50": "latency p50",
    "latency_p90": "latency p90",
    "latency_p99": "latency p99",
}
LIMITS = {
    "": "response time",
    "concurrency": "the configured concurrency",
    "window": "the concurrency that was found",
    "requests per minute": "requests per minute",
    "tokens per minute": "tokens per minute",
    "pause": "a pause that the provider requested",
    "outage": "an outage",
    "prompt cache": "a wait for the first answer with a prompt",
    "retries": "retries",
    "input": "reading the input",
    "budget": "the budget",
    "disk": "the disk",
    "object storage": "object storage",
    "last rows": "the last rows",
    "refusals": "a check whether all requests are refused",
}
"""The report's names for what limits a run's speed. The keys are the values that are stored in run.json."""


def metric_name(comparison: Comparison) -> str:
    """Return the name of the compared metric. For a score, this is the name of the scorer."""
    pace = ", pace taken out" if comparison.paired and comparison.paired.without_pace else ""
    against = f" against {comparison.opponent}" if comparison.opponent else ""
    return f"{named_metric(comparison.metric, comparison.scorer)}{against}{pace}"


def named_metric(metric: str, scorer: str) -> str:
    """Return the name of a metric. For a score, this is the name of the scorer."""
    if metric == "unscored":
        return f"unscored by {scorer}"
    return scorer or _NAMES[metric]


def metric_value(metric: str, value: float, *, signed: bool = False) -> str:
    """Return a metric's value as text with its unit. A cost is shown per thousand results."""
    before, factor, digits, _ = _FORMS[metric]
    size = f"{abs(factor * value):,.{digits}f}"
    none = not any(digit in size for digit in "123456789")
    sign = "" if none else "-" if value < 0 else "+" if signed else ""
    return f"{sign}{before}{size}{_unit(metric, signed=signed)}"


_SECONDS = ("", 1, 3, " s")
_FORMS = {
    "score": ("", 1, 4, ""),
    "answered": ("", 100, 1, " %"),
    "refused": ("", 100, 1, " %"),
    "empty": ("", 100, 1, " %"),
    "response_chars": ("", 1, 1, ""),
    "cost_usd": ("$", 1000, 4, ""),
    "unscored": ("", 100, 1, " %"),
    "latency_s": _SECONDS,
    "latency_p50": _SECONDS,
    "latency_p90": _SECONDS,
    "latency_p99": _SECONDS,
}
"""By metric: the prefix, the factor, the number of decimals, and the unit."""


def _unit(metric: str, *, signed: bool) -> str:
    unit = _FORMS[metric][3]
    return " points" if signed and unit == " %" else unit


def interval(metric: str, low: float | None, high: float | None) -> str:
    """Return the interval of a metric's difference as text. Empty if there is none."""
    if low is None or high is None:
        return ""
    unit = _unit(metric, signed=True)
    return f"{metric_value(metric, low, signed=True).removesuffix(unit)} to {metric_value(metric, high, signed=True)}"


class Figures(NamedTuple):
    """The figures of a comparison as text. All are empty if there are no pairs."""

    before: str = ""
    after: str = ""
    difference: str = ""
    interval: str = ""
    p: str = ""
    """The p-value of the verdict, or the two-sided one if the metric is not guarded."""
    up: str = ""
    down: str = ""
    same: str = ""


def figures(comparison: Comparison) -> Figures:
    """Return the figures of a comparison as text, in the order in which tables show them."""
    paired, metric = comparison.paired, comparison.metric
    if paired is None:
        return Figures()
    return Figures(
        metric_value(metric, paired.before),
        metric_value(metric, paired.after),
        metric_value(metric, paired.difference, signed=True),
        interval(metric, paired.low, paired.high),
        p_value(paired.p if comparison.adjusted_p is None else comparison.adjusted_p),
        f"{paired.wins:,}",
        f"{paired.losses:,}",
        f"{paired.ties:,}",
    )


def p_value(p: float) -> str:
    """Return a p-value as text with two digits."""
    return "<0.0001" if p < 0.0001 else f"{p:.2g}" if p < 0.1 else f"{p:.2f}"


def least_found(comparison: Comparison) -> str:
    """Return the smallest worsening that would have been found, as text with its sign. Empty unless it is the same."""
    least = comparison.detectable if comparison.verdict == "same" else None
    if least is None:
        return ""
    return metric_value(comparison.metric, least if comparison.metric in LESS_IS_BETTER else -least, signed=True)
