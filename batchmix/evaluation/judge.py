"""Scores answers with another model, the judge. Its requests are an ordinary job with its own run folder.

So a judge has its own journal, limits and cost, and resumes after a kill without paying twice. The input of its job
has a row for each result of the judged run, even for a result without an answer. So row numbers never change.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from batchmix.engine import reader
from batchmix.engine.account import used_so_far
from batchmix.engine.run import Options, run_job
from batchmix.engine.run_status import RunStatus
from batchmix.errors import BudgetSpent, RunError
from batchmix.evaluation.judge_rows import write_questions
from batchmix.evaluation.judge_scores import Agreement, HasVerdict, JudgeScores
from batchmix.formats.amounts import usd
from batchmix.job import Budget, CheckedJob, Input, Limits, Model, Output, Reuse
from batchmix.job.answer_table import Answer
from batchmix.redact import Secrets
from batchmix.scorers.indirect import Judge
from batchmix.scorers.verdict_forms import answer_schema, asked_rubric
from batchmix.store.parts import list_parts
from batchmix.store.run_folder import Layout, run_folders

_MIN_BUDGET_USD = 1e-9
"""The judge's budget if nothing of the job's budget is left. Less than any request costs; 0 would mean no budget."""
_MAX_REUSED_RUNS = 10
"""The most earlier runs whose verdicts are looked through."""


class JudgeContext(msgspec.Struct, frozen=True):
    """The job and secrets of the judged run, and the `RunStatus` that shows the progress of its judges."""

    job: CheckedJob
    secrets: Secrets
    run_status: RunStatus
    options: Options = msgspec.field(default_factory=Options)
    """Whether judges are asked again, whether they go on, and through what another thread can stop them."""


class JudgeUsage(msgspec.Struct, frozen=True):
    """A judge's requests, tokens and cost, and how far it can be trusted, as stored in metrics.json."""

    scorer: str
    model: str
    """The models that judge, separated by commas."""
    ok: int
    failed: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    reused: int = 0
    """The number of verdicts that were taken from earlier runs, at no cost."""
    verdicts: int | None = None
    """The number of answers with a verdict. None in an evaluation by an earlier version."""
    refused: int = 0
    """The number of refusals among the answers without a verdict."""
    rejected: int = 0
    """The number of requests that the provider rejected. They are sent again only with `--retry-rejected`."""
    disagreement: float | None = None
    """The share of results on which several judges were not all of one mind. None if there is one judge."""
    contradicted: float | None = None
    """The share of pairs of answers whose two orders contradict each other. None if no pairs were judged."""
    position_bias: float | None = None
    """The share of pairs decided for whichever answer came first, less the share for whichever came second."""
    same: int = 0
    """The number of pairs of answers with the same text. They are ties, and no judge is asked."""
    against: str | None = None
    """The run with whose answers those of this run were compared, relative to the folder that holds this run. None if
    there was none."""

    def with_agreement(self, agreement: Agreement) -> JudgeUsage:
        """Return the usage with how far judges agreed, once all verdicts have been read."""
        names = ("verdicts", "refused", "rejected", "disagreement", "contradicted", "position_bias", "same")
        return msgspec.structs.replace(self, **{name: getattr(agreement, name) for name in names})


def run_judge(
    layout: Layout, judge: Judge, context: JudgeContext, other: Path | None = None
) -> tuple[JudgeScores, JudgeUsage]:
    """Send a judge the answers that it has not judged yet, and return all its scores and its usage.

    `other` is the run with whose answers they are compared, if the judge compares. Verdicts on the same answers in
    earlier runs of the job are reused, but not answers without a verdict. Raises `Stopped` or `Interrupted`, after
    which the same call resumes.
    """
    folder = layout.evaluation / f"judge-{judge.name}"
    layout.make_folder(folder)
    write_questions(layout, judge, context.job, other, folder / "questions.jsonl")
    job = msgspec.structs.replace(
        judge_job(context.job, judge, folder),
        budget=_remaining(context.job.budget, judge, layout, folder),
        reuse=Reuse(folders=earlier_verdicts(layout, judge)),
    )
    # `update`, because an old score is worthless if the answer or the rubric has changed.
    options = msgspec.structs.replace(
        context.options,
        update=True,
        reject_bad_rows=True,
        is_reusable=HasVerdict(judge, folder / "questions.jsonl"),
    )
    try:
        totals = run_job(job, context.secrets, options, context.run_status).totals
    except BudgetSpent as error:
        raise BudgetSpent(_no_budget(judge, job.budget)) from error
    usage = JudgeUsage(
        judge.name,
        ", ".join(judge.judges),
        totals.ok,
        totals.failed,
        totals.prompt_tokens,
        totals.completion_tokens,
        totals.cost_usd,
        totals.reused,
    )
    return JudgeScores(folder, judge), usage


def earlier_verdicts(layout: Layout, judge: Judge) -> tuple[str, ...]:
    """Return the folders with the verdicts of the same judge on the last runs of the job, the latest first.

    Only those that can be read. Each has also what it took from the runs before it, so that few are enough.
    """
    run = layout.read_run()
    found: list[tuple[str, str]] = []
    for folder in run_folders(layout.root.resolve().parent):
        if folder.resolve() == layout.root.resolve():
            continue
        verdicts = folder / "evaluation" / f"judge-{judge.name}" / "run"
        try:
            other, judged = Layout(folder).read_run(), Layout(verdicts).read_run()
            if not (run and other and judged and (other.name, judged.rehearsal) == (run.name, run.rehearsal)):
                continue
            if list_parts(Layout(verdicts).data) and not reader.damaged_parts(verdicts):
                found.append((judged.starts[-1].at if judged.starts else "", str(verdicts.resolve())))
        except RunError:
            continue
    return tuple(verdicts for _, verdicts in sorted(found, reverse=True)[:_MAX_REUSED_RUNS])


def _remaining(budget: Budget, judge: Judge, layout: Layout, folder: Path) -> Budget:
    """Return a judge's budget: what is left of the job's budget, but at most the judge's own `max_usd`.

    The run and the other judges have spent a part of the job's budget.
    """
    if budget == Budget():
        return Budget(judge.max_usd)
    others = [path for path in layout.evaluation.glob("judge-*/run") if path.parent != folder]
    usd, tokens = (sum(each) for each in zip(*map(_spent, [layout.root, *others]), strict=True))
    caps = [
        cap for cap in (judge.max_usd, budget.max_usd and max(_MIN_BUDGET_USD, budget.max_usd - usd)) if cap is not None
    ]
    return Budget(
        min(caps, default=None), None if budget.max_tokens is None else max(1, int(budget.max_tokens - tokens))
    )


def _no_budget(judge: Judge, budget: Budget) -> str:
    """Return the message that a judge's budget is spent, with the settings that it follows from."""
    of_job = "what the run and other judges left of budget."
    caps = [f"{of_job}max_tokens"] * (budget.max_tokens is not None)
    if budget.max_usd is not None:
        own = f"its max_usd in eval.scorers, {usd(budget.max_usd)}"
        caps.insert(0, own if budget.max_usd == judge.max_usd else f"{of_job}max_usd")
    return f"judge {judge.name}: no further request fits into {' and '.join(caps)}; raise it to go on"


def _spent(folder: Path) -> tuple[float, float]:
    if not (folder / "run.json").exists():
        return 0.0, 0.0
    view = reader.look(folder)
    return used_so_far(view, reader.prices_of(view.run))


def judge_job(job: CheckedJob, judge: Judge, folder: Path) -> CheckedJob:
    """Return the job that sends a judge's requests. Its input and its run folder are in `folder`."""
    limits = Limits(
        judge.requests_per_minute or job.limits.requests_per_minute,
        judge.tokens_per_minute or job.limits.tokens_per_minute,
        judge.concurrency or job.limits.concurrency,
    )
    return msgspec.structs.replace(
        job,
        name=f"{job.name}-{judge.name}",
        models=tuple(Model(model, model, judge.params, limits) for model in judge.judges),
        input=Input(path=str((folder / "questions.jsonl").resolve()), prompt=asked_rubric(judge), columns=()),
        output=Output(str((folder / "run").resolve()), mode=job.output.mode),
        samples=1,
        params={},
        budget=Budget(judge.max_usd),
        reuse=Reuse(),
        answer=Answer(schema=answer_schema(judge)) if judge.form == "json" else None,
        eval=None,
        schedule=None,
    )
