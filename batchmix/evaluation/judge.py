"""Scores answers with another model, the judge. Its requests are an ordinary job with its own run folder.

So a judge has its own journal, limits and cost, and resumes after a kill without paying twice. The input of its job
has a row for each result of the judged run, even for a result without an answer. So row numbers never change.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from batchmix.engine import reader
from batchmix.engine.account import used_so_far
from batchmix.engine.plan import Plan
from batchmix.engine.run import Options, run_job
from batchmix.engine.run_status import RunStatus
from batchmix.engine.shutdown import StopRequest
from batchmix.evaluation.scored_text import SCORED_COLUMNS, scored_texts
from batchmix.formats.arrow_values import row_values
from batchmix.job import Budget, CheckedJob, Input, Limits, Model, Output, Price, Reuse
from batchmix.job.eval_table import Eval
from batchmix.load import RESULT_NAMES, rubric_columns
from batchmix.prices.cost import Prices
from batchmix.prices.lookup import PriceLookup
from batchmix.records import BYTES_PER_TOKEN, Status
from batchmix.redact import Secrets
from batchmix.scorers.grades import verdict_in
from batchmix.scorers.indirect import Judge
from batchmix.scorers.settings import Score, target_text
from batchmix.scorers.verdict_values import ScaleValues
from batchmix.store.filesystem import atomic_replacement
from batchmix.store.run_folder import Layout
from batchmix.store.view import judges_in

_MIN_BUDGET_USD = 1e-9
"""The judge's budget if nothing of the job's budget is left. Less than any request costs; 0 would mean no budget."""
_TOKEN_SHARES = (0.5, 1.5)
"""The lowest and the highest ratio of the real number of tokens to the estimate from bytes, over all languages."""


class JudgeContext(msgspec.Struct, frozen=True):
    """The job and secrets of the judged run, and the `RunStatus` that shows the progress of its judges."""

    job: CheckedJob
    secrets: Secrets
    run_status: RunStatus
    stop_request: StopRequest = msgspec.field(default_factory=StopRequest)
    """Through it, another thread can stop the judges."""


class JudgeUsage(msgspec.Struct, frozen=True):
    """A judge's requests, tokens and cost, as stored in metrics.json."""

    scorer: str
    model: str
    ok: int
    failed: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None


class JudgeRows:
    """Maps the results of a run to row numbers in the judge's input."""

    def __init__(self, job: CheckedJob, models: list[str]) -> None:
        lanes = models if job.models else []
        self._lane = {model: number for number, model in enumerate(lanes)}
        self._lanes = max(1, len(lanes))
        self._samples = job.samples

    def row_number(self, result: dict[str, Any]) -> int:
        """Return the row number of a result. Row numbers are in the order of the results."""
        lane = self._lane.get(result["model"], 0)
        number: int = (result["row"] * self._lanes + lane) * self._samples + result["sample"]
        return number


class JudgeScores:
    """A judge's scores, read from the run folder of its job in ascending order of row numbers."""

    def __init__(self, run: Path, judge: Judge) -> None:
        self._judge = judge
        self._answers = _answers(run)
        self._next: dict[str, Any] | None = next(self._answers, None)

    def at(self, row: int) -> Score:
        """Return the score of the result with this row number. Row numbers must not decrease from call to call."""
        while self._next is not None and self._next["row"] < row:
            self._next = next(self._answers, None)
        if self._next is None or self._next["row"] != row or self._next["status"] != Status.OK:
            why = self._next["error_message"] if self._next and self._next["row"] == row else "not requested"
            return Score(None, None, None, f"the judge gave no answer: {why}")
        if self._next["finish_reason"] == "length":  # a quotation at the cut may look like a grade
            return Score(None, None, None, "the judge's answer was cut off; allow it more max_tokens")
        return score_in(self._next["response"] or "", self._judge.scale)


def score_in(text: str, scale: tuple[float, float]) -> Score:
    """Return the score in a judge's answer: the grade, converted from its scale to the range from 0 to 1."""
    (number, reason), (worst, best) = verdict_in(text, ScaleValues(*scale)), scale
    if not isinstance(number, float | int):
        return Score(None, None, None, f"{reason}: {text}")
    return Score((number - worst) / (best - worst), None, f"{number:g}", text)


def run_judge(layout: Layout, judge: Judge, context: JudgeContext) -> tuple[JudgeScores, JudgeUsage]:
    """Send a judge the answers that it has not scored yet, and return all its scores and its usage.

    Raises `Stopped` or `Interrupted`, after which the same call resumes.
    """
    folder = layout.evaluation / f"judge-{judge.name}"
    layout.make_folder(folder)
    _write_input(layout, judge, context.job, folder / "questions.jsonl")
    job = msgspec.structs.replace(
        judge_job(context.job, judge, folder), budget=_remaining(context.job.budget, judge, layout, folder)
    )
    # `update`, because an old score is worthless if the answer or the rubric has changed.
    options = Options(update=True, reject_bad_rows=True, stop_request=context.stop_request)
    totals = run_job(job, context.secrets, options, context.run_status).totals
    usage = JudgeUsage(
        judge.name,
        judge.model,
        totals.ok,
        totals.failed,
        totals.prompt_tokens,
        totals.completion_tokens,
        totals.cost_usd,
    )
    return JudgeScores(folder / "run", judge), usage


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
        models=(Model(judge.model, judge.model, judge.params, limits),),
        input=Input(path=str((folder / "questions.jsonl").resolve()), prompt=judge.rubric, columns=()),
        output=Output(str((folder / "run").resolve()), mode=job.output.mode),
        samples=1,
        params={},
        budget=Budget(judge.max_usd),
        reuse=Reuse(),
        answer=None,
        eval=None,
        schedule=None,
    )


def _write_input(layout: Layout, judge: Judge, job: CheckedJob, path: Path) -> None:
    with atomic_replacement(path, layout.file_mode) as temporary, temporary.open("w", encoding="utf-8") as file:
        for row in _input_rows(layout, judge, job):
            file.write(json.dumps(row) + "\n")


def _input_rows(layout: Layout, judge: Judge, job: CheckedJob) -> Iterator[dict[str, Any]]:
    """Yield the rows of a judge's input, one for each row number up to that of the last result.

    A row without a response is a bad row, which is not sent.
    """
    run = layout.read_run()
    if run is None:
        return
    target = (job.eval or Eval()).target_of(judge)
    reads = rubric_columns(judge, target, run.carried_schema().names)
    rows, next_row = JudgeRows(job, run.models), 0
    columns = [*RESULT_NAMES, *SCORED_COLUMNS, *reads, *([target] if target is not None else [])]
    for batch in reader.results(layout.root, columns):
        results = row_values(batch)
        for result, text in zip(results, scored_texts(judge, results, run.typed), strict=True):
            row = rows.row_number(result)
            yield from ({"custom_id": None, "response": None} for _ in range(next_row, row))
            next_row = row + 1
            yield _input_row(result, text, reads, target)


def _input_row(result: dict[str, Any], text: str | None, reads: frozenset[str], target: str | None) -> dict[str, Any]:
    values = {name: result[name] for name in reads}
    if target is not None:
        values["target"] = None if result[target] is None else target_text(result[target])
    answered = result["status"] == Status.OK
    return values | {"custom_id": result["custom_id"], "response": text if answered else None}


def _answers(run: Path) -> Iterator[dict[str, Any]]:
    for batch in reader.results(run, ["row", "status", "response", "finish_reason", "error_message"]):
        yield from batch.to_pylist()


class JudgePlan(msgspec.Struct, frozen=True):
    """The most requests that a judge will send, and the range of their cost."""

    scorer: str
    model: str
    requests: int
    """An upper bound, since results without an answer are not judged."""
    least_usd: float | None
    """The cost if prompts hold only the rubric and answers have one token. None if the price is unknown."""
    most_usd: float | None
    """The cost if each rubric includes the whole prompt and the longest answer. None if the price is unknown, or if the
    length of the answers has no bound."""


def judge_price(job: CheckedJob, judge: Judge) -> Price | None:
    """Return the price of a judge's model. None if the price is unknown.

    Raises `JobError` if the model is unknown, or if it has no price although the budget is in USD.
    """
    judging = judge_job(job, judge, Path())
    if judging.budget.max_usd is None:
        judging = msgspec.structs.replace(judging, budget=job.budget)
    return Prices(PriceLookup(judging).settled(judging.models), judging.models).price_of(judge.model)


def judge_plans(job: CheckedJob, run_plan: Plan) -> list[JudgePlan]:
    """Return a plan for each judge. `run_plan` is the plan of the run to judge. Raises `JobError`."""
    done = judges_in(Path(job.output.path) / "evaluation")
    judges = [scorer for scorer in (job.eval or Eval()).scorers if isinstance(scorer, Judge)]
    return [
        _plan(job, judge, run_plan, max(0, run_plan.results - done.get(judge.name, {}).get(Status.OK, 0)))
        for judge in judges
    ]


def _plan(job: CheckedJob, judge: Judge, run_plan: Plan, requests: int) -> JudgePlan:
    price, least_usd, most_usd = judge_price(job, judge), None, None
    if price:
        rubric = len(judge.rubric.encode()) / BYTES_PER_TOKEN
        least_usd = requests * (_TOKEN_SHARES[0] * rubric * price.input + price.output) / 1e6
        bound = judge.params.get("max_tokens", judge.params.get("max_completion_tokens"))
        if isinstance(bound, int) and run_plan.max_tokens is not None and run_plan.requests:
            shown = (run_plan.prompt_tokens + run_plan.max_tokens) / run_plan.requests
            most_usd = requests * (_TOKEN_SHARES[1] * (rubric + shown) * price.input + bound * price.output) / 1e6
    return JudgePlan(judge.name, judge.model, requests, least_usd, most_usd)
