"""The command `batchmix plan`."""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Any

import click
import msgspec

from batchmix.cli.options import job_from, job_options, verbose_option
from batchmix.cli.output import echo, echo_error, echo_json, hide_secrets, log_to_stderr
from batchmix.errors import JobError
from batchmix.formats.amounts import counted, usd
from batchmix.job.secrets import read_secrets

if TYPE_CHECKING:
    from batchmix.engine.plan import Plan
    from batchmix.evaluate.judge import JudgePlan
    from batchmix.job import Job


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
    job = job_from(source, settings, options)
    secrets = None
    with contextlib.suppress(JobError):  # a plan sends nothing, so it works without an API key
        secrets = read_secrets(job.provider, os.environ)
        hide_secrets(secrets)
    from batchmix.cli.forecast import print_forecast, send_canary
    from batchmix.engine.plan import plan
    from batchmix.engine.run import Options

    run_options = Options(
        limit=options["limit"],
        update=options["update"],
        retry_rejected=options["retry_rejected"],
        reject_bad_rows=options["bad_rows"] == "reject",
    )
    forecast = send_canary(job, run_options, options["canary"], "auto") if options["canary"] else None
    found = plan(job, run_options, secrets)
    if found.shortage:
        echo_error(f"warning: {found.shortage}")
    if found.duplicates_warning:
        echo_error(f"warning: {found.duplicates_warning}")
    judges = _judges(job, found)
    if options["as_json"]:
        echo_json(
            found.as_json()
            | {"judges": msgspec.to_builtins(judges)}
            | ({"canary": msgspec.to_builtins(forecast)} if forecast else {})
        )
        return 0
    for line in _lines(found, [_judge_line(judge) for judge in judges]):
        echo(line)
    if forecast:
        echo()
        print_forecast(forecast)
    return 0


def _cost_lines(found: Any) -> list[str]:
    """Return lines with the range of the cost of the requests to send: the total, and by model if there are several."""
    lanes = [lane for lane in found.lanes if lane.requests]
    shown = [(found.least_usd, found.most_usd, "")] if found.least_usd is not None else []
    if len(lanes) > 1 or not shown:
        shown += [(lane.least_usd, lane.most_usd, f" {lane.model}") for lane in lanes]
    texts = [f"{_range(least, most)}{model}" for least, most, model in shown]
    return [f"  {'cost' if number == 0 else '':<12} {text}" for number, text in enumerate(texts)]


def _range(least: float | None, most: float | None) -> str:
    if least is None:
        return "unknown: no price is known for"
    if most is None:
        return f"{usd(least)} and more: the requests set no max_tokens (--canary 50 forecasts it)"
    return f"{usd(least)} to {usd(most)}"


def _judges(job: Job, found: Plan) -> list[JudgePlan]:
    if job.eval is None:
        return []
    from batchmix.evaluate.judge import judge_plans

    return judge_plans(job, found)


def _judge_line(judge: JudgePlan) -> str:
    least, most = judge.least_usd, judge.most_usd
    cost = f"about {usd(least)} " if least is not None else "no price is known"
    cost += "" if least is None else "and more" if most is None else f"to {usd(most)}"
    return f"  judging      at most {counted(judge.requests, 'request')} to {judge.model} ({judge.scorer}), {cost}"


def _lines(found: Any, judging: list[str]) -> list[str]:
    lines = [f"{found.name}: {counted(found.rows, 'row')}, {counted(found.results, 'request')} in all"]
    if found.done:
        lines.append(f"  done already {found.done:,}")
    if found.reused:
        lines.append(f"  reused       {counted(found.reused, 'answer')} of other runs, at no cost")
    if found.repeated:
        lines.append(f"  repeated     {found.repeated:,} use the answer of an earlier row with the same request")
    if found.same_draws:
        lines.append("               (temperature is not 0: these answers are repeated, not sampled again)")
    if found.samples > 1 and found.reused + found.repeated:
        lines.append("               (samples: the n-th answer of a row is used for the n-th of the other)")
    different = f", {found.different:,} of them different" if found.requests > 1 else ""
    lines.append(f"  to send      {found.requests:,}{different}")
    if found.own_params:
        lines.append(
            f"  own params   {', '.join(found.own_params)}, of each row (--set input.params='' leaves them out)"
        )
    if found.rejected:
        lines.append(f"  rejected     {counted(found.rejected, 'row')} can't be sent, such as {found.rejected_example}")
    most = "without a bound" if found.max_tokens is None else f"at most {found.max_tokens:,}"
    lines.append(f"  tokens       about {found.prompt_tokens:,} in, out {most}")
    lines += [*_cost_lines(found), *judging]
    if found.balance_usd is not None:
        lines.append(f"  balance      {usd(found.balance_usd)}")
    if found.least_s is not None:
        lines.append(f"  time         at least {found.least_s:,.0f} s by the configured limits")
    lines.append(f"  folder       {found.folder}")
    if found.first is not None:
        lines += ["", f"First request: POST {found.url}"]
        lines += [f"  {name}: {value}" for name, value in found.headers.items()]
        lines += [f"  {line}" for line in json.dumps(found.first, indent=2, ensure_ascii=False).split("\n")]
    return lines
