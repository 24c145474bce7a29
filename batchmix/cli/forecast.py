"""The option `--canary`: sends a few rows first, and forecasts the cost of the rest."""

from __future__ import annotations

import os

import msgspec

from batchmix.cli.output import echo, echo_error, hide_secrets
from batchmix.cli.summary import summary_row
from batchmix.engine.canary import Forecast, forecast
from batchmix.engine.run import Options, run_job
from batchmix.engine.run_status import RunStatus
from batchmix.formats.amounts import counted, usd
from batchmix.job import CheckedJob
from batchmix.job.secrets import read_secrets
from batchmix.progress.shown import progress_shown, terminal_mode


def send_canary(job: CheckedJob, options: Options, count: int, progress: str) -> Forecast:
    """Send `count` rows of a job as part of its run, and return a forecast for the rest. Raises `BatchmixError`."""
    secrets = read_secrets(job.provider, os.environ)
    hide_secrets(secrets)
    run_status = RunStatus()
    with progress_shown(run_status, terminal_mode(progress)):
        view = run_job(job, secrets, msgspec.structs.replace(options, canary=count), run_status)
    for warning in run_status.warnings:
        echo_error(warning)
    return forecast(view, job)


def print_forecast(forecast: Forecast) -> None:
    """Print the forecast after a canary."""
    for line in forecast_lines(forecast):
        echo(line)


def forecast_lines(forecast: Forecast) -> list[str]:
    """Return the forecast after a canary as lines of text."""
    spent = "an unknown amount" if forecast.spent_usd is None else usd(forecast.spent_usd)
    lines = [f"Canary: {forecast.answered:,} of {counted(forecast.rows, 'row')} answered; spent so far: {spent}"]
    lines.append(summary_row("different", f"{counted(forecast.different, 'request')} over all rows"))
    lines += [f"  warning: {forecast.duplicates_warning}"] if forecast.duplicates_warning else []
    tokens, cost = forecast.completion_tokens, forecast.cost_usd
    if tokens is None:
        return [*lines, "  Too few answers with usage for a forecast of the cost; try a larger canary."]
    lines.append(f"The rest: {counted(forecast.requests, 'request')} (in brackets: 95 % prediction intervals)")
    billed = forecast.billed_requests
    if billed and round(billed.estimate) > forecast.requests:
        span = f"{billed.estimate:,.0f} ({billed.low:,.0f} to {billed.high:,.0f})"
        lines.append(summary_row("billed", f"{span} requests with repairs and retries"))
    lines.append(summary_row("answers", f"{tokens.estimate:,.0f} tokens ({tokens.low:,.0f} to {tokens.high:,.0f})"))
    price = cost and f"{usd(cost.estimate)} ({usd(cost.low)} to {usd(cost.high)})"
    return [
        *lines,
        summary_row("cost", price or "unknown: no price is known"),
        summary_row("time", f"at least {forecast.least_s:,.0f} s"),
    ]
