"""The reasons why a run does not pass, in plain sentences: the one list for all outputs."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from batchmix.comparison.metric_text import metric_name, metric_value, named_metric
from batchmix.evaluation.measure import Metrics, ScoreMetrics, model_value
from batchmix.formats.amounts import counted
from batchmix.formats.display import group_names
from batchmix.job.guards import OF_SCORERS, Guard
from batchmix.scorers.indirect import Judge

if TYPE_CHECKING:
    from batchmix.comparison.verdicts import Comparison

AlarmKind = Literal["incomplete", "missed", "worse", "not compared", "trend"]


class Alarm(msgspec.Struct, frozen=True):
    """A reason why a run does not pass."""

    kind: AlarmKind
    """`incomplete`, `missed` (a threshold), `worse`, `not compared`, or `trend` (over several runs)."""
    model: str
    """The model. Empty if the alarm is about the whole run."""
    metric: str
    scorer: str
    """The name of the scorer. Empty if the metric does not come from a scorer, or if several do."""
    group: dict[str, str | None]
    """The column and its value if the alarm is about a group of rows. Empty for all rows."""
    text: str
    """What is wrong, in words. It begins with the name of the model."""


def run_alarms(folder: Path, metrics: Metrics) -> list[Alarm]:
    """Return why a run does not pass by itself: results that are missing, and thresholds that it misses."""
    return [*_incomplete(folder, metrics), *missed_thresholds(metrics)]


def _incomplete(folder: Path, metrics: Metrics) -> Iterator[Alarm]:
    if missing := metrics.missing:
        are = "is" if missing == 1 else "are"
        count = f"{missing:,} of {counted(metrics.results + missing, 'result')} {are} missing"
        command = shlex.join(["batchmix", "resume", str(folder)])
        yield Alarm("incomplete", "", "", "", {}, f"{count}: the run is not finished; go on with {command}")


def missed_thresholds(metrics: Metrics) -> list[Alarm]:
    """Return an alarm for each `min` or `max` of a guard that a run does not meet."""
    missed = []
    for guard, model, scorer in metrics.guarded():
        if reason := _missed(metrics, guard, model, scorer):
            missed.append(Alarm("missed", model, guard.metric, scorer, {}, reason))
    return missed


def _missed(metrics: Metrics, guard: Guard, model: str, scorer: str) -> str:
    """Return how a guard's threshold is missed. Empty if it is not."""
    what = f"{model}: {named_metric(guard.metric, scorer)}"
    if guard.min is None and guard.max is None:
        return ""
    value = _value(metrics, guard, model, scorer)
    if value is None:
        return (
            "" if _has_no_pairs(metrics, model, scorer) else f"{what}: {_why_no_value(metrics, guard, model, scorer)}"
        )
    if guard.min is not None and value < guard.min:
        return f"{what} is {value:.4g}, less than {guard.min:g}"
    if guard.max is not None and value > guard.max:
        return f"{what} is {value:.4g}, more than {guard.max:g}"
    return ""


def _why_no_value(metrics: Metrics, guard: Guard, model: str, scorer: str) -> str:
    if guard.metric not in OF_SCORERS:
        return "no answer has a known price" if guard.metric == "cost_usd" else "no row has an answer"
    scored = _scored(metrics, model, scorer)
    if scored is None:
        return "there are no scores"
    if scored.unscored:
        return f"none of {counted(scored.unscored, 'result')} could be scored"
    if metrics.settings.weight is not None and not scored.no_target:
        return "each row has the weight 0 (eval.weight)"
    what = metrics.settings.target_in_words(scorer)
    return "no label belongs to an answer" if what == "a label" else f"no row has {what}"


def _has_no_pairs(metrics: Metrics, model: str, scorer: str) -> bool:
    """Return whether a judge had no other run's answers to compare with, as in a first night, which is no fault."""
    compares = any(
        config.name == scorer and isinstance(config, Judge) and config.compares for config in metrics.settings.scorers
    )
    return compares and any(
        (scored.model, scored.scorer, scored.group) == (model, scorer, {}) and not scored.score.n + scored.unscored
        for scored in metrics.scores
    )


def _value(metrics: Metrics, guard: Guard, model: str, scorer: str) -> float | None:
    if guard.metric in OF_SCORERS:
        whole = _scored(metrics, model, scorer)
        if whole is None:
            return None
        return whole.score.mean if guard.metric == "score" else whole.unscored_share
    of_model = next((found for found in metrics.models if found.model == model), None)
    return None if of_model is None else model_value(of_model, guard.metric)


def _scored(metrics: Metrics, model: str, scorer: str) -> ScoreMetrics | None:
    """Return the scores of all rows of a model by a scorer. They come before those of groups."""
    scores = (scored for scored in metrics.scores if (scored.model, scored.scorer) == (model, scorer))
    return next(scores, None)


def comparison_alarms(comparisons: Iterable[Comparison]) -> Iterator[Alarm]:
    """Yield an alarm for each comparison that is worse, and one for all of a model that could not be made alike."""
    untested: dict[tuple[str, str], list[Comparison]] = {}
    for compared in comparisons:
        if compared.verdict == "worse":
            yield Alarm("worse", compared.model, compared.metric, compared.scorer, compared.group, _worse(compared))
        elif compared.verdict == "not compared":
            untested.setdefault((compared.model, compared.reason), []).append(compared)
    for (model, reason), alike in untested.items():
        names = ", ".join(dict.fromkeys(f"{metric_name(one)}{_of_group(one)}" for one in alike))
        scorers = {one.scorer for one in alike}
        scorer = scorers.pop() if len(scorers) == 1 else ""
        group = alike[0].group if all(one.group == alike[0].group for one in alike) else {}
        yield Alarm("not compared", model, alike[0].metric, scorer, group, f"{model}: {names}: {reason}")


def _worse(compared: Comparison) -> str:
    paired = compared.paired
    if paired is None:
        raise TypeError("a comparison without pairs can't be worse")
    if compared.opponent:
        score, even = metric_value("score", paired.after), metric_value("score", paired.before)
        what = f"{metric_name(compared)}{_of_group(compared)}"
        return f"{compared.model}: {what} is {score}, less than {even}: the answers of that run are preferred"
    change, before, after = (
        metric_value(compared.metric, value, signed=value is paired.difference)
        for value in (paired.difference, paired.before, paired.after)
    )
    text = f"{compared.model}: {metric_name(compared)}{_of_group(compared)} {change}, from {before} to {after}"
    return f"{text} ({compared.reason})" if compared.reason else text


def _of_group(compared: Comparison) -> str:
    return "".join(f" of {name}" for name in group_names(compared.group))
