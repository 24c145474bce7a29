"""What judges will be asked, and what that may cost, before anything is sent."""

from __future__ import annotations

from pathlib import Path

import msgspec

from batchmix.engine.plan import Plan
from batchmix.evaluate.judge import judge_job
from batchmix.job import Job, Price
from batchmix.job.eval_table import Eval, Judge
from batchmix.prices.cost import Prices
from batchmix.prices.lookup import PriceLookup
from batchmix.records import BYTES_PER_TOKEN
from batchmix.store.view import judges_in

_SHARES = (0.5, 1.5)
"""What languages make of an estimate by bytes lies between these shares."""


class JudgePlan(msgspec.Struct, frozen=True):
    """What one judge will be asked."""

    scorer: str
    model: str
    requests: int
    """At the most: results without an answer are not judged."""
    least_usd: float | None
    """For the rubrics alone, and answers of a token; None: no price is known."""
    most_usd: float | None
    """For rubrics that show what the prompt does and the longest answer; None too where those have no bound."""


def judge_price(job: Job, asked: Judge) -> Price | None:
    """Return what a judge's model costs; None: no price is known.

    Raises `JobError` where there is no such model, and for one without a price where USD are capped.
    """
    judging = judge_job(job, asked, Path())
    if judging.budget.max_usd is None:
        judging = msgspec.structs.replace(judging, budget=job.budget)
    return Prices(PriceLookup(judging).settled(judging.models), judging.models).of(asked.model)


def judge_plans(job: Job, found: Plan) -> list[JudgePlan]:
    """Return what each judge will be asked for the results that a plan ends with. Raises `JobError`."""
    done = judges_in(Path(job.output.path) / "evaluation")
    judges = [scorer for scorer in (job.eval or Eval()).scorers if isinstance(scorer, Judge)]
    return [_plan(job, judge, found, max(0, found.results - done.get(judge.name, {}).get("ok", 0))) for judge in judges]


def _plan(job: Job, asked: Judge, found: Plan, requests: int) -> JudgePlan:
    price, least, most = judge_price(job, asked), None, None
    if price:
        rubric = len(asked.rubric.encode()) / BYTES_PER_TOKEN
        least = requests * (_SHARES[0] * rubric * price.input + price.output) / 1e6
        bound = asked.params.get("max_tokens", asked.params.get("max_completion_tokens"))
        if isinstance(bound, int) and found.max_tokens is not None and found.requests:
            shown = (found.prompt_tokens + found.max_tokens) / found.requests
            most = requests * (_SHARES[1] * (rubric + shown) * price.input + bound * price.output) / 1e6
    return JudgePlan(asked.name, asked.model, requests, least, most)
