"""Builds the charts and the group tables of a run's report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np

from batchmix.comparison.metric_text import LIMITS, metric_value
from batchmix.comparison.run_diff import Diff
from batchmix.comparison.verdicts import Comparison
from batchmix.evaluation.measure import Metrics
from batchmix.evaluation.result_arrays import read_result_arrays
from batchmix.formats.amounts import usd
from batchmix.reports.charts import (
    BarRow,
    BoxRow,
    IntervalRow,
    LineSeries,
    RateRow,
    bar_chart,
    box_chart,
    interval_chart,
    line_chart,
    rate_chart,
    tone,
)
from batchmix.reports.drawing import Drawing
from batchmix.reports.timeline import Timeline, timeline
from batchmix.statistics.metrics import Floats, percentiles
from batchmix.statistics.paired import Paired
from batchmix.store.run_folder import RunFile
from batchmix.store.totals import Totals
from batchmix.verdict.history import PastRun, version_changes

_MAX_RUNS = 60
"""The most past runs that are shown. Older runs are left out."""
_MARKS = {"dataset": "D", "prompt": "P", "dataset, prompt": "D P"}
"""How a chart of past runs marks what has changed since the run before."""
_TIMES = ("ok", "latency_s", "sent_ms", "finished_ms")
_POINTS = (10, 25, 50, 75, 90, 99)


class ResponseTimes(msgspec.Struct, frozen=True):
    """The latencies of a run's answers, and its timeline."""

    latencies: dict[str, Floats]
    """The latencies of each model's answers, in seconds."""
    timeline: Timeline | None
    """The speed over the time of the run. None if no request was sent."""


def read_response_times(folder: Path, run: RunFile) -> ResponseTimes:
    """Read when the answers of a run were sent and received. Raises `RunError`."""
    results = read_result_arrays(folder, _TIMES)
    latencies, spans = {}, {}
    for model in run.models:
        positions = results.positions(model)
        positions = positions[results.fields["ok"][positions]]
        values = results.fields["latency_s"][positions]
        latencies[model] = values[~np.isnan(values)]
        sent, finished = results.fields["sent_ms"][positions], results.fields["finished_ms"][positions]
        timed = (sent >= 0) & (finished >= 0)
        if timed.any():
            spans[model] = (sent[timed], finished[timed])
    return ResponseTimes(latencies, timeline(run, spans))


def score_charts(metrics: Metrics, compared: Diff | None) -> Iterator[Drawing]:
    """Yield a chart for each scorer: each model's score with its interval, and the score in the earlier run."""
    before = {
        (comparison.model, comparison.scorer): comparison.paired.before
        for comparison in compared.comparisons
        if comparison.metric == "score" and comparison.paired and not comparison.opponent
    } if compared else {}  # fmt: skip
    tones = {found.model: tone(number) for number, found in enumerate(metrics.models)}
    for scorer in metrics.settings.scorers:
        rows = [
            IntervalRow(
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
            drawing = interval_chart(f"Score: {scorer.name}", rows, lambda value: f"{value:.4g}")
            drawing.caption = "Means with their 95 % intervals" + (
                "; the ring is the earlier run's mean." if before else "."
            )
            yield drawing


def difference_charts(compared: Diff) -> Iterator[Drawing]:
    """Yield a chart for each scorer: the change of each model's score between the runs."""
    scores = [(one, one.paired) for one in compared.comparisons if one.metric == "score" and one.paired]
    for scorer in dict.fromkeys(comparison.scorer for comparison, _ in scores):
        rows = [_difference(comparison, paired) for comparison, paired in scores if comparison.scorer == scorer]
        drawing = interval_chart(f"Change: {scorer}", rows, lambda value: f"{value:+.4g}" if value else "0", zero=True)
        drawing.caption = "Mean paired differences with their 95 % intervals; left of zero is worse."
        yield drawing


def _difference(comparison: Comparison, paired: Paired) -> IntervalRow:
    text = f"{metric_value(comparison.metric, paired.difference, signed=True)} {comparison.verdict}".strip()
    tones = {"worse": "bad-mark", "better": "good-mark"}
    return IntervalRow(
        comparison.model, paired.difference, paired.low, paired.high, text, None, tones.get(comparison.verdict, "plain")
    )


def history_charts(past: Sequence[PastRun], metrics: Metrics) -> Iterator[Drawing]:
    """Yield a chart for each scorer: the models' scores over the past runs, if there is more than one run."""
    evaluated = [past_run for past_run in past if past_run.metrics and not past_run.run.is_try]
    marks = {at: _MARKS[changed] for at, changed in enumerate(version_changes(evaluated)) if changed}
    left_out = max(0, len(evaluated) - _MAX_RUNS)
    shown_marks = {at - left_out: mark for at, mark in marks.items() if at >= left_out}
    runs = evaluated[left_out:]
    names = _short_names([past_run.folder.name for past_run in runs])
    for scorer in metrics.settings.scorers:
        series = []
        for number, model in enumerate(model_metrics.model for model_metrics in metrics.models):
            values = [_mean(past_run, model, scorer.name) for past_run in runs]
            if any(value is not None for value in values):
                series.append(LineSeries(model, values, tone(number)))
        if len(runs) > 1 and series:
            drawing = line_chart(f"Past runs: {scorer.name}", series, names, lambda value: f"{value:.4g}", shown_marks)
            drawing.caption = f"Mean scores of the last {len(runs)} runs of the job, by run folder."
            if shown_marks:
                drawing.caption += " A dashed line marks a new dataset (D), or a new prompt, model or parameter (P)."
            yield drawing


def _mean(past_run: PastRun, model: str, scorer: str) -> float | None:
    scores = past_run.metrics.scores if past_run.metrics else ()
    means = (
        scored.score.mean for scored in scores if (scored.model, scored.scorer, scored.group) == (model, scorer, {})
    )
    return next(means, None)


def _short_names(names: Sequence[str]) -> list[str]:
    """Return the names without the prefix that all share. The prefix ends with a separator, such as a dash."""
    first, last = min(names, default=""), max(names, default="")
    same = next((at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), 0)
    cut = max((at + 1 for at in range(same) if first[at] in "-_./ " and not first[at - 1].isdigit()), default=0)
    return [name[cut:][:16] or name[:16] for name in names]


def latency_chart(times: ResponseTimes) -> Iterator[Drawing]:
    """Yield a chart of the models' latencies, if there are any answers."""
    rows = []
    for number, (model, values) in enumerate(times.latencies.items()):
        points = percentiles(values, _POINTS)
        if points:
            text = f"{_seconds(points['p50'])} (99 %: {_seconds(points['p99'])})"
            rows.append(BoxRow(model, points, text, tone(number)))
    if rows:
        drawing = box_chart("Latency", rows, _seconds)
        drawing.caption = (
            "Seconds from sending an attempt to its answer: the median (gap), the middle half (box), 10 % to 90 %"
            " (line), and 99 % (ring)."
        )
        yield drawing


def _seconds(value: float) -> str:
    return f"{value:.3g} s"


def speed_chart(times: ResponseTimes, models: Sequence[str]) -> Iterator[Drawing]:
    """Yield a chart of the models' speed over the time of the run, with bands that show what limited the speed."""
    timeline = times.timeline
    if timeline is None:
        return
    rows, limits = [], []
    for number, model in enumerate(models):
        if model in timeline.rates:
            spans = timeline.limited_by.get(model, [])
            limits += [span.limit for span in spans]
            bands = [
                (span.begin, span.end, _limit_tone(span.limit), LIMITS.get(span.limit, span.limit)) for span in spans
            ]
            rows.append(RateRow(model, timeline.rates[model], bands, tone(number)))
    drawing = rate_chart("Speed", rows, timeline.span_s, timeline.restarts)
    drawing.legend = [(_limit_tone(limit), LIMITS.get(limit, limit)) for limit in dict.fromkeys(limits)]
    drawing.caption += " The band shows what limited it." if limits else " What limited it is not recorded."
    if timeline.restarts:
        drawing.caption += " A dashed line marks a later start."
    yield drawing


def _limit_tone(limit: str) -> str:
    return f"l{list(LIMITS).index(limit)}" if limit in LIMITS else "l0"


def cost_chart(totals: Totals, metrics: Metrics) -> Iterator[Drawing]:
    """Yield a chart of the cost of each model and each judge, if any cost is known."""
    rows = []
    for number, model in enumerate(metrics.models):
        cost = totals.costs.get(model.model)
        if cost is not None and cost.priced:
            per_thousand = f" ({usd(1000 * cost.usd / cost.priced)} for 1,000)"
            rows.append(BarRow(model.model, cost.usd, usd(cost.usd) + per_thousand, tone(number)))
    rows += [
        BarRow(f"{judged.scorer}: {judged.model}", judged.cost_usd, f"{usd(judged.cost_usd)} judging", "plain")
        for judged in metrics.judges
        if judged.cost_usd is not None
    ]
    if rows:
        drawing = bar_chart("Cost", rows)
        drawing.caption = "USD, at the prices in run.json."
        yield drawing


def failure_chart(totals: Totals) -> Iterator[Drawing]:
    """Yield a chart of the failures by error type, if there are any."""
    failures = sorted(totals.failures.items(), key=lambda item: -item[1].count)
    if failures:
        rows = [BarRow(name, failed.count, f"{failed.count:,}", "bad-mark") for name, failed in failures]
        drawing = bar_chart("Failures", rows)
        drawing.caption = "Results without an answer, by error type."
        yield drawing


def _with_interval(mean: float, low: float | None, high: float | None) -> str:
    return f"{mean:.3f}" if low is None or high is None else f"{mean:.3f} ({low:.3f} to {high:.3f})"
