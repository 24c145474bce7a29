"""Formats the summary of a run, which is printed at its end and by `batchmix status`."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

from batchmix.cli.output import printable, shown_name
from batchmix.engine.run_status import Idle, RunStatus
from batchmix.formats.amounts import counted, usd
from batchmix.progress.folder_text import checked_text, headline, short_message, state_of
from batchmix.progress.lines import model_lines, span_text
from batchmix.progress.speeds import ModelProgress, left_s
from batchmix.records import Status
from batchmix.remote.objects import is_remote
from batchmix.store.answer_totals import shown_path
from batchmix.store.parts import list_parts
from batchmix.store.totals import Totals
from batchmix.store.view import View

_MAX_PATHS = 5
"""The most places at which answers are invalid that are shown."""


def closing_lines(view: View, run_status: RunStatus, elapsed_s: float) -> list[str]:
    """Return the summary at the end of a run."""
    lines = [f"{view.run.name}: {headline(view)}", *_total_lines(view)]
    answers = sum(lane.answers for lane in run_status.lanes)
    rate = f", {answers / elapsed_s:,.0f} answers/s" if answers and elapsed_s > 0 else ""
    lines.append(summary_row("time", f"{elapsed_s:.1f} s{rate}"))
    return lines + _data_lines(view)


def _total_lines(view: View) -> list[str]:
    totals = view.totals
    lines = []
    for status in (Status.OK, Status.FAILED, Status.REJECTED):
        count = getattr(totals, status)
        if count or status == Status.OK:
            lines.append(summary_row("answered" if status == Status.OK else status, f"{count:,} of {view.asked:,}"))
    if totals.reused:
        lines.append(summary_row("reused", f"{counted(totals.reused, 'answer')} reused at no cost"))
    if view.unanswered:
        lines.append(summary_row("left out" if view.is_finished else "unanswered", f"{view.unanswered:,}"))
    for kind, example in sorted(totals.failures.items(), key=lambda item: -item[1].count):
        lines.append(
            summary_row("", f"{example.count:,} {kind}, such as row {example.row}: {short_message(example.message)}")
        )
    lines += _checked_lines(view.answers) if view.answers else []
    lines.append(summary_row("tokens", f"{totals.prompt_tokens:,} in, {totals.completion_tokens:,} out"))
    lines += [*_cache_lines(view), *_cost_lines(totals), *_judge_lines(view)]
    if totals.billed_retries:
        cost = _after("", totals.billed_retries_usd)
        missing = "an answer" if view.answers is None else "a valid answer"
        lines.append(
            summary_row("retries", f"{counted(totals.billed_retries, 'attempt')} billed without {missing}{cost}")
        )
    if view.answers and view.answers["repairs"]:
        lines.append(summary_row("repairs", _repairs(view.answers)))
    if view.surplus_answers:
        times = f"{counted(view.surplus_answers, 'time')} a response came that was not requested"
        lines.append(summary_row("surplus", f"{times}; no row has it"))
    if totals.maybe_billed:
        cost = _after("perhaps ", totals.maybe_billed_usd)
        attempts = counted(totals.maybe_billed, "attempt")
        what = "without a response, or with an empty one (batchmix status)"
        lines.append(summary_row("maybe billed", f"{attempts} {what}{cost}"))
    return lines


def _checked_lines(answers: dict[str, Any]) -> list[str]:
    """Return lines that say how the answers fared in the check by the job's schema: in all, by model and by path."""
    models = answers["models"] if len(answers["models"]) > 1 else {}
    lines = [summary_row("checked", checked_text(answers))]
    lines += [summary_row("", f"{checked_text(of_model)}: {model}") for model, of_model in models.items()]
    paths = answers["invalid_paths"] | {
        path: 0 for path in answers["lost_paths"] if path not in answers["invalid_paths"]
    }
    for path, count in list(paths.items())[:_MAX_PATHS]:
        lost = answers["lost_paths"].get(path, 0)
        rows = f", {counted(lost, 'row')} lost" if lost else ""
        lines.append(summary_row("", f"{counted(count, 'answer')} invalid at {shown_path(path)}{rows}"))
    if len(paths) > _MAX_PATHS:
        lines.append(summary_row("", f"and others at {len(paths) - _MAX_PATHS:,} more places (summary.json)"))
    return lines


def _repairs(answers: dict[str, Any]) -> str:
    usd_spent = answers["repairs_usd"]
    cost = "" if usd_spent is None else f": {usd(usd_spent)}, which is included above"
    return f"{counted(answers['repairs'], 'answer')} to requests that repair others{cost}"


def _after(certainty: str, cost_usd: float | None) -> str:
    return "" if cost_usd is None else f": {certainty}{usd(cost_usd)} more"


def _cache_lines(view: View) -> list[str]:
    """Return a line with the tokens that were read from a prompt cache, and what that saved. Empty if none were."""
    totals, saved_usd = view.totals, view.cache_saved_usd
    if not totals.cached_tokens and not totals.cache_write_tokens:
        return []
    written = f", {totals.cache_write_tokens:,} written to it" if totals.cache_write_tokens else ""
    money = "" if saved_usd is None else f": {usd(abs(saved_usd))} {'saved' if saved_usd >= 0 else 'more was paid'}"
    return [summary_row("cache", f"{totals.cached_tokens:,} tokens read{written}{money}")]


def _cost_lines(totals: Totals) -> list[str]:
    """Return lines with the cost of the answers: the total, and by model if there are several."""
    no_usage = sum(cost.unreported.answers for cost in totals.costs.values())
    if totals.cost_usd is None:
        return [summary_row("cost", f"unknown: {counted(no_usage, 'answer')} came without usage")] if no_usage else []
    why = f", {no_usage:,} of them without usage" if no_usage else ""
    unpriced = f" ({counted(totals.unpriced, 'answer')} without a price{why})" if totals.unpriced else ""
    lines = [summary_row("cost", f"{usd(totals.cost_usd)}{unpriced}")]
    if len(totals.models) > 1:
        shares = [(model, cost.usd) for model, cost in totals.costs.items() if cost.priced]
        lines += [
            summary_row("", f"{usd(share)} {model}") for model, share in sorted(shares, key=lambda share: -share[1])
        ]
    return lines


def _judge_lines(view: View) -> list[str]:
    """Return lines with the cost of each judge so far."""
    costs = [(name, judge["cost_usd"]) for name, judge in view.judges.items() if judge["cost_usd"] is not None]
    return [summary_row("judging", f"{usd(cost)} {name}") for name, cost in costs]


def state_lines(view: View) -> list[str]:
    """Return the state of a run as lines, for `batchmix status`."""
    lines = [f"{view.run.name}: {state_of(view)}", *_total_lines(view)]
    lines += _pace_lines(view)
    if view.in_flight:
        lines.append(summary_row("in flight", f"{len(view.in_flight):,}"))
    if view.maybe_billed:
        lines.append("Maybe billed twice, or without an answer (sent, but no response came, or an empty one):")
        several = len(view.run.models) > 1
        by_model: dict[str, list[int]] = {}
        for row, model, _ in view.maybe_billed:
            by_model.setdefault(model, []).append(row)
        for model, rows in by_model.items():
            lines.append(
                f"  {model + ': ' if several else ''}{'row' if len(rows) == 1 else 'rows'} {', '.join(map(str, rows))}"
            )
    lines += [f"  {damage}" for damage in view.damage]
    return lines + _data_lines(view)


def _pace_lines(view: View) -> list[str]:
    """Return lines with the speed, the time left, and what limits the speed, also by model. Empty if nothing runs."""
    if view.answers_per_s is None:
        return []
    models = progress_of_models(view)
    seconds, limits = time_left(view, models), {model.limited_by for model in models}
    left = "" if seconds is None else f", {span_text(seconds)} left"
    limited = f", limited by {limits.pop()}" if len(limits) == 1 and "" not in limits else ""
    lines = [summary_row("speed", f"{view.answers_per_s:,.1f} answers/s in the last minute{left}{limited}")]
    if len(models) > 1:
        lines += [f"  {line}" for line in model_lines(models, _width(), len(models))]
    return lines


def progress_of_models(view: View) -> list[ModelProgress]:
    """Return the progress of each model of a run in another process, as recorded in its run folder."""
    totals, several, speeds = view.totals, len(view.run.models), view.speeds or {}
    now = view.run.starts[-1].limited_now if view.run.starts else {}
    each = view.run.results // several if view.run.job.get("models") and several else 0
    models = []
    for model in view.run.models:
        counts, cost, limited = totals.models.get(model, {}), totals.costs.get(model), now.get(model, "")
        finished = sum(counts.values())
        models.append(
            ModelProgress(
                printable(model),
                finished,
                each,
                finished - counts.get(Status.OK, 0),
                speeds.get(model, 0.0),
                cost.usd if cost and cost.priced else None,
                limited or ("done" if finished >= each > 0 else ""),
                limited in set(Idle),
                (totals.answers or {}).get(model),
            )
        )
    return models


def time_left(view: View, models: list[ModelProgress]) -> float | None:
    """Return the seconds until a run is finished at its present rate. None if unknown."""
    if all(model.results for model in models):
        return left_s(models)
    return view.unanswered / view.answers_per_s if view.answers_per_s and view.unanswered else None


def _width() -> int:
    return max(60, shutil.get_terminal_size((120, 24)).columns) - 3


def _data_lines(view: View) -> list[str]:
    data = _relative(view.layout.data)
    if not list_parts(view.layout.data):
        return [
            summary_row("export", shlex.join(["batchmix", "export", _relative(view.layout.root), "answers.parquet"]))
        ]
    code = f"import pyarrow.parquet as pq; print(pq.read_table({data!r}))"
    reads = not data.startswith("az:")  # which pyarrow does not know
    return [
        summary_row("data", data),
        *[summary_row("read it", shlex.join([sys.executable or "python", "-c", code]))] * reads,
    ]


def _relative(path: Path) -> str:
    if is_remote(named := shown_name(path)):
        return named
    try:
        relative = os.path.relpath(path)
    except OSError:  # the working directory was removed
        return str(path)
    return relative if len(relative) < len(str(path)) else str(path)


def summary_row(label: str, text: str) -> str:
    """Return an indented line with a label and a text. The texts of several such lines are aligned."""
    return f"  {label:<12} {text}"
