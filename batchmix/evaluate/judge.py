"""Another model as a scorer: its questions are the input of an ordinary job, with a run folder of its own.

So it has a journal, limits and a cost of its own, and killed in the middle it goes on and pays for nothing twice.
Each result of the judged run has a fixed place among the questions, whether it has an answer yet or not.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from batchmix.engine import reader
from batchmix.engine.account import used_so_far
from batchmix.engine.run import Options, run_job
from batchmix.engine.status import RunStatus
from batchmix.evaluate.scorers import Score, text_of
from batchmix.evaluate.verdict import verdict_in
from batchmix.formats.arrow_values import row_values
from batchmix.job import Budget, Input, Job, Limits, Model, Output, Reuse
from batchmix.job.eval_table import Eval, Judge
from batchmix.load import RESULT_NAMES, rubric_columns
from batchmix.redact import Secrets
from batchmix.store.filesystem import appearing
from batchmix.store.run_folder import Layout

_LEAST = 1e-9
"""USD: less than any request; a cap of nothing would be none."""


class Asking(msgspec.Struct, frozen=True):
    """What it takes to ask judges: the judged run's job, what to send, and where to show how it gets on."""

    job: Job
    secrets: Secrets
    run_status: RunStatus


class Judged(msgspec.Struct, frozen=True):
    """What a judge was asked, and what it cost."""

    scorer: str
    model: str
    ok: int
    failed: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None


class Slots:
    """The places of a run's results among all that it asks for."""

    def __init__(self, job: Job, models: list[str]) -> None:
        lanes = models if job.models else []
        self._lane = {model: number for number, model in enumerate(lanes)}
        self._lanes = max(1, len(lanes))
        self._samples = job.samples

    def of(self, result: dict[str, Any]) -> int:
        """Return the place of a result; they rise in the order of the results."""
        lane = self._lane.get(result["model"], 0)
        place: int = (result["row"] * self._lanes + lane) * self._samples + result["sample"]
        return place


class Verdicts:
    """A judge's verdicts, to be taken in the order of the places."""

    def __init__(self, run: Path, asked: Judge) -> None:
        self._asked = asked
        self._ahead = _answers(run)
        self._next: dict[str, Any] | None = next(self._ahead, None)

    def at(self, slot: int) -> Score:
        """Return the verdict on the result at a place."""
        while self._next is not None and self._next["row"] < slot:
            self._next = next(self._ahead, None)
        if self._next is None or self._next["row"] != slot or self._next["status"] != "ok":
            why = self._next["error_message"] if self._next and self._next["row"] == slot else "not asked"
            return Score(None, None, None, f"the judge gave no answer: {why}")
        if self._next["finish_reason"] == "length":  # what it was quoting just then may look like a verdict
            return Score(None, None, None, "the judge's answer was cut off; allow it more max_tokens")
        return verdict(self._next["response"] or "", self._asked.scale)


def verdict(text: str, scale: tuple[float, float]) -> Score:
    """Return the score in a judge's answer."""
    number, (worst, best) = verdict_in(text), scale
    if number is None:
        return Score(None, None, None, f"no clear verdict in the judge's answer: {text}")
    if not worst <= number <= best:
        return Score(None, None, f"{number:g}", f"{number:g} is not on the scale from {worst:g} to {best:g}: {text}")
    return Score((number - worst) / (best - worst), None, f"{number:g}", text)


def ask(layout: Layout, asked: Judge, asking: Asking) -> tuple[Verdicts, Judged]:
    """Have a judge read the answers of a run, as far as it has not yet.

    Raises `Stopped` and `Interrupted` where the same call goes on.
    """
    folder = layout.evaluation / f"judge-{asked.name}"
    layout.make_folder(folder)
    _write_questions(layout, asked, asking.job, folder / "questions.jsonl")
    job = msgspec.structs.replace(
        judge_job(asking.job, asked, folder), budget=_left(asking.job.budget, asked, layout, folder)
    )
    # A changed answer, or a changed rubric, is a changed question: its old verdict is of no use.
    options = Options(update=True, reject_bad_rows=True)
    view = run_job(job, asking.secrets, options, asking.run_status)
    totals = view.totals
    judged = Judged(
        asked.name,
        asked.model,
        totals.ok,
        totals.failed,
        totals.prompt_tokens,
        totals.completion_tokens,
        totals.cost_usd,
    )
    return Verdicts(folder / "run", asked), judged


def _left(budget: Budget, asked: Judge, layout: Layout, folder: Path) -> Budget:
    """Return what a judge may spend: what the run and the other judges leave of the job's budget, or its own cap."""
    if budget == Budget():
        return Budget(asked.max_usd)
    others = [path for path in layout.evaluation.glob("judge-*/run") if path.parent != folder]
    usd, tokens = (sum(each) for each in zip(*map(_spent, [layout.root, *others]), strict=True))
    caps = [cap for cap in (asked.max_usd, budget.max_usd and max(_LEAST, budget.max_usd - usd)) if cap is not None]
    return Budget(
        min(caps, default=None), None if budget.max_tokens is None else max(1, int(budget.max_tokens - tokens))
    )


def _spent(folder: Path) -> tuple[float, float]:
    if not (folder / "run.json").exists():
        return 0.0, 0.0
    view = reader.look(folder)
    return used_so_far(view, reader.prices_of(view.run))


def judge_job(job: Job, asked: Judge, folder: Path) -> Job:
    """Return the job in which a judge is asked, from the questions in a folder."""
    limits = Limits(
        asked.requests_per_minute or job.limits.requests_per_minute,
        asked.tokens_per_minute or job.limits.tokens_per_minute,
        asked.concurrency or job.limits.concurrency,
    )
    return msgspec.structs.replace(
        job,
        name=f"{job.name}-{asked.name}",
        models=(Model(asked.model, asked.model, asked.params, limits),),
        input=Input(path=str((folder / "questions.jsonl").resolve()), prompt=asked.rubric, columns=()),
        output=Output(str((folder / "run").resolve()), mode=job.output.mode),
        samples=1,
        params={},
        budget=Budget(asked.max_usd),
        reuse=Reuse(),
        eval=None,
        schedule=None,
    )


def _write_questions(layout: Layout, asked: Judge, job: Job, path: Path) -> None:
    with appearing(path, layout.file_mode) as temporary, temporary.open("w", encoding="utf-8") as file:
        for question in _questions(layout, asked, job):
            file.write(json.dumps(question) + "\n")


def _questions(layout: Layout, asked: Judge, job: Job) -> Iterator[dict[str, Any]]:
    """Yield a question for each place up to the last result; where there is no answer it can't be asked."""
    run = layout.read_run()
    if run is None:
        return
    target = (job.eval or Eval()).target_of(asked)
    reads = rubric_columns(asked, target, run.carried_schema().names)
    slots, next_slot = Slots(job, run.models), 0
    columns = [*RESULT_NAMES, *reads, *([target] if target is not None else [])]
    for batch in reader.results(layout.root, columns):
        for result in row_values(batch):
            slot = slots.of(result)
            yield from ({"custom_id": None, "response": None} for _ in range(next_slot, slot))
            next_slot = slot + 1
            yield _question(result, reads, target)


def _question(result: dict[str, Any], reads: frozenset[str], target: str | None) -> dict[str, Any]:
    values = {name: result[name] for name in reads}
    if target is not None:
        values["target"] = None if result[target] is None else text_of(result[target])
    answered = result["status"] == "ok"
    return values | {"custom_id": result["custom_id"], "response": result["response"] if answered else None}


def _answers(run: Path) -> Iterator[dict[str, Any]]:
    for batch in reader.results(run, ["row", "status", "response", "finish_reason", "error_message"]):
        yield from batch.to_pylist()
