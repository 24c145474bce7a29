"""A script of somebody who has installed batchmix: it must pass mypy --strict against the wheel."""

from __future__ import annotations

import sys
from pathlib import Path

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
    found = compared(done, bm.open(done.folder))
    sys.stdout.write(f"{bm.__version__} {name} {models} {folder} {shards} {planned} {cost_usd} {found}\n")
