"""A script of somebody who has installed batchmix: it must pass mypy --strict against the wheel."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import sys
from pathlib import Path
from typing import Literal

import batchmix as bm


def few_shot(rows: Path) -> bm.Job:
    return bm.Job(
        rows,
        "Classify: {{ text }}",
        model="gpt-4o-mini",
        out=rows.parent / "run",
        examples=[("I loved it", "pos"), ({"text": "Never again"}, "neg")],
        params={"temperature": 0},
        limits={"concurrency": 64},
        budget={"max_usd": 5},
    )


def bounds(rows: list[dict[str, str]]) -> tuple[int, float | None, float | None]:
    plan: bm.Plan = bm.plan(rows, "Classify: {{ text }}", model="gpt-4o-mini", base_url="rehearsal:", limit=2)
    return plan.requests, plan.least_usd, plan.most_usd


def compared(before: bm.Run, after: bm.Run) -> tuple[float | None, list[str]]:
    for run in (before, after):
        evaluation: bm.Evaluation = bm.evaluate(run, [{"kind": "regex", "pattern": "[a-z]"}])
    mean: float | None = evaluation.scores[0].score.mean
    difference: bm.Diff = bm.diff(before, after)
    worse: list[str] = [comparison.metric for comparison in difference.worse]
    return mean, worse if evaluation.passed else [*evaluation.missed]


async def on_a_loop(rows: list[dict[str, str]]) -> tuple[str, int, float]:
    run: bm.Run = await bm.arun(rows, "Classify: {{ text }}", model="gpt-4o-mini", base_url="rehearsal:", rpm=60_000)
    texts: list[str | None] = []
    cost_usd = 0.0
    stream = bm.stream(rows, "Classify: {{ text }}", model="gpt-4o-mini", base_url="rehearsal:")
    async with contextlib.aclosing(stream) as results:
        async for result in results:
            one: bm.Result = result
            texts.append(one.response if one.ok else one.error_message)
            cost_usd += one.cost_usd or 0.0
    return run.status, len(texts), cost_usd


@dataclasses.dataclass
class Review:
    sentiment: Literal["good", "bad"]
    stars: int


def stars(rows: list[dict[str, str]]) -> list[int]:
    run: bm.Run = bm.run(rows, "Rate: {{ text }}", model="gpt-4o-mini", base_url="rehearsal:", schema=Review)
    answers: list[Review | None] = run.answers(Review)
    assert answers == run.answers()
    return [answer.stars for answer in answers if answer is not None]


def steps(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    try:
        look: bm.Run = bm.run(rows, "Draft: {{ text }}", model="gpt-4o-mini", base_url="rehearsal:", canary=1)
        run = look.go_on(retry_rejected=True) if look.forecast else look
    except (bm.Stopped, bm.Interrupted) as error:
        stopped: bm.Run | None = error.run
        assert stopped is not None
        run = stopped
    step: bm.Run = run.then("Criticise: {{ draft }}", draft="response", model="gpt-4.1-mini")
    step.raise_for_failures()
    return step.join(rows, {"answer": "response"})


if __name__ == "__main__":
    job: bm.Job = few_shot(Path("reviews.jsonl"))
    assert bm.Job.from_toml(job.to_toml()) == job
    shards: int = bm.Job(Path(sys.argv[1])).checked.output.shard_rows
    name: str = job.name
    models: tuple[str, ...] = job.models
    folder: Path = job.folder
    rows = [{"text": "I loved it"}, {"text": "Never again"}]
    planned = bounds(rows)
    done: bm.Run = bm.run(rows, "Classify: {{ text }}", model="gpt-4o-mini", base_url="rehearsal:")
    cost_usd: float | None = done.cost_usd
    on_loop: tuple[str, int, float] = asyncio.run(on_a_loop(rows))
    criticised: str = steps(rows)[0]["answer"]
    rated: list[int] = stars(rows)
    found = compared(done, bm.open(done.folder))
    sys.stdout.write(
        f"{bm.__version__} {name} {models} {folder} {shards} {planned} {cost_usd} {on_loop} {criticised} {found}"
        f" {rated}\n"
    )
