"""The job file's `[[eval.guards]]`: which metrics must stay within bounds, and must not get worse."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Literal, get_args

import msgspec

from batchmix.errors import JobError
from batchmix.scorers.settings import Share

Metric = Literal[
    "score",
    "answered",
    "refused",
    "empty",
    "unscored",
    "cost_usd",
    "latency_s",
    "latency_p50",
    "latency_p90",
    "latency_p99",
    "response_chars",
]
METRICS: tuple[str, ...] = get_args(Metric)
"""The metrics that can be guarded."""
LESS_IS_BETTER = frozenset(METRICS) - {"score", "answered"}
OF_SCORERS = frozenset({"score", "unscored"})
"""The metrics that each scorer has its own of."""
SHARES = frozenset({"answered", "refused", "empty", "unscored"})
"""The metrics that are a share of the results."""
LATENCY_POINTS = {"latency_p50": 50, "latency_p90": 90, "latency_p99": 99}
"""The percentile of each metric that is one."""
_ALWAYS: tuple[Metric, ...] = ("answered", "refused")
_MAX_UNSCORED = _MAX_EMPTY = 0.1
_PERCENT = re.compile(r"\s*([0-9]{1,12}(?:\.[0-9]{1,12})?)\s*%\s*")


class Guard(msgspec.Struct, frozen=True):
    """A bound on a metric. In each run the metric must be within `min` and `max`.

    When a run is compared with another one, the metric must also not have become worse.
    """

    metric: Metric = "score"
    scorer: str | None = None
    """The scorer that the guard applies to, only for `score` and `unscored`. None for every scorer."""
    model: str | None = None
    """The model that the guard applies to. None for every model."""
    min: float | None = None
    max: float | None = None
    no_worse_by: Share | str = 0.0
    """The largest worsening that a comparison of two runs accepts, even if it is statistically significant.

    A number is absolute, a text such as `10%` a share of the earlier run's value."""

    def allowed(self, before: float) -> float:
        """Return the largest worsening that is accepted, given the metric's value in the earlier run."""
        if isinstance(self.no_worse_by, str):
            return share_of(self.no_worse_by) * abs(before)
        return self.no_worse_by


def share_of(text: str) -> float:
    """Return the share that a text such as `10%` says. Raises `JobError`."""
    found = _PERCENT.fullmatch(text)
    if found is None:
        raise JobError(
            f"eval.guards.no_worse_by: {text!r} is no percentage; give a number such as 0.01, which is absolute, or a"
            ' share of the earlier value such as "10%"'
        )
    return float(found[1]) / 100


class _DefaultGuard(Guard, frozen=True):
    """A guard that a job need not name. It holds for each model and scorer for which no guard of the job does."""


def with_default_guards(guards: Sequence[Guard], *, has_scorers: bool) -> tuple[Guard, ...]:
    """Return the guards of a job with those that it need not name: every score, and the shares of the results.

    What is not scored may be meant to be empty, but not to become so.
    """
    defaults = [_DefaultGuard()] if has_scorers else []
    defaults += [_DefaultGuard(metric) for metric in _ALWAYS]
    defaults.append(_DefaultGuard("empty", max=_MAX_EMPTY if has_scorers else None))
    if has_scorers:
        defaults.append(_DefaultGuard("unscored", max=_MAX_UNSCORED))
    return (*guards, *defaults)


def guarded(guards: Sequence[Guard], scorers: Sequence[str], models: Sequence[str]) -> Iterator[tuple[Guard, str, str]]:
    """Yield each guard with each model and scorer that it applies to, the general guards first.

    The scorer is empty if the metric does not come from scorers. A guard that names a model is yielded with it also
    if `models` lack it. A default guard is not yielded where one of the job's own applies.
    """
    applied = [
        (guard, model, scorer)
        for guard in sorted(guards, key=lambda guard: (guard.model is not None) + (guard.scorer is not None))
        for model in (models if guard.model is None else [guard.model])
        for scorer in _scorers_of(guard, scorers)
    ]
    own = {(guard.metric, *names) for guard, *names in applied if not isinstance(guard, _DefaultGuard)}
    for guard, model, scorer in applied:
        if not isinstance(guard, _DefaultGuard) or (guard.metric, model, scorer) not in own:
            yield guard, model, scorer


def _scorers_of(guard: Guard, scorers: Sequence[str]) -> Sequence[str]:
    """Return the scorers that a guard applies to: an empty name if its metric does not come from scorers."""
    if guard.metric not in OF_SCORERS:
        return [""]
    return scorers if guard.scorer is None else [guard.scorer]


def check_guard(guard: Guard, scorers: Sequence[str], models: Sequence[str]) -> None:
    """Raise `JobError` if a guard names a scorer or a model that the job lacks, or if no value can meet its bounds.

    `models` is empty if the rows name their models.
    """
    if guard.scorer is not None and guard.scorer not in scorers:
        raise JobError(f"eval.guards.scorer: there is no scorer {guard.scorer!r}; there are {', '.join(scorers)}")
    if guard.scorer is not None and guard.metric not in OF_SCORERS:
        raise JobError(f"eval.guards.scorer: {guard.metric} does not come from a scorer; take it out")
    if guard.model is not None and models and guard.model not in models:
        raise JobError(f"eval.guards.model: there is no model {guard.model!r}; there are {', '.join(models)}")
    if isinstance(guard.no_worse_by, str):
        share_of(guard.no_worse_by)
    _check_bounds(guard)


def _check_bounds(guard: Guard) -> None:
    if guard.min is not None and guard.max is not None and guard.min > guard.max:
        raise JobError(
            f"eval.guards.min: {guard.min:g} is above max = {guard.max:g}, so no {guard.metric} passes; min is the"
            " lowest value that does"
        )
    for name, bound in (("min", guard.min), ("max", guard.max)):
        if bound is not None and guard.metric in SHARES and not 0 <= bound <= 1:
            raise JobError(
                f"eval.guards.{name}: {guard.metric} is a share from 0 to 1, and never {bound:g}; 95 % is 0.95"
            )


def check_no_guard_twice(guards: Sequence[Guard]) -> None:
    """Raise `JobError` if two guards have the same metric of the same scorer and model, since they may contradict."""
    seen = set()
    for guard in guards:
        key = (guard.metric, guard.scorer, guard.model)
        if key in seen:
            whose = "".join(f" of {name}" for name in (guard.scorer, guard.model) if name)
            raise JobError(f"eval.guards: {guard.metric}{whose} is there twice; put its bounds into one guard")
        seen.add(key)
