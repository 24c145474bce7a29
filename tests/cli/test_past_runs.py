"""status by a job's name shows its runs and how their scores went."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from batchmix.cli.past_runs import sparkline
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
    assert "█▁ " in shown  # a try is no part of the course
    assert re.search(r"runs/part +\S+ +try ", shown)
    found = json.loads(batchmix("status", "night", "--json", cwd=tmp_path).stdout)
    assert [(one["run"], one["scores"][0]["mean"]) for one in found] == [
        ("runs/night-0", 1.0),
        ("runs/night-1", 0.5),
        ("runs/part", 1.0),
    ]
    refused(
        batchmix("status", "nihgt", cwd=tmp_path),
        "nihgt: is not a run folder: it has no run.json",
        "did you mean night?",
    )
    assert (tmp_path / "runs" / "history.parquet").exists()


def test_an_unknown_run_is_refused_with_the_names_of_existing_ones(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"prompt": "hello"}\n')
    refused(batchmix("status", "one", cwd=tmp_path), "there are no runs under runs")
    for name in ("alpha", "beta", "old/2025-01-01"):
        options = ("rows.jsonl", "--model", "m", "--base-url", "rehearsal:", "--out", f"runs/{name}")
        assert batchmix("run", *options, cwd=tmp_path).returncode == 0
    there = "there are the runs runs/alpha, runs/beta, runs/old/2025-01-01"
    refused(batchmix("status", "xyz", cwd=tmp_path), f"xyz: is not a run folder: it has no run.json; {there}")
    refused(batchmix("status", "runs", cwd=tmp_path), f"runs: is not a run folder: it has no run.json; {there}")
    refused(batchmix("status", "runs/alhpa", cwd=tmp_path), "did you mean runs/alpha?")
    refused(
        batchmix("status", "runs/old/2025-01-02", "--root", "elsewhere", cwd=tmp_path),
        "did you mean runs/old/2025-01-01?",
    )
    refused(batchmix("export", "runs/alhpa", "out.csv", cwd=tmp_path), "did you mean runs/alpha?")
    refused(batchmix("status", "alhpa", "--json", cwd=tmp_path), "did you mean runs/alpha?")
    shown = batchmix("status", "rows", cwd=tmp_path)
    assert (shown.returncode, shown.stdout.count("runs/")) == (0, 3)
    options = ("rows.jsonl", "--model", "m", "--base-url", "rehearsal:", "--out", "elsewhere", "--set", "name=night")
    assert batchmix("run", *options, cwd=tmp_path).returncode == 0
    refused(batchmix("status", "night", cwd=tmp_path), "night: is not a run folder", "did you mean elsewhere?")


def test_status_marks_where_the_dataset_or_the_prompt_has_changed(tmp_path: Path, standin: Provider) -> None:
    (tmp_path / "job.toml").write_text(JOB.format(url=standin.url, root=tmp_path))
    write(tmp_path, right=2, wrong=2)
    changes = ([], [], ["--set", "params.temperature=0.5"], [])
    for number, change in enumerate(changes):
        if number == 3:
            write(tmp_path, right=3, wrong=1)
        done = batchmix("run", "job.toml", "--out", f"runs/night-{number}", *change, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    found = json.loads(batchmix("status", "night", "--json", cwd=tmp_path).stdout)
    assert [one["changed"] for one in found] == ["", "", "prompt", "dataset, prompt"]
    assert [one["passed"] for one in found] == [True] * 4
    shown = batchmix("status", "night", cwd=tmp_path).stdout.splitlines()
    assert "passed   dataset, prompt" in shown[4]
