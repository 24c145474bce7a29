"""The mark of a whole run, the manifest of its parts, and the name by which its rows are known."""

from __future__ import annotations

import base64
import datetime
import json
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest

from batchmix.engine import reader, send
from batchmix.engine.run import Options, run_job
from batchmix.engine.run_status import RunStatus
from batchmix.errors import RunError, Stopped
from batchmix.job import read_job
from batchmix.redact import Secrets
from batchmix.store.run_folder import Layout
from batchmix.store.schema import OF_RUN
from tests.conftest import Bench
from tests.store.test_schema import as_version_1

NIGHT = datetime.date(2026, 11, 27)


def manifest(bench: Bench) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((bench.out / "manifest.json").read_text())
    return found


def identities(folder: Path) -> set[tuple[Any, ...]]:
    rows = pq.read_table(folder / "data", columns=list(OF_RUN)).to_pylist()
    return {tuple(row[name] for name in OF_RUN) for row in rows}


def scheduled(bench: Bench, night: datetime.date = NIGHT) -> Path:
    job = read_job(None, bench.settings, {}, scheduled=night)
    run_job(job, Secrets(""), Options(), RunStatus())
    return Path(job.output.path)


def test_a_manifest_lists_each_part_as_it_is(bench: Bench) -> None:
    bench.write(15)
    bench.source.write_text(bench.source.read_text().replace("word 3", "[[rehearsal:reject]]"))
    bench.run()
    found = manifest(bench)
    assert (found["job"], found["run"], found["night"], found["version"]) == ("bench", "run", None, 1)
    assert [(part["first_row"], part["rows"], part["results"]) for part in found["parts"]] == [(0, 10, 10), (10, 5, 5)]
    for part in found["parts"]:
        path = bench.out / part["file"]
        assert part["bytes"] == path.stat().st_size
        status = pq.read_table(path)["status"].to_pylist()
        assert {name: part[name] for name in ("ok", "failed", "rejected")} == {
            name: status.count(name) for name in ("ok", "failed", "rejected")
        }
    before = {part["file"]: part["digest"] for part in found["parts"]}
    bench.write(3, first=15)
    bench.run()
    after = {part["file"]: part["digest"] for part in manifest(bench)["parts"]}
    assert [after[name] == before[name] for name in sorted(before)] == [True, False]


def test_only_a_whole_run_has_the_mark(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = bench.out / "_SUCCESS"
    bench.write(15)
    bench.run(limit=3)
    assert not mark.exists()  # the other rows were left out
    bench.run(canary=1)
    assert not mark.exists()
    bench.run()
    assert mark.exists()
    written_ns = mark.stat().st_mtime_ns
    bench.run()
    assert mark.stat().st_mtime_ns == written_ns  # nothing had to change

    def stopped(_: object) -> None:
        assert not mark.exists()
        raise Stopped("before anything was sent")

    bench.write(3, first=15)
    with monkeypatch.context() as patched:
        patched.setattr(send, "drop_stale", lambda *_: stopped(_))
        with pytest.raises(Stopped):
            bench.run()
    assert not mark.exists()
    bench.run()
    assert mark.exists()


def test_a_run_with_failed_rows_is_whole(bench: Bench) -> None:
    """Each row has its result, as `complete` in summary.json says."""
    bench.write(5)
    bench.standin.behave("501=1")
    bench.settings["retry"] = {"attempts": 1}
    assert bench.run(keep_going=True).totals.failed == 5
    assert (bench.out / "_SUCCESS").exists()


@pytest.mark.parametrize("name", ["_SUCCESS", "manifest.json"])
@pytest.mark.parametrize("content", ["", '{"parts": []}', "mine"])
def test_a_foreign_file_is_not_replaced(bench: Bench, name: str, content: str) -> None:
    bench.write(3)
    bench.run()
    (bench.out / name).write_text(content)
    bench.write(1, first=3)
    with pytest.raises(RunError, match="was not written by batchmix"):
        bench.run()
    assert (bench.out / name).read_text() == content
    (bench.out / name).unlink()
    assert bench.run().totals.ok == 4


def test_a_run_keeps_its_name_when_its_folder_is_moved(bench: Bench) -> None:
    bench.settings["output"]["path"] = str(bench.root / "runs" / "{name}" / "{date}")
    bench.write(12)
    folder = scheduled(bench)
    named = ("bench", "bench/2026-11-27", NIGHT)
    assert identities(folder) == {named}
    moved = folder.rename(bench.root / "elsewhere")
    bench.settings["output"]["path"] = str(moved)
    bench.write(3, first=12)
    bench.out = moved
    bench.run()
    assert identities(moved) == {named}
    assert (manifest(bench)["run"], manifest(bench)["night"]) == ("bench/2026-11-27", "2026-11-27")
    (moved / "run.json").unlink()  # the parts know it too
    bench.write(1, first=15)
    assert bench.run(update=True).totals.ok == 16
    assert identities(moved) == {named}


@pytest.mark.parametrize(
    ("path", "date", "run", "night"),
    [
        ("runs/{name}", None, "bench", None),
        ("runs/{name}/{date}", NIGHT, "bench/2026-11-27", NIGHT),
        ("runs/{name}/{date}-{time}", datetime.datetime(2026, 11, 27, 14, 30), "bench/2026-11-27-1430", NIGHT),
        ("runs/{name}-{date}", NIGHT, "bench-2026-11-27", NIGHT),
        ("runs/{name}", NIGHT, "bench", NIGHT),
    ],
)
def test_a_run_is_called_by_its_folder(
    bench: Bench, path: str, date: datetime.date | None, run: str, night: datetime.date | None
) -> None:
    bench.settings["output"]["path"] = str(bench.root / path)
    bench.write(1)
    job = read_job(None, bench.settings, {}, scheduled=date)
    run_job(job, Secrets(""), Options(), RunStatus())
    assert identities(Path(job.output.path)) == {("bench", run, night)}


def test_an_update_writes_old_parts_again_with_the_names(bench: Bench) -> None:
    """Exports have them before that too."""
    bench.write(12)
    bench.run()
    for part in sorted((bench.out / "data").iterdir()):
        as_version_1(part)
    reader.export(bench.out, bench.root / "all.parquet")
    assert set(pq.read_table(bench.root / "all.parquet")["run"].to_pylist()) == {"run"}
    bench.run()
    assert "run" not in pq.read_table(bench.out / "data").column_names
    requests = bench.standin.request_count()
    assert bench.run(update=True).totals.ok == 12
    assert identities(bench.out) == {("bench", "run", None)}
    assert bench.standin.request_count() == requests


def test_an_old_run_that_carries_a_column_of_such_a_name_can_be_read(bench: Bench) -> None:
    bench.write(2)
    bench.run()
    [part] = (bench.out / "data").iterdir()
    as_version_1(part, {"n": "job"})
    run = reader.run_of(bench.out)
    carried = run.carried_schema()
    renamed = carried.set(carried.names.index("n"), carried.field("n").with_name("job"))
    old = msgspec.structs.replace(run, carried=base64.b64encode(renamed.serialize()).decode())
    Layout(bench.out).write_run(old)
    batch = next(reader.results(bench.out, ["job", "run", "row"]))
    assert batch.to_pylist() == [{"row": 0, "job": 0, "run": "run"}, {"row": 1, "job": 1, "run": "run"}]
