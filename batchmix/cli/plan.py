"""The command `batchmix plan`."""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Any

import click
import msgspec

from batchmix.cli.options import job_from, job_options, shown_local_output, verbose_option
from batchmix.cli.output import echo, echo_error, echo_json, hide_secrets, log_to_stderr
from batchmix.cli.tables import cell
from batchmix.errors import JobError
from batchmix.formats.amounts import counted, usd
from batchmix.job.secrets import read_secrets

if TYPE_CHECKING:
    from batchmix.engine.eval_plan import DetectableFall, JudgePlan
    from batchmix.engine.run import Options
    from batchmix.job import CheckedJob


@click.command("plan")
@job_options
@click.option("--update", is_flag=True, help="Plan for a run with --update.")
@click.option("--retry-rejected", is_flag=True, help="Plan for a run with --retry-rejected.")
@click.option(
    "--canary",
    type=click.IntRange(min=1),
    metavar="N",
    help="Send N rows, as part of the run, and forecast the rest.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
@verbose_option
def command(source: str, settings: tuple[str, ...], **options: Any) -> int:
    """Show what a run would send. Sends nothing and needs no key, except with --canary.

    Counts rows and requests, estimates tokens and cost, shows how much is done already, and the first request.

    \b
    Example:
      batchmix plan jobs/quickstart.toml
      batchmix plan jobs/quickstart.toml --canary 20
    """
    log_to_stderr(options["verbose"])
    with shown_local_output(job_from(source, settings, options), writes=bool(options["canary"])) as job:
        if job.steps:
            from batchmix.cli.chain import plan_steps

            return plan_steps(job, _options_of(options), options)
        return _plan(job, options)


def _options_of(options: dict[str, Any]) -> Options:
    from batchmix.engine.run import Options

    return Options(
        limit=options["limit"],
        update=options["update"],
        retry_rejected=options["retry_rejected"],
        reject_bad_rows=options["bad_rows"] == "reject",
    )


def _plan(job: CheckedJob, options: dict[str, Any]) -> int:
    secrets = None
    with contextlib.suppress(JobError):  # a plan sends nothing, so it works without an API key
        secrets = read_secrets(job.provider, os.environ)
        hide_secrets(secrets)
    from batchmix.cli.forecast import print_forecast, send_canary
    from batchmix.engine.answers import schema_warnings
    from batchmix.verdict.planning import check_evaluation, planned

    run_options = _options_of(options)
    forecast = None
    if options["canary"]:
        check_evaluation(job)
        forecast = send_canary(job, run_options, options["canary"], "auto")
    run_plan = planned(job, run_options, secrets)
    if run_plan.shortage:
        echo_error(f"warning: {run_plan.shortage}")
    for warning in schema_warnings(run_plan.schemas if run_plan.requests else ()):
        echo_error(f"warning: {warning}")
    if run_plan.duplicates_warning:
        echo_error(f"warning: {run_plan.duplicates_warning}")
    if options["as_json"]:
        echo_json(run_plan.as_json() | ({"canary": msgspec.to_builtins(forecast)} if forecast else {}))
        return 0
    evaluating = [_judge_line(judge) for judge in run_plan.judges if judge.requests] + [
        _fall_line(fall) for fall in run_plan.detectable * bool(run_plan.requests)
    ]
    for line in _lines(run_plan, evaluating):
        echo(line)
    if forecast:
        echo()
        print_forecast(forecast)
    return 0


def _token_line(run_plan: Any) -> str:
    max_output = "without a bound" if run_plan.max_tokens is None else f"at most {run_plan.max_tokens:,}"
    max_output += " without repairs" if run_plan.repair and run_plan.max_tokens is not None else ""
    return f"  tokens       about {run_plan.prompt_tokens:,} in, out {max_output}"


def _cost_lines(run_plan: Any) -> list[str]:
    """Return lines with the range of the cost of the requests to send: the total, and by model if there are several."""
    lanes = [lane for lane in run_plan.lanes if lane.requests]
    shown = [(run_plan.least_usd, run_plan.most_usd, "")] if run_plan.least_usd is not None else []
    if len(lanes) > 1 or not shown:
        shown += [(lane.least_usd, lane.most_usd, f" {lane.model}") for lane in lanes]
    texts = [f"{_range(least_usd, most_usd)}{model}" for least_usd, most_usd, model in shown]
    if run_plan.repair and run_plan.most_without_repairs_usd is not None:
        texts[0] += f" with all repairs, at most {usd(run_plan.most_without_repairs_usd)} without any"
    return [f"  {'cost' if number == 0 else '':<12} {text}" for number, text in enumerate(texts)]


def _cache_lines(run_plan: Any) -> list[str]:
    """Return lines that say how much of the prompts could come from a prompt cache, and what that would cost."""
    cached = sum(lane.cached_tokens for lane in run_plan.lanes)
    if not cached:
        return []
    share = cached / max(1, run_plan.prompt_tokens)
    lines = [f"  cache        about {cached:,} tokens ({share:.0%}) begin prompts like an earlier one"]
    if run_plan.least_cached_usd is not None:
        cost = _range(run_plan.least_cached_usd, run_plan.most_cached_usd).partition(":")[0]
        lines.append(f"               {cost} if they are read from the provider's cache")
    lacking = [lane.model for lane in run_plan.lanes if lane.cached_tokens and lane.lacks_marks]
    if lacking:
        lines.append(f"               {', '.join(lacking)}: only with marks for Claude's cache (--set cache.mark=5m)")
    return lines


def _range(least_usd: float | None, most_usd: float | None) -> str:
    if least_usd is None:
        return "unknown: no price is known for"
    if most_usd is None:
        return f"{usd(least_usd)} and more: the requests set no max_tokens (--canary 50 forecasts it)"
    return f"{usd(least_usd)} to {usd(most_usd)}"


def _schema_lines(run_plan: Any) -> list[str]:
    """Return lines that say how the schema is sent, and how often a row may be asked again."""
    names = len(run_plan.schemas) > 1
    texts = [f"{schema.model}: {schema.text}" if names else schema.text for schema in run_plan.schemas]
    lines = [f"  {'' if number else 'schema':<12} {text}" for number, text in enumerate(texts)]
    if not run_plan.repair:
        return [*lines, "  repairs      none (answer.repair = 0)"] if run_plan.repair == 0 else lines
    lines.append(f"  repairs      an invalid answer is asked for again up to {counted(run_plan.repair, 'time')}")
    caps = [lane.largest_cap for lane in run_plan.lanes if lane.largest_cap]
    if caps:
        cap = max(caps)
        lines.append(f"               one that max_tokens = {cap:,} cuts off is requested once more with {2 * cap:,}")
    else:
        lines.append("               one that is cut off is no exception, since the requests set no max_tokens")
    return lines


def _judge_line(judge: JudgePlan) -> str:
    least_usd, most_usd = judge.least_usd, judge.most_usd
    cost = f"about {usd(least_usd)} " if least_usd is not None else "no price is known"
    cost += "" if least_usd is None else "and more" if most_usd is None else f"to {usd(most_usd)}"
    return f"  judging      at most {counted(judge.requests, 'request')} to {judge.model} ({judge.scorer}), {cost}"


def _fall_line(found: DetectableFall) -> str:
    what = cell(f"{found.scorer} of {found.model}" if found.model else found.scorer, 80)
    if found.fall is None:
        return f"  would find   no fall of {what}: {counted(found.rows, 'row')} are too few"
    source = f"as {cell(found.run, 80)} varied" if found.run else "at worst"
    points = f"{100 * found.fall:.{0 if found.fall >= 0.1 else 1}f}"
    return f"  would find   a fall of {what} by {points} points, 4 times of 5 ({source})"


def _lines(run_plan: Any, evaluating: list[str]) -> list[str]:
    lines = [f"{run_plan.name}: {counted(run_plan.rows, 'row')}, {counted(run_plan.results, 'request')} in all"]
    if run_plan.done:
        lines.append(f"  done already {run_plan.done:,}")
    if run_plan.reused:
        lines.append(f"  reused       {counted(run_plan.reused, 'answer')} of other runs, at no cost")
    if run_plan.repeated:
        lines.append(f"  repeated     {run_plan.repeated:,} use the answer of an earlier row with the same request")
    if run_plan.same_draws:
        lines.append("               (temperature is not 0: these answers are repeated, not sampled again)")
    if run_plan.samples > 1 and run_plan.reused + run_plan.repeated:
        lines.append("               (samples: the n-th answer of a row is used for the n-th of the other)")
    different = f", {run_plan.different:,} of them different" if run_plan.requests > 1 else ""
    lines.append(f"  to send      {run_plan.requests:,}{different}")
    if run_plan.requests and run_plan.own_params:
        lines.append(
            f"  own params   {', '.join(run_plan.own_params)}, of each row (--set input.params='' leaves them out)"
        )
    if run_plan.skipped:
        lines.append(f"  skipped      {counted(run_plan.skipped, 'result')}, since input.when is false")
    if run_plan.rejected:
        rejected = counted(run_plan.rejected, "result")
        lines.append(f"  rejected     {rejected} without a request, such as {run_plan.rejected_example}")
    if run_plan.requests:
        lines += [*_schema_lines(run_plan), _token_line(run_plan), *_cost_lines(run_plan), *_cache_lines(run_plan)]
    lines += evaluating
    if run_plan.balance_usd is not None:
        lines.append(f"  balance      {usd(run_plan.balance_usd)}")
    if run_plan.requests and run_plan.least_s is not None:
        lines.append(f"  time         at least {run_plan.least_s:,.0f} s by the configured limits")
    lines.append(f"  folder       {run_plan.folder}")
    if run_plan.requests:
        lines += ["", f"First request: POST {run_plan.url}"]
        lines += [f"  {name}: {value}" for name, value in run_plan.headers.items()]
        lines += [f"  {line}" for line in json.dumps(run_plan.first, indent=2, ensure_ascii=False).split("\n")]
    return lines
