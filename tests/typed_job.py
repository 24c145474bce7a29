"""A script of somebody who has installed batchmix: it must pass mypy --strict against the wheel."""

from __future__ import annotations

import sys
from pathlib import Path

import batchmix
from batchmix.api.job import Job
from batchmix.engine.run import Options, run_job
from batchmix.job import CheckedJob, read_job


def rows_per_shard(path: Path) -> int:
    job: CheckedJob = read_job(path, {}, {})
    return job.output.shard_rows


def few_shot(rows: Path) -> Job:
    return Job(
        rows,
        "Classify: {{ text }}",
        model="gpt-4o-mini",
        out=rows.parent / "run",
        examples=[("I loved it", "pos"), ({"text": "Never again"}, "neg")],
        params={"temperature": 0},
        limits={"concurrency": 64},
        budget={"max_usd": 5},
    )


if __name__ == "__main__":
    version: str = batchmix.__version__
    job: Job = few_shot(Path("reviews.jsonl"))
    assert Job.from_toml(job.to_toml()) == job
    name: str = job.name
    models: tuple[str, ...] = job.models
    folder: Path = job.folder
    limit: int | None = Options(limit=3).limit
    sys.stdout.write(
        f"{version} {name} {models} {folder} {limit} {rows_per_shard(Path(sys.argv[1]))} {run_job.__name__}\n"
    )
