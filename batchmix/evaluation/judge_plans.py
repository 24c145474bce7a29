"""How many requests judges will send, and what they will cost."""

from __future__ import annotations

from pathlib import Path

import msgspec

from batchmix.engine.eval_plan import JudgePlan
from batchmix.engine.plan import Plan
from batchmix.evaluation.judge import judge_job
from batchmix.job import CheckedJob, Price
from batchmix.job.eval_table import Eval
from batchmix.prices.cost import Prices
from batchmix.prices.lookup import PriceLookup
from batchmix.records import BYTES_PER_TOKEN, Status
from batchmix.scorers.indirect import Judge
from batchmix.scorers.verdict_forms import form_text
from batchmix.store.view import judges_in

_TOKEN_SHARES = (0.5, 1.5)
"""The lowest and the highest ratio of the real number of tokens to the estimate from bytes, over all languages."""


def judge_prices(job: CheckedJob, judge: Judge) -> list[Price | None]:
    """Return the price of each of a judge's models. None if a price is unknown.

    Raises `JobError` if a model is unknown, or if it has no price although the budget is in USD.
    """
    judging = judge_job(job, judge, Path())
    if judging.budget.max_usd is None:
        judging = msgspec.structs.replace(judging, budget=job.budget)
    prices = Prices(PriceLookup(judging).settled(judging.models), judging.models)
    return [prices.price_of(model) for model in judge.judges]


def judge_plans(job: CheckedJob, run_plan: Plan) -> list[JudgePlan]:
    """Return a plan for each model of each judge. `run_plan` is the plan of the run to judge. Raises `JobError`."""
    done = judges_in(Path(job.output.path) / "evaluation")
    plans = []
    for judge in (job.eval or Eval()).scorers:
        if isinstance(judge, Judge):
            orders = judge.requests_per_answer // len(judge.judges)
            answered = done.get(judge.name, {}).get(Status.OK, 0) // len(judge.judges)
            requests = max(0, run_plan.results * orders - answered)
            for model, price in zip(judge.judges, judge_prices(job, judge), strict=True):
                plans.append(_plan(judge, model, price, run_plan, requests))
    return plans


def _plan(judge: Judge, model: str, price: Price | None, run_plan: Plan, requests: int) -> JudgePlan:
    least_usd, most_usd = None, None
    if price:
        form = form_text(judge, {}) if judge.form == "nonce" else ""
        rubric = len((judge.rubric + form).encode()) / BYTES_PER_TOKEN
        least_usd = requests * (_TOKEN_SHARES[0] * rubric * price.input + price.output) / 1e6
        bound = judge.params.get("max_tokens", judge.params.get("max_completion_tokens"))
        if isinstance(bound, int) and run_plan.max_tokens is not None and run_plan.requests:
            answers = run_plan.max_tokens * (2 if judge.compares else 1)
            shown = (run_plan.prompt_tokens + answers) / run_plan.requests
            most_usd = requests * (_TOKEN_SHARES[1] * (rubric + shown) * price.input + bound * price.output) / 1e6
    return JudgePlan(judge.name, model, requests, least_usd, most_usd)
