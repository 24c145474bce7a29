"""status by a job's name shows its runs and how their scores went."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from batchmix.cli.past import sparkline
from tests.calling import batchmix, refused
from tests.cli.test_eval import JOB, write
from tests.conftest import Provider


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ([0.0, 0.5, 1.0], "▁▅█"),
        ([0.7, None, 0.8], "▁ █"),
        ([0.5, 0.5], "▄▄"),
        ([None], ""),
        ([], ""),
    ],
)
def test_a_sparkline_goes_from_the_least_to_the_greatest(values: list[float | None], line: str) -> None:
    assert sparkline(values) == line


def test_status_finds_past_runs_by_the_jobs_name(tmp_path: Path, standin: Provider) -> None:
    (tmp_path / "job.toml").write_text(JOB.format(url=standin.url, root=tmp_path))
    for number, right in enumerate((4, 2)):
        write(tmp_path, right=right, wrong=4 - right)
        done = batchmix("run", "job.toml", "--out", f"runs/night-{number}", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    batchmix("run", "job.toml", "--out", "runs/part", "--limit", "1", "--set", "eval.against=previous", cwd=tmp_path)
    shown = batchmix("status", "night", cwd=tmp_path).stdout
    assert "runs/night-0" in shown
    assert "█▁█" in shown
    found = json.loads(batchmix("status", "night", "--json", cwd=tmp_path).stdout)
    assert [(one["run"], one["scores"][0]["mean"]) for one in found] == [
        ("runs/night-0", 1.0),
        ("runs/night-1", 0.5),
        ("runs/part", 1.0),
    ]
    refused(batchmix("status", "no-such-job", cwd=tmp_path), "no run folder")
    assert (tmp_path / "runs" / "history.parquet").exists()
