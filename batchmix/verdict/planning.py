"""Plans a run together with its evaluation: what judges would be asked, and how small a fall would be found."""

from __future__ import annotations

from pathlib import Path

import msgspec

from batchmix.engine.plan import Plan, plan_run
from batchmix.engine.prepare import Options
from batchmix.job import CheckedJob
from batchmix.redact import Secrets


def check_evaluation(job: CheckedJob) -> None:
    """Raise the `UsageError` that a run would raise because of its evaluation, before its input is read."""
    if job.eval is not None:
        from batchmix.verdict.outcome import evaluation_of  # not at the top: most runs are not evaluated

        evaluation_of(Path(job.output.path), job, Secrets())


def planned(job: CheckedJob, options: Options, secrets: Secrets | None = None) -> Plan:
    """Plan a run and its evaluation. Raises the `UsageError` that the run would raise before it sends anything.

    The account's balance is looked up only if `secrets` are given.
    """
    check_evaluation(job)
    plan = plan_run(job, options, secrets)
    if job.eval is None:
        return plan
    from batchmix.evaluation.judge_plans import judge_plans
    from batchmix.verdict.expected_power import detectable_falls

    judges, detectable = judge_plans(job, plan), detectable_falls(job, plan.rows)
    return msgspec.structs.replace(plan, judges=judges, detectable=detectable)
