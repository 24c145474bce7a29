"""Makes the message about a scheduled run: its summary, its verdict, and what to look at."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import msgspec

from batchmix.errors import BatchmixError, RunError
from batchmix.formats.amounts import counted
from batchmix.remote.objects import is_remote
from batchmix.schedule.state import ScheduledRun
from batchmix.store.run_folder import Layout
from batchmix.store.working_copy import read_copy

_REFUSED = 2
"""The exit code of a run that sent nothing. What lies in its folder is of earlier starts."""
_MAX_LINES = 20
"""The most reasons that a text for people lists."""
_OF_VERDICT = ("alarms", "scores", "trends", "baseline")


def message_of(name: str, run: ScheduledRun) -> dict[str, Any]:
    """Return the message: the keys of `summary.json`, the state of the scheduled run, and its verdict.

    It always has `job`, `night` (the scheduled date), `due`, `exit_code`, `folder`, `passed`, `reasons`, `alarms`,
    `scores`, `trends`, `baseline` and `report`. The keys of `summary.json` are missing if there is no run folder.
    """
    with contextlib.ExitStack() as stack:
        return _message(name, run, _readable(run.folder, stack))


def _readable(folder: str, stack: contextlib.ExitStack) -> Layout | None:
    """Return the layout of a run folder, or of a copy of one in object storage. None if there is none."""
    if not is_remote(folder):
        return Layout(Path(folder)) if folder else None
    with contextlib.suppress(BatchmixError):
        return Layout(stack.enter_context(read_copy(folder, must_exist=False)))
    return None


def _message(name: str, run: ScheduledRun, layout: Layout | None) -> dict[str, Any]:
    summary = _json(layout.summary_json) if layout else {}
    verdict = _verdict(layout) if layout and run.exit_code != _REFUSED else {}
    report = layout.report if layout and run.exit_code != _REFUSED else None
    state: dict[str, Any] = {
        "job": name,
        "night": run.date.isoformat(),
        "due": run.due.isoformat(),
        "exit_code": run.exit_code,
        "folder": run.folder,
        "passed": run.exit_code == 0,
        "reasons": _reasons(run, layout, summary, verdict),
        **{key: verdict.get(key, None if key == "baseline" else []) for key in _OF_VERDICT},
        "report": os.path.join(run.folder, report.name) if report and report.exists() else None,  # noqa: PTH118 - a URL
    }
    return {**summary, **state}


def slack_text(message: dict[str, Any]) -> str:
    """Return a message as a text for people, with the escapes that Slack asks for."""
    outcome = "passed" if message["passed"] else f"failed (exit code {message['exit_code']})"
    lines = [f"{message['job']}, {message['night']}: {outcome}"]
    reasons = message["reasons"]
    lines += [f"• {reason}" for reason in reasons[:_MAX_LINES]]
    lines += [f"• and {len(reasons) - _MAX_LINES:,} more"] if len(reasons) > _MAX_LINES else []
    lines += [_score_line(score) for score in message["scores"][:_MAX_LINES]]
    baseline = message["baseline"] or {}
    if baseline.get("run"):
        lines.append(f"compared with {baseline['run']} ({baseline.get('how')})")
    elif baseline.get("note"):
        lines.append(f"no baseline yet: {baseline['note']}")
    lines.append(f"report: {message['report']}" if message["report"] else f"folder: {message['folder']}")
    return "\n".join(lines).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _score_line(score: dict[str, Any]) -> str:
    mean, before = score.get("score"), score.get("before")
    shown = "no score" if mean is None else f"{mean:.3f}"
    change = "" if mean is None or before is None else f" (before: {before:.3f})"
    return f"{score.get('scorer')} of {score.get('model')}: {shown}{change}"


def _reasons(run: ScheduledRun, layout: Layout | None, summary: dict[str, Any], verdict: dict[str, Any]) -> list[str]:
    """Return why a run did not pass, in sentences. Empty if it passed."""
    if run.exit_code == 0:
        return []
    reasons = [alarm["text"] for alarm in verdict.get("alarms", [])]
    if run.exit_code == 1:
        left = sum(count for key in ("failed", "rejected") if isinstance(count := summary.get(key), int))
        reasons += [f"{counted(left, 'row')} without an answer"] if left else []
    elif run.exit_code == _REFUSED:
        reasons.append("the run or its evaluation was refused (exit code 2); the output of batchmix says why")
    elif stopped := _stop_reason(layout):
        reasons.append(stopped)
    return reasons or [f"the run ended with exit code {run.exit_code}"]


def _stop_reason(layout: Layout | None) -> str:
    """Return why the last start in a run folder ended early. Empty if it is not known."""
    try:
        record = layout.read_run() if layout else None
    except RunError:
        return ""
    return record.starts[-1].reason if record and record.starts else ""


class _ToldAlarm(msgspec.Struct):
    text: str


class _ToldScore(msgspec.Struct):
    model: str
    scorer: str
    score: float | None
    before: float | None


class _ToldBaseline(msgspec.Struct):
    run: str
    how: str
    note: str


class _ToldVerdict(msgspec.Struct):
    """What is taken from `verdict.json`, which anybody may have written."""

    starts: int
    alarms: list[_ToldAlarm]
    scores: list[_ToldScore]
    trends: list[dict[str, Any]]
    baseline: _ToldBaseline | None


def _verdict(layout: Layout) -> dict[str, Any]:
    """Return the verdict on the run's last start. Empty without one, or if it can't be read."""
    verdict = _json(layout.verdict_json)
    try:
        record = layout.read_run()
        msgspec.convert(verdict, _ToldVerdict)
    except (RunError, msgspec.ValidationError):
        return {}
    return verdict if record and verdict["starts"] == len(record.starts) else {}


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
