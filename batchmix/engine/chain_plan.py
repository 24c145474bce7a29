"""Plans a chain: what its first step would send, and an estimate for the others, whose prompts hold answers to come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from batchmix.engine.chain import rehearsed
from batchmix.engine.plan import Plan, plan_run
from batchmix.engine.prepare import Options
from batchmix.job import CheckedJob
from batchmix.load import RUN, find_sources, missing_parts
from batchmix.load.requests import output_cap

_ROWS = 200
"""The number of rows from which later steps are estimated."""
_WORDS = 150
"""The length in words of a made-up answer, where no `max_tokens` bounds it."""
_WORDS_PER_TOKEN = 0.75


class StepPlan(msgspec.Struct, frozen=True):
    """What a step of a chain would send."""

    name: str
    is_estimate: bool
    """Whether the answers of the step before are not there yet, and made-up ones took their place."""
    requests: int
    """Number of requests still to be sent; of an estimate the most, as if no row failed or was skipped before."""
    prompt_tokens: int
    least_usd: float | None
    most_usd: float | None

    def as_json(self) -> dict[str, Any]:
        """Return the plan for `--json`."""
        fields: dict[str, Any] = msgspec.to_builtins(self)
        return fields


def chain_plan(job: CheckedJob, options: Options) -> list[StepPlan]:
    """Return a plan for each step. Sends nothing: the rehearsal provider answers a few rows. Raises `UsageError`."""
    plans = []
    with rehearsed(job, _ROWS, _words(job)) as folders:
        rows = 0
        for number, step in enumerate(job.steps):
            first = options if number == 0 else msgspec.structs.replace(options, limit=None)
            if number == 0 or _is_there(step):
                plan = plan_run(step, first)
                plans.append(_step_plan(plan, is_estimate=False, factor=1.0))
                rows = plan.results
                continue
            source = msgspec.structs.replace(step.input, path=str(folders[number - 1]), when=None)
            output = msgspec.structs.replace(step.output, path=f"{folders[number]}-plan")
            plan = plan_run(msgspec.structs.replace(step, input=source, output=output), first)
            factor = rows / max(1, plan.rows)
            plans.append(_step_plan(plan, is_estimate=True, factor=factor))
            rows = round(plan.results * factor)
    return plans


def _is_there(step: CheckedJob) -> bool:
    """Return whether all rows of a step are there, so that it can be planned like any other run."""
    if not Path(step.input.path, "run.json").exists():
        return False
    parts = find_sources(step.input.path)
    return parts[0].format == RUN and not missing_parts(tuple(part.path for part in parts))


def _words(job: CheckedJob) -> int:
    """Return the length of made-up answers: of the longest that a step allows, or a usual one."""
    caps = [output_cap(model.params) for step in job.steps for model in step.models]
    known = [cap for cap in caps if cap is not None]
    return max(1, int(_WORDS_PER_TOKEN * max(known))) if len(known) == len(caps) and known else _WORDS


def _step_plan(plan: Plan, *, is_estimate: bool, factor: float) -> StepPlan:
    least, most = plan.least_usd, plan.most_usd
    return StepPlan(
        plan.name,
        is_estimate,
        round(plan.requests * factor),
        round(plan.prompt_tokens * factor),
        None if least is None else least * factor,
        None if most is None else most * factor,
    )
