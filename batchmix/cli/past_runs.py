"""Formats the past runs of a job as text and for `--json`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from batchmix.cli.tables import cell, in_columns, number
from batchmix.formats.amounts import counted
from batchmix.formats.run_times import without_milliseconds

if TYPE_CHECKING:
    from batchmix.evaluation.measure import ScoreMetrics
    from batchmix.verdict.history import PastRun

_BARS = "▁▂▃▄▅▆▇█"
_HEAD = ("run", "started", "state", "verdict", "changed", "model", "scorer", "score", "95 %")


def sparkline(values: Sequence[float | None]) -> str:
    """Return values as a line of bars, scaled from the lowest to the highest value. None becomes a blank."""
    numbers = [value for value in values if value is not None]
    if not numbers:
        return ""
    lowest, span = min(numbers), max(numbers) - min(numbers)
    steps = len(_BARS) - 1
    return "".join(
        " " if value is None else _BARS[round((value - lowest) / span * steps) if span else steps // 2]
        for value in values
    )


def past_lines(past: list[PastRun]) -> list[str]:
    """Return a table of past runs, the oldest first, and a table with the trend of each score."""
    from batchmix.verdict.history import version_changes

    changes = version_changes(past)
    lines = in_columns(
        [_HEAD, *(row for past_run, changed in zip(past, changes, strict=True) for row in _rows(past_run, changed))]
    )
    pairs = dict.fromkeys((scored.model, scored.scorer) for past_run in past for scored in _scores(past_run))
    trends = [("model", "scorer", "over these runs", "first", "last")]
    for model, scorer in pairs:
        values = [_value(past_run, model, scorer) for past_run in past if not past_run.run.is_try]
        numbers = [value for value in values if value is not None]
        if numbers:
            trends.append((cell(model), scorer, sparkline(values), number(numbers[0]), number(numbers[-1])))
    return [*lines, "", *in_columns(trends)] if len(trends) > 1 else lines


def past_record(past: list[PastRun]) -> list[dict[str, Any]]:
    """Return past runs for `--json`."""
    from batchmix.verdict.history import version_changes

    changes = version_changes(past)
    return [
        {
            "run": str(past_run.folder),
            "started_at": past_run.started_at,
            "exit_code": past_run.run.starts[-1].exit_code if past_run.run.starts else None,
            "dataset": past_run.verdict.dataset if past_run.verdict else None,
            "prompt": past_run.prompt,
            "try": past_run.run.is_try,
            "pinned": _is_pinned(past_run),
            "changed": changed,
            "passed": past_run.verdict.passed if past_run.verdict else None,
            "alarms": [alarm.text for alarm in past_run.verdict.alarms] if past_run.verdict else [],
            "baseline": past_run.verdict.baseline.run if past_run.verdict and past_run.verdict.baseline else None,
            "scores": [
                {
                    "model": scored.model,
                    "scorer": scored.scorer,
                    "mean": scored.score.mean,
                    "stderr": scored.score.stderr,
                }
                for scored in _scores(past_run)
            ],
        }
        for past_run, changed in zip(past, changes, strict=True)
    ]


def _rows(past_run: PastRun, changed: str) -> list[tuple[str, ...]]:
    start = (
        cell(str(past_run.folder), 60),
        without_milliseconds(past_run.started_at),
        _state(past_run),
        _verdict(past_run),
        changed,
    )
    rows: list[tuple[str, ...]] = []
    for scored in _scores(past_run):
        score = scored.score
        interval = "" if score.low is None or score.high is None else f"{score.low:.3f}–{score.high:.3f}"
        rows.append((*start, cell(scored.model), scored.scorer, number(score.mean), interval))
        start = ("", "", "", "", "")
    return rows or [(*start, "", "", "", "")]


def _state(past_run: PastRun) -> str:
    code = past_run.run.starts[-1].exit_code if past_run.run.starts else None
    if past_run.metrics is None:
        state = "not evaluated" if code in {0, 1} else "not finished"
    else:
        state = "whole" if past_run.metrics.complete else "part"
    state = "try" if past_run.run.is_try else state
    return f"{state}, pinned" if _is_pinned(past_run) else state


def _is_pinned(past_run: PastRun) -> bool:
    from batchmix.verdict.pinned import is_pinned

    return is_pinned(past_run.folder, past_run.run.name)


def _verdict(past_run: PastRun) -> str:
    if past_run.verdict is None:
        return ""
    alarms = len(past_run.verdict.alarms)
    return counted(alarms, "alarm") if alarms else "passed"


def _scores(past_run: PastRun) -> list[ScoreMetrics]:
    return [scored for scored in past_run.metrics.scores if not scored.group] if past_run.metrics else []


def _value(past_run: PastRun, model: str, scorer: str) -> float | None:
    return next(
        (scored.score.mean for scored in _scores(past_run) if (scored.model, scored.scorer) == (model, scorer)), None
    )
