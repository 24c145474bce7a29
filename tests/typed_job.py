"""A script of somebody who has installed batchmix: it must pass mypy --strict against the wheel."""

from __future__ import annotations

import sys
from pathlib import Path

import batchmix
from batchmix.engine.run import Options, run_job
from batchmix.job import CheckedJob, read_job


def rows_per_shard(path: Path) -> int:
    job: CheckedJob = read_job(path, {}, {})
    return job.output.shard_rows


if __name__ == "__main__":
    version: str = batchmix.__version__
    limit: int | None = Options(limit=3).limit
    sys.stdout.write(f"{version} {limit} {rows_per_shard(Path(sys.argv[1]))} {run_job.__name__}\n")
