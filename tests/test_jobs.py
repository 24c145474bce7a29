"""The jobs that come with batchmix run unchanged, without a key or a network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.calling import batchmix

ROOT = Path(__file__).parent.parent / "jobs"
JOBS = sorted(ROOT.rglob("*.toml"))


@pytest.mark.parametrize("job", JOBS, ids=lambda job: str(job.relative_to(ROOT)))
def test_a_job_runs_and_each_of_its_scorers_scores_every_answer(job: Path, tmp_path: Path) -> None:
    done = batchmix("run", str(job), "--json", "--progress", "none", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["ok"] == found["results"]
    for score in found.get("evaluation", {}).get("scores", []):
        assert score["unscored"] == 0
        assert 0.5 < score["score"]["mean"] < 1


def test_every_job_is_in_the_table() -> None:
    table = (ROOT / "README.md").read_text()
    for job in JOBS:
        assert f"`{job.relative_to(ROOT)}`" in table
