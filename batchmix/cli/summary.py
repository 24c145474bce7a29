"""The table at the end of a run."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

from batchmix.cli.output import shield
from batchmix.cli.progress_lines import Standing, left_s, model_lines, span_text
from batchmix.engine.canary import Forecast
from batchmix.engine.status import Idle, RunStatus
from batchmix.formats.amounts import counted, usd
from batchmix.store.parts import list_parts
from batchmix.store.run_folder import Start
from batchmix.store.totals import Totals
from batchmix.store.view import View

_WIDEST = 240


def closing_lines(view: View, run_status: RunStatus, elapsed_s: float) -> list[str]:
    """Return what a person wants to know at the end."""
    lines = [f"{view.run.name}: {_headline(view)}", *_totals_lines(view)]
    answers = sum(lane.answers for lane in run_status.lanes)
    rate = f", {answers / elapsed_s:,.0f} answers/s" if answers and elapsed_s > 0 else ""
    lines.append(_line("time", f"{elapsed_s:.1f} s{rate}"))
    return lines + _where(view)


def _totals_lines(view: View) -> list[str]:
    totals = view.totals
    lines = []
    for status in ("ok", "failed", "rejected"):
        count = getattr(totals, status)
        if count or status == "ok":
            lines.append(_line("answered" if status == "ok" else status, f"{count:,} of {view.run.results:,}"))
    if totals.reused:
        lines.append(_line("reused", f"{counted(totals.reused, 'answer')} taken from what was there, at no cost"))
    if view.unanswered:
        lines.append(_line("unanswered", f"{view.unanswered:,}"))
    for kind, example in sorted(totals.failures.items(), key=lambda item: -item[1].count):
        lines.append(_line("", f"{example.count:,} {kind}, such as row {example.row}: {_short(example.message)}"))
    lines.append(_line("tokens", f"{totals.prompt_tokens:,} in, {totals.completion_tokens:,} out"))
    lines += [*_cost_lines(totals), *_judge_lines(view)]
    if totals.billed_retries:
        cost = _after("", totals.billed_retries_usd)
        lines.append(
            _line("retries", f"{counted(totals.billed_retries, 'attempt')} billed for no answer, by their usage{cost}")
        )
    if view.surplus_answers:
        times = f"{counted(view.surplus_answers, 'time')} something came that nobody had asked for"
        lines.append(_line("surplus", f"{times}; no row was given it"))
    if totals.maybe_billed:
        cost = _after("perhaps ", totals.maybe_billed_usd)
        attempts = counted(totals.maybe_billed, "attempt")
        what = "never heard of again, or empty (batchmix status)"
        lines.append(_line("maybe billed", f"{attempts} {what}{cost}"))
    return lines


def _after(certainty: str, cost_usd: float | None) -> str:
    return "" if cost_usd is None else f": {certainty}{usd(cost_usd)} more"


def _cost_lines(totals: Totals) -> list[str]:
    """Return what the answers cost, by model where there are several."""
    untold = sum(cost.unreported.answers for cost in totals.costs.values())
    if totals.cost_usd is None:
        return [_line("cost", f"unknown: {counted(untold, 'answer')} came without usage")] if untold else []
    why = f", {untold:,} of them for want of usage" if untold else ""
    unpriced = f" ({counted(totals.unpriced, 'answer')} without a price{why})" if totals.unpriced else ""
    lines = [_line("cost", f"{usd(totals.cost_usd)}{unpriced}")]
    if len(totals.models) > 1:
        shares = [(model, cost.usd) for model, cost in totals.costs.items() if cost.priced]
        lines += [_line("", f"{usd(share)} {model}") for model, share in sorted(shares, key=lambda share: -share[1])]
    return lines


def _judge_lines(view: View) -> list[str]:
    """Return what judges have cost so far."""
    costs = [(name, judge["cost_usd"]) for name, judge in view.judges.items() if judge["cost_usd"] is not None]
    return [_line("judging", f"{usd(cost)} {name}") for name, cost in costs]


def state_lines(view: View, start: Start | None) -> list[str]:
    """Return how a run stands, for `status`."""
    lines = [f"{view.run.name}: {_state(view, start)}", *_totals_lines(view)]
    lines += _pace_lines(view)
    if view.in_flight:
        lines.append(_line("in flight", f"{len(view.in_flight):,}"))
    if view.maybe_billed:
        lines.append("Maybe billed twice, or for nothing (sent; their end was never heard, or held nothing):")
        several = len(view.run.models) > 1
        by_model: dict[str, list[int]] = {}
        for row, model, _ in view.maybe_billed:
            by_model.setdefault(model, []).append(row)
        for model, rows in by_model.items():
            lines.append(
                f"  {model + ': ' if several else ''}{'row' if len(rows) == 1 else 'rows'} {', '.join(map(str, rows))}"
            )
    lines += [f"  {damage}" for damage in view.damage]
    return lines + _where(view)


def _pace_lines(view: View) -> list[str]:
    """Return how fast a run that goes on is, how long it takes, and what limits it; of each model too."""
    if view.answers_per_s is None:
        return []
    models = running(view)
    seconds, limits = time_left(view, models), {model.limited_by for model in models}
    left = "" if seconds is None else f", {span_text(seconds)} left"
    limited = f", limited by {limits.pop()}" if len(limits) == 1 and "" not in limits else ""
    lines = [_line("speed", f"{view.answers_per_s:,.1f} answers/s within the last minute{left}{limited}")]
    if len(models) > 1:
        lines += [f"  {line}" for line in model_lines(models, _width(), len(models))]
    return lines


def running(view: View) -> list[Standing]:
    """Return how far each model of a run is that another process works on."""
    totals, several, speeds = view.totals, len(view.run.models), view.speeds or {}
    now = view.run.starts[-1].limited_now if view.run.starts else {}
    each = view.run.results // several if view.run.job.get("models") and several else 0
    found = []
    for model in view.run.models:
        counts, cost, limited = totals.models.get(model, {}), totals.costs.get(model), now.get(model, "")
        ended = sum(counts.values())
        found.append(
            Standing(
                shield(model),
                ended,
                each,
                ended - counts.get("ok", 0),
                speeds.get(model, 0.0),
                cost.usd if cost and cost.priced else None,
                limited or ("done" if ended >= each > 0 else ""),
                limited in set(Idle),
            )
        )
    return found


def time_left(view: View, models: list[Standing]) -> float | None:
    """Return how long a run takes to its end at its rate; None where nobody knows."""
    if all(model.results for model in models):
        return left_s(models)
    return view.unanswered / view.answers_per_s if view.answers_per_s and view.unanswered else None


def _width() -> int:
    return max(60, shutil.get_terminal_size((120, 24)).columns) - 3


def _state(view: View, start: Start | None) -> str:
    if view.holder is not None:
        return f"running ({view.holder})"
    if not view.unanswered:
        return _headline(view)
    if start is None or start.ended_at is None:
        return "not finished; the last process was killed; the command that started it goes on with it"
    reason = f": {start.reason}" if start.reason else ""
    return f"not finished; stopped at {start.ended_at}{reason}"


def _headline(view: View) -> str:
    if view.unanswered:
        return "not finished"
    return "finished" if view.totals.ok == view.run.results else "finished, some rows have no answer"


def _where(view: View) -> list[str]:
    data = _relative(view.layout.data)
    if not list_parts(view.layout.data):
        return [_line("export", shlex.join(["batchmix", "export", _relative(view.layout.root), "answers.parquet"]))]
    code = f"import pyarrow.parquet as pq; print(pq.read_table({data!r}))"
    return [
        _line("data", data),
        _line("read it", shlex.join([sys.executable or "python", "-c", code])),
    ]


def _relative(path: Path) -> str:
    try:
        relative = os.path.relpath(path)
    except OSError:  # the working directory is gone
        return str(path)
    return relative if len(relative) < len(str(path)) else str(path)


def _line(label: str, text: str) -> str:
    return f"  {label:<12} {text}"


def _short(text: str) -> str:
    """Return text on one line, without its middle if it is long: what to do stands at its end."""
    text = " ".join(text.split())
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST // 3]} … {text[-_WIDEST * 2 // 3 :]}"


def forecast_lines(found: Forecast) -> list[str]:
    """Return what a canary says of the rest."""
    spent = "an unknown amount" if found.spent_usd is None else usd(found.spent_usd)
    lines = [f"The canary: {found.answered:,} of {counted(found.rows, 'row')} answered; spent so far: {spent}"]
    lines.append(_line("different", f"{counted(found.different, 'request')} over all rows"))
    lines += [f"  warning: {found.sameness}"] if found.sameness else []
    tokens, cost = found.completion_tokens, found.cost_usd
    if tokens is None:
        return [*lines, "  Too few answers with their usage to say what the rest will cost; a larger canary can."]
    lines.append(f"The rest: {counted(found.requests, 'request')} (in brackets what 95 of 100 such forecasts hold)")
    lines.append(_line("answers", f"{tokens.estimate:,.0f} tokens ({tokens.low:,.0f} to {tokens.high:,.0f})"))
    known = cost and f"{usd(cost.estimate)} ({usd(cost.low)} to {usd(cost.high)})"
    return [
        *lines,
        _line("cost", known or "unknown: there is no price"),
        _line("time", f"at least {found.least_s:,.0f} s"),
    ]
