"""Writes `report.html`, a self-contained page without scripts. All text that comes from rows is escaped."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from batchmix.comparison.alarms import Alarm, run_alarms
from batchmix.comparison.metric_text import least_found
from batchmix.comparison.run_diff import Diff, compare_judged_pairs, compare_runs
from batchmix.comparison.verdicts import LEVEL
from batchmix.engine import reader
from batchmix.evaluation.measure import Metrics, measure, metrics_path, read_metrics
from batchmix.evaluation.scoring import scores_path
from batchmix.formats.amounts import counted, usd
from batchmix.formats.display import clean
from batchmix.formats.pyarrow_setup import set_up_arrow
from batchmix.formats.run_times import without_milliseconds
from batchmix.job.eval_table import Eval
from batchmix.job.secrets import secrets_if_set
from batchmix.reports import panels
from batchmix.reports.answers_page import answers_part
from batchmix.reports.drawing import Drawing
from batchmix.reports.group_tables import group_tables
from batchmix.reports.html_page import check_page, write_page
from batchmix.reports.report_answers import Answers, changed_answers, low_answers, rewritten_parts
from batchmix.reports.report_tables import (
    checked_answers,
    comparison_row,
    model_row,
    score_row,
    trend_row,
)
from batchmix.store.run_folder import Layout
from batchmix.store.view import View
from batchmix.verdict.history import PastRun, past_runs
from batchmix.verdict.verdict_file import Verdict, level_of

_MAX_LINES = 200
"""The most lines of a changed prompt that are shown."""


def write_report(folder: Path, baseline: Path | None) -> Path:
    """Write a run's `report.html` and return its path. Raises `RunError`.

    `baseline` is the folder of the run to compare with. None: the one that the run was compared with when it was
    evaluated, if there is one and it is still there.
    """
    set_up_arrow()
    path = folder / "report.html"
    check_page(path)
    job = reader.job_of(folder)
    layout = Layout(folder, mode=job.output.permissions, secrets=secrets_if_set(job.provider, os.environ))
    write_page(path, "report.html", _values(layout, baseline), layout)
    return path


def _values(layout: Layout, baseline: Path | None) -> dict[str, Any]:
    """Return the values that the template of the page shows, with control characters escaped."""
    folder = layout.root
    view = reader.look(folder)
    evaluated = scores_path(layout).exists()
    metrics = read_metrics(layout) if evaluated else measure(layout, Eval(), ())
    past = _until(view, past_runs(folder.resolve().parent, metrics.name))
    verdict = next((one.valid_verdict for one in past if one.folder.resolve() == folder.resolve()), None)
    compared = _compared(folder, metrics, baseline, verdict)
    alarms = _alarms(folder, metrics, verdict, compared)
    times = panels.read_response_times(folder, view.run)
    return {
        "name": clean(metrics.name, 100),
        "started": without_milliseconds(metrics.started_at).replace("T", " ").replace("Z", " UTC"),
        "folder": clean(str(folder), 200),
        "complete": metrics.complete,
        "rehearsal": view.run.rehearsal,
        "batchmix": metrics.batchmix,
        "alarms": [{"kind": alarm.kind, "text": _alarm_text(alarm)} for alarm in alarms],
        "baseline": _baseline_note(verdict, compared),
        "trends": [trend_row(found) for found in verdict.trends] if verdict else [],
        "tiles": [*_verdict_tiles(compared, alarms), *_tiles(view, metrics, times)],
        "scores": _drawn([*panels.score_charts(metrics, compared), *panels.history_charts(past, metrics)]),
        "score_rows": [score_row(found) for found in metrics.scores if not found.group],
        "groups": [
            msgspec.to_builtins(table) for table in group_tables(metrics, compared.groups if compared else ())
        ],
        "run_charts": _drawn(
            [
                *panels.speed_chart(times, view.run.models),
                *panels.latency_chart(times),
                *panels.cost_chart(view.totals, metrics),
                *panels.failure_chart(view.totals),
            ]
        ),
        "models": [model_row(found) for found in metrics.models],
        "failures": [
            {"kind": kind, "count": f"{failed.count:,}", "row": f"{failed.row}", "message": clean(failed.message, 300)}
            for kind, failed in sorted(view.totals.failures.items(), key=lambda item: -item[1].count)
        ],
        "answers": checked_answers(view.answers) if view.answers else None,
        "diff": _difference(compared) if compared else None,
        "parts": list(_answer_parts(layout, compared, evaluated=evaluated)),
    }  # fmt: skip


def _until(view: View, runs: Sequence[PastRun]) -> list[PastRun]:
    """Return the runs without those that began after this one."""
    began = view.run.starts[0].at if view.run.starts else ""
    return [past_run for past_run in runs if past_run.started_at <= began]


def _compared(folder: Path, metrics: Metrics, baseline: Path | None, verdict: Verdict | None) -> Diff | None:
    if baseline is None and verdict is not None and verdict.baseline is not None:
        found = verdict.baseline.folder(folder)
        baseline = found if found and metrics_path(Layout(found)).exists() else None
    if baseline is None:
        return compare_judged_pairs(folder, metrics, verdict.level if verdict and verdict.level else LEVEL)
    return compare_runs(baseline, folder, level=level_of(Layout(folder), baseline))


def _alarms(folder: Path, metrics: Metrics, verdict: Verdict | None, compared: Diff | None) -> list[Alarm]:
    """Return why the run does not pass: by this comparison, by its thresholds, and by its trends."""
    trends = [alarm for alarm in verdict.alarms if alarm.kind == "trend"] if verdict else []
    return [*(compared.alarms if compared else run_alarms(folder, metrics)), *trends]


def _alarm_text(alarm: Alarm) -> str:
    """Return what is wrong in words, with a long name of a model shortened."""
    rest = alarm.text.removeprefix(alarm.model)
    return clean(alarm.model, 60) + clean(rest, 600) if rest != alarm.text else clean(alarm.text, 600)


def _baseline_note(verdict: Verdict | None, compared: Diff | None) -> str:
    """Return what there is to say about the baseline. Empty if the heading of the comparison says it all."""
    chosen = verdict.baseline if verdict else None
    if chosen is None or (compared and Path(compared.before).name != Path(chosen.run).name):
        return ""
    parts = [f"Baseline: {chosen.run} ({chosen.how})" if chosen.run else "No baseline yet"]
    gone = ["it is not there any more"] if chosen.run and compared is None else []
    return clean("; ".join([*parts, *gone, *([chosen.note] if chosen.note else [])]), 400)


def _answer_parts(layout: Layout, compared: Diff | None, *, evaluated: bool) -> Iterator[dict[str, Any]]:
    """Yield the parts of the page that have answers to read."""
    runs = f"{clean(compared.before)} {clean(compared.after)}" if compared else ""
    show = f"batchmix diff {runs} --show N shows any number of them."
    changed = changed_answers(compared) if compared else Answers([])
    rewritten = rewritten_parts(compared) if compared else Answers([])
    low = low_answers(layout.root) if evaluated else Answers([])
    for name, title, found, more in (
        ("changed-answers", "Answers that changed", changed, show),
        ("other-answers", "Answers with another text", rewritten, show),
        ("low-scores", "The worst answers", low, "evaluation/scores.parquet has the scores of all."),
    ):
        part = answers_part(layout, name, title, found, more)
        if found.sections:
            yield part


def _drawn(drawings: list[Drawing]) -> list[dict[str, Any]]:
    return [
        {**msgspec.to_builtins(drawing), "title": clean(drawing.title, 120), "caption": clean(drawing.caption)}
        for drawing in drawings
    ]


def _verdict_tiles(compared: Diff | None, alarms: Sequence[Alarm]) -> Iterator[dict[str, str]]:
    """Yield the tiles that say whether the run passed."""
    if compared is None and not alarms:
        return
    tone = "bad" if alarms else "good"
    guarded = [one.verdict for one in (*compared.comparisons, *compared.groups) if one.verdict] if compared else []
    note = (
        f"{guarded.count('worse'):,} worse, {guarded.count('not compared'):,} not compared of {len(guarded):,} guarded"
    )
    yield _tile("Alarms", f"{len(alarms):,}", note if compared else "of this run by itself", tone)


def _tiles(view: View, metrics: Metrics, times: panels.ResponseTimes) -> Iterator[dict[str, str]]:
    """Yield the tiles at the top of the page, which show the main figures."""
    totals, timeline = view.totals, times.timeline
    unanswered = totals.failed + totals.rejected - totals.skipped
    yield _tile("Answered", f"{totals.ok:,}", f"of {view.asked:,}; {unanswered:,} without an answer")
    judged = [one.cost_usd for one in metrics.judges if one.cost_usd is not None]
    if totals.cost_usd is not None or judged:
        spent = sum([totals.cost_usd or 0.0, *judged])
        note = f"including {usd(sum(judged))} for judging" if judged else "all answers"
        yield _tile("Cost", usd(spent), f"{totals.unpriced:,} without a price" if totals.unpriced else note)
    yield _tile("Tokens", _short(totals.prompt_tokens + totals.completion_tokens),
                f"{totals.prompt_tokens:,} in, {totals.completion_tokens:,} out")  # fmt: skip
    if timeline:
        yield _tile("Active time", _duration(timeline.span_s), f"{totals.ok / timeline.span_s:,.4g} answers per second")


def _tile(name: str, value: str, note: str, tone: str = "") -> dict[str, str]:
    return {"name": name, "value": value, "note": note, "tone": tone}


def _short(count: int) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {letter}"
    return f"{count}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.3g} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02} min"


def _difference(compared: Diff) -> dict[str, Any]:
    changed_groups = [group for group in compared.groups if group.verdict in {"worse", "better"}]
    return {
        "before": clean(compared.before, 200),
        "within": compared.before == compared.after,
        "notes": [clean(line) for line in _pairing_notes(compared)],
        "requests": [
            {"heading": clean(change.heading, 400), "lines": [clean(line, 400) for line in change.lines[:_MAX_LINES]]}
            for change in compared.request_changes
        ],
        "detectable": any(map(least_found, compared.comparisons)),
        "charts": _drawn(list(panels.difference_charts(compared))),
        "rows": [comparison_row(one) for one in (*compared.comparisons, *changed_groups)],
    }


def _pairing_notes(compared: Diff) -> Iterator[str]:
    """Yield what there is to say about the pairs: how many, by what, and what is left out."""
    yield f"{counted(compared.paired, 'result')} paired by {compared.paired_by} and sample."
    yield from compared.renamed
    if compared.other_requests:
        yield f"{counted(compared.other_requests, 'pair')} with another request than before."
    if compared.changed:
        yield f"Left out: {counted(compared.changed, 'result')}: {compared.why_changed}."
    if compared.unpaired:
        yield f"Left out: {counted(compared.unpaired, 'result')} that only one of the runs has."
    yield from (f"Left out: {line}" for line in compared.left_out)
