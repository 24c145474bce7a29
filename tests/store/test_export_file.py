"""An export overwrites the file that its user names, and no other."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from batchmix.engine import reader
from batchmix.engine.run import Options, run_job
from batchmix.engine.run_status import RunStatus
from batchmix.errors import RunError, UsageError
from batchmix.evaluation.judge import JudgeContext
from batchmix.job import CheckedJob, read_job
from batchmix.redact import Secrets
from batchmix.reports.report_page import write_report
from batchmix.verdict.evaluate_run import evaluate_run, prepare_scorers
from batchmix.verdict.history import write_history


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> CheckedJob:
    """A job that was run."""
    root = tmp_path_factory.mktemp("exports")
    (root / "rows.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n')
    settings = {"model": "m", "input": {"path": str(root / "rows.jsonl"), "prompt": "Say {{ text }}"},
                "eval": {"scorers": [{"kind": "regex", "pattern": "."}]},
                "provider": {"base_url": "rehearsal:"}, "output": {"path": str(root / "run")}}  # fmt: skip
    made = read_job(None, settings, {})
    run_job(made, Secrets(), Options(), RunStatus())
    return made


@pytest.fixture
def run(job: CheckedJob) -> Path:
    return Path(job.output.path)


def contents(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(
    "place",
    ["run/data/part-00000.parquet", "run/data/extra.parquet", "run/journal/a.jsonl", "run/ledger.jsonl", "rows.jsonl", "pipe.csv",
     "folder.csv", "linked.jsonl", "run/data/../data/a.csv"],
)  # fmt: skip
def test_an_export_never_overwrites_a_file_of_a_run_or_an_input(place: str, run: Path) -> None:
    root = run.parent
    if not (root / "pipe.csv").exists():
        os.mkfifo(root / "pipe.csv")
        (root / "folder.csv").mkdir()
        (root / "linked.jsonl").symlink_to("rows.jsonl")
    before = contents(root)
    with pytest.raises(UsageError, match=r"name (another|a file)"):
        reader.export(run, root / place)
    assert contents(root) == before
    assert stat.S_ISFIFO((root / "pipe.csv").lstat().st_mode)


def test_an_export_follows_a_link_and_keeps_permissions(run: Path, tmp_path: Path) -> None:
    """It keeps the permissions of an existing file; a new one follows the umask."""
    (tmp_path / "real.csv").write_text("old")
    (tmp_path / "real.csv").chmod(0o604)
    (tmp_path / "link.csv").symlink_to("real.csv")
    (tmp_path / "other.csv").hardlink_to(tmp_path / "real.csv")
    before = os.umask(0o027)
    try:
        for name in ("link.csv", "new.csv", "new.parquet", "new.jsonl"):
            reader.export(run, tmp_path / name)
    finally:
        os.umask(before)
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real.csv").read_text() == (tmp_path / "new.csv").read_text() != "old"
    assert (tmp_path / "other.csv").read_text() == "old"
    modes = {
        path.name: stat.S_IMODE(path.lstat().st_mode)
        for path in tmp_path.iterdir()
        if path.name.startswith(("new", "real"))
    }
    assert modes == {"real.csv": 0o604, "new.csv": 0o640, "new.parquet": 0o640, "new.jsonl": 0o640}


def test_an_errors_file_is_overwritten_only_if_batchmix_wrote_it(run: Path, tmp_path: Path) -> None:
    reader.export(run, tmp_path / "a.jsonl", openai_batch=True)
    reader.export(run, tmp_path / "a.jsonl", openai_batch=True)
    (tmp_path / "b-errors.jsonl").write_text("precious")
    with pytest.raises(UsageError, match="no errors file of a batch"):
        reader.export(run, tmp_path / "b.jsonl", openai_batch=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-errors.jsonl", "a.jsonl", "b-errors.jsonl"]


def test_foreign_files_in_place_of_scores_reports_or_a_history_are_kept(job: CheckedJob, run: Path) -> None:
    def evaluated() -> None:
        evaluate_run(run, JudgeContext(job, Secrets(), RunStatus()), prepare_scorers(job))

    for path in (run / "evaluation/scores.parquet", run / "evaluation/metrics.json", run / "report.html"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("precious")
        with pytest.raises(RunError, match="was not written by batchmix; move it away"):
            write_report(run, None) if path.name == "report.html" else evaluated()
        assert path.read_text() == "precious"
        path.unlink()
    evaluated()
    evaluated()
    (run.parent / "history.parquet").write_text("precious")
    write_history(run.parent)
    assert (run.parent / "history.parquet").read_text() == "precious"
    (run.parent / "history.parquet").unlink()
    for _ in range(2):
        write_history(run.parent)
        write_report(run, None)
    private = [run.parent / "history.parquet", run / "report.html", *(run / "evaluation").iterdir()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o600}
