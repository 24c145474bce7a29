"""Which charts a run's report has, and of what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from batchmix.evaluate.charts import Bar, Box, Range, Series, Speed, bars, boxes, courses, ranges, speeds, tone
from batchmix.evaluate.comparison import Comparison, Diff
from batchmix.evaluate.drawing import Drawing
from batchmix.evaluate.history import Past
from batchmix.evaluate.measure import Metrics
from batchmix.evaluate.metric_text import LIMITS, metric_value
from batchmix.evaluate.metrics import Floats, percentiles
from batchmix.evaluate.results import gathered
from batchmix.evaluate.timeline import Timeline, timeline
from batchmix.formats.amounts import usd
from batchmix.store.run_folder import RunFile
from batchmix.store.totals import Totals

_MOST_NIGHTS = 60
_TIMES = ("ok", "latency_s", "sent_ms", "finished_ms")
_POINTS = (10, 25, 50, 75, 90, 99)


class Times(msgspec.Struct, frozen=True):
    """When a run's answers came, and how long they took."""

    latencies: dict[str, Floats]
    """By model, of the answers, in seconds."""
    context: Timeline | None


def read_times(folder: Path, run: RunFile) -> Times:
    """Return when a run's answers came. Raises `RunError`."""
    results = gathered(folder, _TIMES)
    latencies, spans = {}, {}
    for model in run.models:
        mine = results.of(model)
        mine = mine[results.fields["ok"][mine]]
        taken = results.fields["latency_s"][mine]
        latencies[model] = taken[~np.isnan(taken)]
        sent, finished = results.fields["sent_ms"][mine], results.fields["finished_ms"][mine]
        known = (sent >= 0) & (finished >= 0)
        if known.any():
            spans[model] = (sent[known], finished[known])
    return Times(latencies, timeline(run, spans))


def score_charts(metrics: Metrics, compared: Diff | None) -> Iterator[Drawing]:
    """Yield for each scorer the scores of the models with their intervals, and what they were before."""
    before = {
        (one.model, one.scorer): one.paired.before for one in compared.comparisons if one.metric == "score"
    } if compared else {}  # fmt: skip
    tones = {found.model: tone(number) for number, found in enumerate(metrics.models)}
    for scorer in metrics.asked.scorers:
        rows = [
            Range(
                found.model,
                found.score.mean,
                found.score.low,
                found.score.high,
                _with_interval(found.score.mean, found.score.low, found.score.high),
                before.get((found.model, scorer.name)),
                tones[found.model],
            )
            for found in metrics.scores
            if found.scorer == scorer.name and not found.group and found.score.mean is not None
        ]
        if rows:
            drawing = ranges(f"Score: {scorer.name}", rows, lambda value: f"{value:.4g}")
            drawing.caption = "Means with their 95 % intervals" + (
                "; the ring is the earlier run's mean." if before else "."
            )
            yield drawing


def difference_charts(compared: Diff) -> Iterator[Drawing]:
    """Yield for each scorer how the models' scores have changed."""
    scores = [one for one in compared.comparisons if one.metric == "score"]
    for scorer in dict.fromkeys(one.scorer for one in scores):
        rows = [_difference(one) for one in scores if one.scorer == scorer]
        drawing = ranges(f"Change: {scorer}", rows, lambda value: f"{value:+.4g}" if value else "0", zero=True)
        drawing.caption = "Mean differences of the pairs with their 95 % intervals; to the left is worse."
        yield drawing


def _difference(one: Comparison) -> Range:
    paired = one.paired
    text = f"{metric_value(one.metric, paired.difference, signed=True)} {one.verdict}".strip()
    tones = {"worse": "bad-mark", "better": "good-mark"}
    return Range(one.model, paired.difference, paired.low, paired.high, text, None, tones.get(one.verdict, "plain"))


def history_charts(past: Sequence[Past], metrics: Metrics) -> Iterator[Drawing]:
    """Yield for each scorer how the models' scores went over the runs of the job; nothing where there is one run."""
    nights = [one for one in past if one.metrics][-_MOST_NIGHTS:]
    names = _short_names([one.folder.name for one in nights])
    for scorer in metrics.asked.scorers:
        series = []
        for number, model in enumerate(found.model for found in metrics.models):
            values = [_mean(one, model, scorer.name) for one in nights]
            if any(value is not None for value in values):
                series.append(Series(model, values, tone(number)))
        if len(nights) > 1 and series:
            drawing = courses(f"Over the nights: {scorer.name}", series, names, lambda value: f"{value:.4g}")
            drawing.caption = f"Mean scores of the last {len(nights)} runs of the job, by run folder."
            yield drawing


def _mean(one: Past, model: str, scorer: str) -> float | None:
    scores = one.metrics.scores if one.metrics else ()
    means = (found.score.mean for found in scores if (found.model, found.scorer, found.group) == (model, scorer, {}))
    return next(means, None)


def _short_names(names: Sequence[str]) -> list[str]:
    """Return names without what all of them begin with, up to a dash or the like."""
    first, last = min(names, default=""), max(names, default="")
    same = next((at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), 0)
    cut = max((at + 1 for at in range(same) if first[at] in "-_./ " and not first[at - 1].isdigit()), default=0)
    return [name[cut:][:16] or name[:16] for name in names]


def latency_chart(times: Times) -> Iterator[Drawing]:
    """Yield how long the models' answers took."""
    rows = []
    for number, (model, values) in enumerate(times.latencies.items()):
        points = percentiles(values, _POINTS)
        if points:
            text = f"{_seconds(points['p50'])} (99 %: {_seconds(points['p99'])})"
            rows.append(Box(model, points, text, tone(number)))
    if rows:
        drawing = boxes("Latency", rows, _seconds)
        drawing.caption = (
            "Seconds from an attempt to its answer: the median (gap), the middle half (box), 10 % to 90 % (line),"
            " and 99 % (ring)."
        )
        yield drawing


def _seconds(value: float) -> str:
    return f"{value:.3g} s"


def speed_chart(times: Times, models: Sequence[str]) -> Iterator[Drawing]:
    """Yield how fast the models answered over the time of the run, and what limited them."""
    context = times.context
    if context is None:
        return
    rows, kinds = [], []
    for number, model in enumerate(models):
        if model in context.rates:
            limits = context.limited_by.get(model, [])
            kinds += [one.what for one in limits]
            spans = [(one.begin, one.end, _limit_tone(one.what), LIMITS.get(one.what, one.what)) for one in limits]
            rows.append(Speed(model, context.rates[model], spans, tone(number)))
    drawing = speeds("Speed", rows, context.span_s, context.restarts)
    drawing.legend = [(_limit_tone(kind), LIMITS.get(kind, kind)) for kind in dict.fromkeys(kinds)]
    drawing.caption += " The band below says what limited it." if kinds else " What limited it was not kept."
    if context.restarts:
        drawing.caption += " A dashed line is where another start went on."
    yield drawing


def _limit_tone(what: str) -> str:
    return f"l{list(LIMITS).index(what)}" if what in LIMITS else "l0"


def cost_chart(totals: Totals, metrics: Metrics) -> Iterator[Drawing]:
    """Yield what each model has cost, and each judge."""
    rows = []
    for number, found in enumerate(metrics.models):
        cost = totals.costs.get(found.model)
        if cost is not None and cost.priced:
            each = f" ({usd(1000 * cost.usd / cost.priced)} for 1,000)"
            rows.append(Bar(found.model, cost.usd, usd(cost.usd) + each, tone(number)))
    rows += [
        Bar(f"{judged.scorer}: {judged.model}", judged.cost_usd, f"{usd(judged.cost_usd)} judging", "plain")
        for judged in metrics.judges
        if judged.cost_usd is not None
    ]
    if rows:
        drawing = bars("Cost", rows)
        drawing.caption = "USD, by the prices in run.json."
        yield drawing


def failure_chart(totals: Totals) -> Iterator[Drawing]:
    """Yield which kinds of failures results have ended in."""
    kinds = sorted(totals.failures.items(), key=lambda item: -item[1].count)
    if kinds:
        rows = [Bar(kind, failed.count, f"{failed.count:,}", "bad-mark") for kind, failed in kinds]
        drawing = bars("Failures", rows)
        drawing.caption = "Results without an answer, by kind."
        yield drawing


def _with_interval(mean: float, low: float | None, high: float | None) -> str:
    return f"{mean:.3f}" if low is None or high is None else f"{mean:.3f} ({low:.3f} to {high:.3f})"


def group_tables(metrics: Metrics, most: int) -> Iterator[Mapping[str, object]]:
    """Yield for each scorer and column the scores of its values, a row for each value and a column for each model."""
    models = [found.model for found in metrics.models]
    cells: dict[tuple[str, str], dict[str | None, dict[str, str]]] = {}
    for found in metrics.scores:
        for column, value in found.group.items():
            score = found.score
            error = "" if score.stderr is None else f" ± {score.stderr:.3f}"
            text = "" if score.mean is None else f"{score.mean:.3f}{error}"
            cells.setdefault((found.scorer, column), {}).setdefault(value, {})[found.model] = text
    for (scorer, column), rows in cells.items():
        shown = list(rows.items())[:most]
        yield {
            "scorer": scorer,
            "column": column,
            "models": models,
            "rows": [
                {"value": value, "cells": [by_model.get(model, "") for model in models]} for value, by_model in shown
            ],
            "more": len(rows) - len(shown),
        }
