"""A published run is replaced in one step, and nothing else is."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import duckdb
import polars
import pytest

from batchmix.engine.run import Options, run_job
from batchmix.engine.run_status import RunStatus
from batchmix.errors import JobError
from batchmix.job import read_job
from batchmix.redact import Secrets
from batchmix.store import publishing
from batchmix.store.publishing import published
from tests.conftest import Bench

pytestmark = pytest.mark.usefixtures("all_at_once")
NIGHTS = [datetime.date(2026, 11, day) for day in range(25, 29)]


@pytest.fixture
def target(bench: Bench) -> Path:
    bench.settings["output"] |= {
        "path": str(bench.root / "runs" / "{name}" / "{date}"),
        "publish": str(bench.root / "published" / "{name}"),
    }
    bench.write(15)
    return bench.root / "published" / "bench"


class Killed(BaseException):
    pass


def run(bench: Bench, night: datetime.date = NIGHTS[0], **options: object) -> Path:
    job = read_job(None, bench.settings, {}, scheduled=night)
    run_job(job, Secrets(""), Options(**options), RunStatus())  # type: ignore[arg-type]
    return Path(job.output.path)


def nights_at(target: Path) -> list[datetime.date]:
    return polars.read_parquet(target / "data")["night"].unique().to_list()


def names_in(target: Path) -> set[str]:
    return {path.name for path in (target / "data").iterdir()}


def is_whole(target: Path) -> bool:
    manifest = published(target)
    assert manifest is not None
    listed = {Path(part.file).name for part in manifest.parts}
    return listed == names_in(target) and sum(part.results for part in manifest.parts) == 15


def versions(target: Path) -> list[str]:
    return sorted(path.name for path in target.with_name("bench.versions").iterdir() if path.name != "lock")


def test_the_latest_night_is_read_like_a_run(bench: Bench, target: Path) -> None:
    folder = run(bench)
    assert nights_at(target) == NIGHTS[:1]
    assert duckdb.sql(f"select count(*) from '{target}/data/*.parquet'").fetchall() == [(15,)]
    [part] = [path for path in (target / "data").iterdir() if path.name.startswith("part-00000")]
    assert part.samefile(folder / "data" / "part-00000.parquet")  # takes no space of its own
    run(bench, NIGHTS[1])
    assert nights_at(target) == [NIGHTS[1]]
    assert len(versions(target)) == 2  # somebody may still read the last one
    run(bench, NIGHTS[2])
    assert nights_at(target) == [NIGHTS[2]]
    assert len(versions(target)) == 2
    run(bench, NIGHTS[2])
    run(bench, NIGHTS[1])  # of an earlier night
    assert nights_at(target) == [NIGHTS[2]]
    assert len(versions(target)) == 2
    bench.write(1, first=15)
    run(bench, NIGHTS[2])
    assert len(polars.read_parquet(target / "data")) == 16


def test_only_a_whole_run_is_published(bench: Bench, target: Path) -> None:
    run(bench, limit=3)
    assert not target.parent.exists()
    run(bench)
    assert is_whole(target)


def test_a_reader_sees_one_whole_version_at_each_moment(
    bench: Bench, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a reader has listed is either there, of the same run, or not there."""
    run(bench)
    before = names_in(target)
    seen = []
    for name in ("_link", "_point", "_remove_others"):

        def looking(*given: object, step: object = getattr(publishing, name)) -> None:
            seen.append((is_whole(target), nights_at(target)))
            step(*given)  # type: ignore[operator]
            seen.append((is_whole(target), nights_at(target)))

        monkeypatch.setattr(publishing, name, looking)
    run(bench, NIGHTS[1])
    assert seen == [(True, [NIGHTS[0]])] * 7 + [(True, [NIGHTS[1]])]
    assert before.isdisjoint(names_in(target))


@pytest.mark.parametrize("step", ["_link", "_make", "_point", "_remove_others"])
def test_the_next_start_repeats_what_a_kill_left_undone(
    bench: Bench, target: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    run(bench)
    for number, night in enumerate(NIGHTS[1:3]):
        killed = getattr(publishing, step)

        def kill(*given: object, killed: object = killed, number: int = number) -> None:
            if number:
                killed(*given)  # type: ignore[operator]
            raise Killed

        with monkeypatch.context() as patched:
            patched.setattr(publishing, step, kill)
            with pytest.raises(Killed):
                run(bench, night)
        assert is_whole(target)
        requests = bench.standin.request_count()
        run(bench, night)
        assert bench.standin.request_count() == requests
        assert nights_at(target) == [night]
        assert len(versions(target)) == 2


def a_folder(target: Path) -> None:
    (target / "data").mkdir(parents=True)


def a_file(target: Path) -> None:
    target.parent.mkdir()
    target.write_text("mine")


def a_link(target: Path) -> None:
    target.parent.mkdir()
    target.symlink_to(target.parent)


def a_link_like_ours(target: Path) -> None:
    (target.parent / "bench.versions" / f"{0:016}").mkdir(parents=True)
    (target.parent / "bench.versions" / f"{0:016}" / "manifest.json").write_text("{}")
    target.symlink_to(f"bench.versions/{0:016}")


@pytest.mark.parametrize("foreign", [a_folder, a_file, a_link, a_link_like_ours], ids=lambda made: made.__name__)
def test_what_is_foreign_there_is_found_before_anything_is_sent(bench: Bench, target: Path, foreign: object) -> None:
    foreign(target)  # type: ignore[operator]
    before = (target.lstat(), sorted(target.parent.rglob("*")))
    with pytest.raises(JobError, match="batchmix did not publish it"):
        run(bench)
    assert (target.lstat(), sorted(target.parent.rglob("*"))) == before
    assert bench.standin.request_count() == 0


def test_foreign_files_beside_the_versions_stay(bench: Bench, target: Path) -> None:
    run(bench)
    first = target.resolve()
    (first / "notes.txt").write_text("mine")
    (first.parent / "notes.txt").write_text("mine")
    for night in NIGHTS[1:]:
        run(bench, night)
    assert [path.name for path in first.iterdir()] == ["notes.txt"]
    assert (first.parent / "notes.txt").read_text() == "mine"


def test_another_job_and_rehearsed_answers_are_not_published_there(bench: Bench, target: Path) -> None:
    run(bench)
    path = bench.settings["output"]["publish"].replace("{name}", "bench")
    bench.settings |= {"name": "other", "output": bench.settings["output"] | {"publish": path}}
    with pytest.raises(JobError, match="another job, 'bench'"):
        run(bench)
    bench.settings |= {"name": "bench", "provider": {"base_url": "rehearsal:"}}
    with pytest.raises(JobError, match="has real answers"):
        run(bench, NIGHTS[1])


def test_the_permissions_are_those_of_the_run(bench: Bench, target: Path) -> None:
    bench.settings["output"]["mode"] = "0640"
    run(bench)
    found = {path.stat().st_mode & 0o777 for path in [target, target / "data"]}
    assert found == {0o750}
    assert {path.stat().st_mode & 0o777 for path in target.rglob("*") if path.is_file()} == {0o640}


@pytest.mark.parametrize("path", ["runs/{name}/latest", "runs/latest", "runs/{name}/{date}/latest"])
def test_a_place_among_the_runs_is_refused(bench: Bench, target: Path, path: str) -> None:
    """Whoever reads all runs would read the published rows twice."""
    bench.settings["output"]["publish"] = str(bench.root / path)
    with pytest.raises(JobError, match="would lie among the runs"):
        run(bench)


def test_parts_are_copied_where_there_are_no_links(bench: Bench, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", refused)
    run(bench)
    assert is_whole(target)
    assert json.loads((target / "manifest.json").read_text())["run"] == "bench/2026-11-25"
