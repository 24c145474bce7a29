"""A folder that is neither a run nor empty is refused untouched, and no foreign file in a run is changed or removed."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batchmix.engine import plan, reader
from batchmix.engine.run import Options
from batchmix.errors import BatchmixError, JobError, RunError, UsageError
from batchmix.job import read_job
from batchmix.store.lock import lock_holder
from tests.conftest import Bench

SIGNED = "process 4711 on somewhere since 2026-11-01 10:00:00 +0000\n"


def tree(root: Path) -> dict[str, Any]:
    """Return everything below a folder: names, kinds, contents and permissions."""
    found: dict[str, Any] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        what = path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None
        found[str(path.relative_to(root))] = (status.st_mode, status.st_ino, what)
    return found


def put(path: Path, text: str = "precious") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def fifo(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path)


def link(path: Path, to: Path, *, hard: bool = False) -> None:
    """Make a link to a file that has content."""
    put(to)
    path.parent.mkdir(parents=True, exist_ok=True)
    os.link(to, path) if hard else path.symlink_to(to)


FOREIGN: dict[str, Callable[[Path], Any]] = {
    "a document": lambda out: put(out / "thesis.docx"),
    "an input folder": lambda out: put(out / "input/train/a.jsonl"),
    "a folder named as a spool is": lambda out: put(out / "input/000001/00000.jsonl"),
    "a data folder": lambda out: put(out / "data/a.csv"),
    "an empty data folder": lambda out: (out / "data").mkdir(parents=True),
    "a journal of one's own": lambda out: put(out / "journal/2026-11.md"),
    "a journal with one of our names": lambda out: put(out / "journal/00000-000.jsonl", '{"mood": "fine"}\n'),
    "a part with one of our names": lambda out: put(out / "data/part-00000.parquet"),
    "somebody else's run.json": lambda out: put(out / "run.json", '{"name": "mine"}'),
    "half a run.json": lambda out: put(out / "run.json", '{"na'),
    "run.json.tmp": lambda out: put(out / "run.json.tmp"),
    "a report": lambda out: put(out / "report.html"),
    "somebody else's lock": lambda out: put(out / "lock", "door"),
    "a lock and a document": lambda out: (put(out / "lock", SIGNED), put(out / "thesis.docx")),
    "a lock and an input folder": lambda out: (put(out / "lock", SIGNED), put(out / "input/train/a.jsonl")),
    "a lock and a fuller spool": lambda out: (put(out / "lock", SIGNED), put(out / "input/000001/notes.txt")),
    "a lock that is a pipe": lambda out: fifo(out / "lock"),
    "a run.json that is a pipe": lambda out: fifo(out / "run.json"),
    "a linked lock": lambda out: link(out / "lock", out.parent / "elsewhere/lock"),
    "a hard-linked lock": lambda out: link(out / "lock", out.parent / "elsewhere/lock", hard=True),
    "a linked input": lambda out: (
        link(out / "a", out.parent / "elsewhere/train/a"),
        (out / "a").rename(out / "input"),
    ),
    "another spelling of our names": lambda out: put(out / "Data/part-00000.parquet"),
    "a hidden file": lambda out: put(out / ".gitignore"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_folder_with_foreign_files_is_refused_and_left_untouched(kind: str, bench: Bench) -> None:
    bench.write(2)
    FOREIGN[kind](bench.out)
    before = tree(bench.root)
    with pytest.raises(RunError, match=r"run"):
        bench.run()
    with pytest.raises(RunError, match=r"run"):
        plan.plan_run(read_job(None, bench.settings, {}), Options())
    assert tree(bench.root) == before
    assert lock_holder(bench.out / "lock") is None
    assert bench.standin.request_count() == 0


def test_the_input_may_not_lie_in_the_run_folder(bench: Bench) -> None:
    bench.settings["input"]["path"] = str(bench.out / "input/train/a.jsonl")
    put(bench.out / "input/train/a.jsonl", '{"text": "a"}\n')
    put(bench.out / "input/test/b.jsonl")
    before = tree(bench.root)
    with pytest.raises(RunError, match="holds 'input'"):
        bench.run()
    assert tree(bench.root) == before


@pytest.mark.parametrize("where", ["data/part-00000.parquet", "data", "input/000009/00000.jsonl", "evaluation/x.jsonl"])
def test_a_run_does_not_take_its_own_files_as_input(where: str, bench: Bench) -> None:
    bench.write(2)
    bench.run()
    path = bench.out / where
    if not path.exists():
        put(path, '{"text": "a"}\n')
    bench.settings["input"]["path"] = str(path)
    with pytest.raises(JobError, match="in the run's own folder"):
        bench.run(update=True)
    assert path.exists()


LEFT: dict[str, Callable[[Path], Any]] = {
    "nothing": lambda out: out.mkdir(),
    "an unsigned lock": lambda out: put(out / "lock", ""),
    "a lock": lambda out: put(out / "lock", SIGNED),
    "half a spool": lambda out: (put(out / "lock", SIGNED), put(out / "input/000001.tmp/00000.jsonl", '{"te')),
    "a spool": lambda out: (put(out / "lock", SIGNED), put(out / "input/000001/00000.jsonl", "{}")),
    "half a run.json": lambda out: (put(out / "lock", SIGNED), put(out / ".run.json.0123456789abcdef.tmp", "{")),
    "what an earlier version left": lambda out: (
        put(out / "lock", SIGNED), put(out / "run.json.tmp", "{"), (out / "data").mkdir(), (out / "journal").mkdir(),
    ),
}  # fmt: skip

FILES = ["ledger.jsonl", "lock", "manifest.json", "run.json", "summary.json"]


@pytest.mark.parametrize("kind", LEFT)
def test_remains_of_a_killed_first_start_are_removed(kind: str, bench: Bench) -> None:
    bench.write(2)
    LEFT[kind](bench.out)
    bench.run()
    assert sorted(path.name for path in bench.out.iterdir()) in (
        ["_SUCCESS", "data", "journal", *FILES],
        ["_SUCCESS", "data", "input", "journal", *FILES],  # emptied
    )
    assert len(bench.rows()) == 2


def test_foreign_files_in_a_run_folder_stay_and_do_no_harm(bench: Bench) -> None:
    """Some have names much like those of run files; temporary files of a killed start are removed."""
    bench.source = bench.root / "rows.jsonl.gz"
    bench.settings["input"]["path"] = str(bench.source)
    bench.source.write_bytes(gzip.compress(b'{"text": "a"}\n{"text": "b"}\n'))
    bench.run()
    names = [
        "notes.txt", ".run.json.tmp", "run.json.bak", "data/extra.parquet", "data/part-000000.parquet",
        "data/part-٠٠٠٠٠.parquet", "journal/my.tmp", "journal/000000-000.jsonl", "journal/00000-000.jsonl.bak",
        "journal/reserve", "input/foo/a.jsonl", "input/000077/notes.txt", "input/000078", "evaluation/mine.txt",
    ]  # fmt: skip
    for name in names:
        put(bench.out / name)
    link(bench.out / "journal/00007.parquet.tmp", bench.root / "elsewhere/a")
    link(bench.out / "input/000079", bench.root / "elsewhere/b")
    left = ["run.json.tmp", "journal/00000.parquet.tmp", "input/000080/00000.jsonl", "input/000081.tmp/00000.jsonl"]
    for name in left:
        put(bench.out / name, "")
    (bench.out / "journal/.part-00000.parquet.0123456789abcdef.tmp").touch()
    (bench.out / "journal/.00000-000.jsonl.0123456789abcdef.tmp").touch()
    before = tree(bench.root)
    bench.source.write_bytes(gzip.compress(b'{"text": "a"}\n{"text": "b"}\n{"text": "c"}\n'))
    view = bench.run()
    after = tree(bench.root)
    assert {name for name in names if after[f"run/{name}"] != before[f"run/{name}"]} == set()
    assert all(
        name in after for name in ("elsewhere/a", "elsewhere/b", "run/journal/00007.parquet.tmp", "run/input/000079")
    )
    assert {name for name in after if name.endswith(".tmp")} == {
        "run/journal/my.tmp",
        "run/.run.json.tmp",
        "run/journal/00007.parquet.tmp",
    }
    assert not any((bench.out / name).exists() for name in left)
    assert (view.totals.ok, bench.standin.request_count()) == (3, 3)
    assert reader.look(bench.out).totals.ok == 3
    assert reader.export(bench.out, bench.root / "answers.jsonl")[0] == 3


IN_THE_WAY: dict[str, Callable[[Path, Path], Any]] = {
    "data is a link": lambda out, away: ((out / "data").rename(away), (out / "data").symlink_to(away)),
    "journal is a link": lambda out, away: ((out / "journal").rename(away), (out / "journal").symlink_to(away)),
    "input is a link": lambda out, away: (away.mkdir(), (out / "input").symlink_to(away)),
    "input is a file": lambda out, away: put(out / "input"),
    "evaluation is a link": lambda out, away: (away.mkdir(), (out / "evaluation").symlink_to(away)),
    "run.json is a link": lambda out, away: ((out / "run.json").rename(away), (out / "run.json").symlink_to(away)),
    "summary.json is a link": lambda out, away: ((out / "summary.json").unlink(), (out / "summary.json").symlink_to(away)),
    "a part is a link": lambda out, away: (
        (out / "data/part-00000.parquet").rename(away), (out / "data/part-00000.parquet").symlink_to(away),
    ),
    "a part is a pipe": lambda out, away: ((out / "data/part-00000.parquet").unlink(), fifo(out / "data/part-00000.parquet")),
    "a journal is a link": lambda out, away: (put(away), (out / "journal/00000-000.jsonl").symlink_to(away)),
    "a journal is a hard link": lambda out, away: (put(away, ""), os.link(away, out / "journal/00000-000.jsonl")),
    "a journal is a pipe": lambda out, away: fifo(out / "journal/00000-000.jsonl"),
    "a journal is somebody else's": lambda out, away: put(out / "journal/00000-000.jsonl", '{"mood": "fine"}\n'),
    "the lock is a link": lambda out, away: ((out / "lock").unlink(), put(away), (out / "lock").symlink_to(away)),
    "the lock is a pipe": lambda out, away: ((out / "lock").unlink(), fifo(out / "lock")),
    "the lock is somebody else's": lambda out, away: put(out / "lock", "door"),
    "the lock is a hard link": lambda out, away: ((out / "lock").unlink(), put(away), os.link(away, out / "lock")),
}  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder, to be copied."""
    root = tmp_path_factory.mktemp("finished")
    put(root / "rows.jsonl", '{"text": "a"}\n{"text": "b"}\n')
    from batchmix.engine.run import run_job
    from batchmix.engine.run_status import RunStatus
    from batchmix.redact import Secrets

    settings = {"name": "bench", "model": "m", "input": {"path": str(root / "rows.jsonl"), "prompt": "Say {{ text }}"},
                "provider": {"base_url": "rehearsal:"}, "output": {"path": str(root / "run")}}  # fmt: skip
    run_job(read_job(None, settings, {}), Secrets(), Options(), RunStatus())
    return root / "run"


@pytest.mark.parametrize("kind", IN_THE_WAY)
def test_a_foreign_file_with_the_name_of_a_run_file_is_never_written_to(
    kind: str, finished: Path, bench: Bench
) -> None:
    """Readers, too, do not wait for it when it is a pipe."""
    bench.write(2)
    shutil.copytree(finished, bench.out)
    bench.settings |= {"provider": {"base_url": "rehearsal:"}}
    IN_THE_WAY[kind](bench.out, bench.root / "elsewhere")
    before = tree(bench.root)
    with pytest.raises(UsageError, match=r"link|plain file|batchmix|a file"):
        bench.run(update=True)
    assert tree(bench.root) == before
    try:
        reader.look(bench.out)
        reader.export(bench.out, bench.root / "answers.jsonl")
    except BatchmixError:
        pass


def test_the_run_folder_and_its_parents_may_be_links(bench: Bench) -> None:
    bench.write(2)
    (bench.root / "disk/runs").mkdir(parents=True)
    (bench.root / "runs").symlink_to("disk/runs")
    (bench.root / "disk/runs/first").symlink_to("real")
    (bench.root / "disk/runs/real").mkdir()
    bench.settings["output"]["path"] = str(bench.root / "runs/first")
    bench.run()
    assert json.loads((bench.root / "disk/runs/real/summary.json").read_text())["ok"] == 2
    assert (bench.root / "disk/runs/first").is_symlink()


def test_a_run_that_is_refused_leaves_and_removes_no_folder(bench: Bench) -> None:
    """It removes its folder and the parents that it made; an empty folder from before stays."""
    bench.source.write_text("nonsense\n")
    before = tree(bench.root)
    bench.settings["output"]["path"] = str(bench.root / "some/where/else")
    with pytest.raises(BatchmixError):
        bench.run()
    assert tree(bench.root) == before
    (bench.root / "some").mkdir()
    put(bench.root / "killed/lock", SIGNED)
    put(bench.root / "killed/input/000001/00000.jsonl", "{}")
    before = tree(bench.root / "some")
    for name in ("some", "killed"):
        bench.settings["output"]["path"] = str(bench.root / name)
        with pytest.raises(BatchmixError):
            bench.run()
    assert tree(bench.root / "some") == before
    assert tree(bench.root / "killed") == {}


@pytest.mark.parametrize("place", ["/", ".", "~", "rows.jsonl", "rows.jsonl/below", "dangling", "loop", "x" * 300])
def test_an_impossible_run_folder_is_refused_in_one_line(
    place: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.write(2)
    (bench.root / "dangling").symlink_to("nowhere")
    (bench.root / "loop").symlink_to("loop")
    monkeypatch.chdir(bench.root)
    monkeypatch.setenv("HOME", str(bench.root))
    bench.settings["output"]["path"] = place
    before = tree(bench.root)
    with pytest.raises(RunError) as refused:
        bench.run()
    assert "\n" not in str(refused.value)
    assert tree(bench.root) == before
