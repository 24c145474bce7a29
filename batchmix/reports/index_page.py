"""Writes `index.html` over an output root: all jobs with their last verdict, their scores, and each of their nights."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import msgspec

from batchmix.comparison.alarms import run_alarms
from batchmix.comparison.metric_text import named_metric
from batchmix.engine import reader
from batchmix.errors import RunError
from batchmix.evaluation.measure import Metrics, metrics_path
from batchmix.formats.amounts import counted
from batchmix.formats.display import clean
from batchmix.formats.pyarrow_setup import set_up_arrow
from batchmix.job import CheckedJob
from batchmix.job.guards import guarded
from batchmix.job.secrets import secrets_if_set
from batchmix.reports.drawing import Drawing, Scale
from batchmix.reports.html_page import check_page, is_page, write_page
from batchmix.store.run_folder import Layout, run_folders
from batchmix.verdict.good_runs import is_night
from batchmix.verdict.history import PastRun, past_runs
from batchmix.verdict.pinned import is_pinned

INDEX = "index.html"
_MAX_NIGHTS = 60
"""The most nights of a job that are shown. Older ones are left out."""
_MAX_SCORES = 12
"""The most scores of a job that are shown."""
_MAX_ALARMS = 20
"""The most alarms of a job that are shown in words."""
_WIDTH, _HEIGHT = 180, 34

State = Literal["passed", "failed", "no baseline", "not evaluated", "not finished", "try"]
_SIGNS: dict[State, str] = {
    "passed": "✓",
    "failed": "✕",
    "no baseline": "○",
    "not evaluated": "·",
    "not finished": "…",
    "try": "~",
}
"""How each state is marked, so that it can be told without colours."""


class PastNight(msgspec.Struct):
    """One run of a job."""

    day: str
    state: State
    sign: str
    text: str
    """What there is to say about it, in one line."""
    facts: str
    """The same without its alarms."""
    link: str
    """The address of its report, relative to the page. Empty if it has none."""


class JobOverview(msgspec.Struct):
    """All runs of a job."""

    name: str
    state: State
    """That of the last night. A try is none, and only counts in a job that has no other runs."""
    last: PastNight
    alarms: list[str]
    """Those of the last night, each after its kind: `Worse: …`."""
    thresholds: list[str]
    scores: list[dict[str, Any]]
    """For each model and scorer: its name, its last score, and a small chart."""
    nights: list[PastNight]
    left_out: int
    """The number of older nights that are not shown."""


def write_index(root: Path) -> tuple[Path, list[str]]:
    """Write the index of an output root. Return its path, and a message for each run that can't be read.

    Raises `RunError` if there are no runs, or if something that is not ours is in the index's place.
    """
    set_up_arrow()
    path = root / INDEX
    check_page(path)
    past = past_runs(root)
    unreadable = list(_unreadable(root, past))
    if not past and not unreadable:
        raise reader.no_run(root)
    by_name: dict[str, list[PastRun]] = {}
    for one in past:
        by_name.setdefault(one.run.name, []).append(one)
    jobs = sorted((_overview(root, runs) for runs in by_name.values()), key=lambda job: job.state != "failed")
    values = {
        "root": clean(root.resolve().name, 100),
        "jobs": [msgspec.to_builtins(job) for job in jobs],
        "failed": sum(job.state == "failed" for job in jobs),
        "unreadable": [clean(message, 400) for message in unreadable],
        "signs": [{"state": state, "sign": sign} for state, sign in _SIGNS.items()],
    }
    write_page(path, INDEX, values, _layout(past))
    return path, unreadable


def renew_indexes(run: Path) -> None:
    """Write the indexes anew that are there already, one or two levels above a run. Raises `RunError`."""
    for root in run.resolve().parents[:2]:
        if (root / INDEX).exists() and is_page(root / INDEX):
            write_index(root)


def _layout(past: Sequence[PastRun]) -> Layout:
    """Return a layout with the permissions and secrets of the last run whose job can be read."""
    job = _job(past)
    if job is None:
        return Layout(Path())
    return Layout(Path(), mode=job.output.permissions, secrets=secrets_if_set(job.provider, os.environ))


def _unreadable(root: Path, past: Iterable[PastRun]) -> Iterator[str]:
    """Yield a message for each run folder that can't be read, and for each whose metrics can't be read."""
    readable = {one.folder for one in past}
    for folder in run_folders(root):
        if folder not in readable:
            try:
                Layout(folder).read_run()
            except RunError as error:
                yield str(error)
    for one in past:
        if one.metrics is None and metrics_path(Layout(one.folder)).exists():
            yield f"{one.folder}: its metrics can't be read; batchmix eval {one.folder} computes them again"


def _overview(root: Path, runs: Sequence[PastRun]) -> JobOverview:
    job = _job(runs)
    shown = list(runs[-_MAX_NIGHTS:])
    nights = [_night(root, one, is_try=_is_try(one, job)) for one in shown]
    counted_runs = [one for one in shown if not _is_try(one, job)]
    last = (counted_runs or shown)[-1]
    alarms = [clean(text, 400) for text in _alarms(last)] if counted_runs else []
    more = [f"and {len(alarms) - _MAX_ALARMS:,} more"] if len(alarms) > _MAX_ALARMS else []
    return JobOverview(
        name=clean(last.run.name, 100),
        state=nights[shown.index(last)].state,
        last=nights[shown.index(last)],
        alarms=[*alarms[:_MAX_ALARMS], *more],
        thresholds=[clean(text, 200) for text in _thresholds(last.metrics)] if last.metrics else [],
        scores=list(_scores(counted_runs)),
        nights=nights,
        left_out=len(runs) - len(shown),
    )


def _job(runs: Sequence[PastRun]) -> CheckedJob | None:
    """Return the job of the last run that says it. None if none does."""
    for one in reversed(runs):
        with contextlib.suppress(RunError):
            return reader.recorded_job_in(one.run)
    return None


def _is_try(one: PastRun, job: CheckedJob | None) -> bool:
    return one.run.is_try if job is None else not is_night(one, job)


def _night(root: Path, one: PastRun, *, is_try: bool) -> PastNight:
    state, report = "try" if is_try else _state(one), one.folder / "report.html"
    day = one.folder.name if one.folder.parent != root else one.started_at[:10] or one.folder.name
    facts = "; ".join([clean(str(one.folder.relative_to(root)), 100), state, *_notes(one)])
    text = "; ".join([facts, *(clean(alarm, 200) for alarm in _alarms(one)[:3])])
    # A name such as `javascript:…` must not be taken for a scheme, hence the dot.
    link = f"./{quote(report.relative_to(root).as_posix())}" if report.exists() and is_page(report) else ""
    return PastNight(clean(day, 16), state, _SIGNS[state], text, facts, link)


def _state(one: PastRun) -> State:
    last = one.run.starts[-1] if one.run.starts else None
    if one.metrics is None:
        return "not evaluated" if last and last.exit_code in {0, 1} else "not finished"
    if _alarms(one):
        return "failed"
    verdict = one.valid_verdict
    waits = verdict is not None and verdict.against and not (verdict.baseline and verdict.baseline.run)
    return "no baseline" if waits else "passed"


def _alarms(one: PastRun) -> list[str]:
    """Return why a run did not pass, in words: the kind of each alarm, and its text."""
    if one.metrics is None:
        return []
    verdict = one.valid_verdict
    return [
        f"{alarm.kind.capitalize()}: {alarm.text}"
        for alarm in (verdict.alarms if verdict else run_alarms(one.folder, one.metrics))
    ]


def _notes(one: PastRun) -> Iterator[str]:
    if one.metrics is None:
        answered = Layout(one.folder).answers_in_summary()
        yield f"{answered:,} of {counted(one.run.results, 'result')} answered"
        return
    if is_pinned(one.folder, one.run.name):
        yield "the pinned baseline"
    if one.valid_verdict and (baseline := one.valid_verdict.baseline):
        yield clean(
            f"compared with {baseline.run} ({baseline.how})" if baseline.run else f"no baseline: {baseline.note}", 200
        )
    if not one.metrics.complete:
        yield "some results are missing"
    for scored in [scored for scored in one.metrics.scores if not scored.group][:3]:
        if scored.score.mean is not None:
            yield clean(f"{scored.model}: {scored.scorer} {scored.score.mean:.3f}", 100)


def _thresholds(metrics: Metrics) -> Iterator[str]:
    """Yield the thresholds of a job in words, except those that each job has."""
    scorers = [scorer.name for scorer in metrics.settings.scorers]
    models = [model.model for model in metrics.models]
    own = [guard for guard in metrics.settings.guards if guard.min is not None or guard.max is not None]
    for guard, model, scorer in guarded(own, scorers, models):
        low = "" if guard.min is None else f" at least {guard.min:g}"
        high = "" if guard.max is None else f" at most {guard.max:g}"
        yield f"{model}: {named_metric(guard.metric, scorer)}{low}{high}"


def _scores(runs: Sequence[PastRun]) -> Iterator[dict[str, Any]]:
    """Yield a small chart for each model and scorer of the last evaluated run."""
    evaluated = [one for one in runs if one.metrics]
    last = evaluated[-1].metrics if evaluated else None
    pairs = [(found.model, found.scorer) for found in last.scores if not found.group] if last else []
    for pair in pairs[:_MAX_SCORES]:
        values = [_mean(one, *pair) for one in runs]
        present = [value for value in values if value is not None]
        if present:
            yield {
                "name": clean(f"{pair[0]} · {pair[1]}", 80),
                "last": f"{present[-1]:.3f}",
                "range": f"{min(present):.3f} to {max(present):.3f}",
                "chart": msgspec.to_builtins(_sparkline(values)),
            }


def _mean(one: PastRun, model: str, scorer: str) -> float | None:
    scores = one.metrics.scores if one.metrics else ()
    return next(
        (found.score.mean for found in scores if not found.group and (found.model, found.scorer) == (model, scorer)),
        None,
    )


def _sparkline(values: Sequence[float | None]) -> Drawing:
    """Draw a score over the nights. Nights without a score are gaps."""
    present = [value for value in values if value is not None]
    middle, span = (min(present) + max(present)) / 2, max(max(present) - min(present), 0.05)
    x = Scale(0, max(1, len(values) - 1), 4, _WIDTH - 4)
    y = Scale(middle - span / 2, middle + span / 2, _HEIGHT - 5, 5)
    drawing = Drawing("score over the nights", height=_HEIGHT)
    course: list[tuple[float, float]] = []
    for at, value in enumerate([*values, None]):
        if value is not None:
            course.append((x.at(at), y.at(value)))
        elif course:
            if len(course) > 1:
                drawing.path("course c0", course)
            course = []
    last = max(at for at, value in enumerate(values) if value is not None)
    drawing.dot("fill c0", (x.at(last), y.at(values[last] or 0.0)), f"{values[last]:.3f}", 3)
    return drawing
