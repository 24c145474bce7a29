"""A Delta table has each whole run once, whatever is repeated."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import polars
import pytest
from deltalake import DeltaTable, write_deltalake

from batchmix.engine import deliver
from batchmix.engine.run import Options, run_job
from batchmix.engine.run_status import RunStatus
from batchmix.errors import JobError, RunError
from batchmix.job import read_job
from batchmix.redact import Secrets
from batchmix.store import delta_table
from tests.conftest import Bench

pytestmark = pytest.mark.usefixtures("all_at_once")
NIGHTS = [datetime.date(2026, 11, day) for day in (25, 26)]


@pytest.fixture
def table(bench: Bench) -> Path:
    bench.settings["name"] = "it's"
    bench.settings["output"] |= {
        "path": str(bench.root / "runs" / "{name}" / "{date}"),
        "delta_table": str(bench.root / "tables" / "answers"),
    }
    bench.write(15)
    return bench.root / "tables" / "answers"


def run(bench: Bench, night: datetime.date = NIGHTS[0], **options: Any) -> None:
    run_job(read_job(None, bench.settings, {}, scheduled=night), Secrets(""), Options(**options), RunStatus())


def rows(table: Path) -> list[tuple[str, int]]:
    found = polars.read_delta(str(table)).select("run", "row").sort("run", "row")
    return found.rows()


def expected(*counts: int) -> list[tuple[str, int]]:
    return [(f"it's/{night}", row) for night, count in zip(NIGHTS, counts, strict=False) for row in range(count)]


def test_each_night_is_there_once(bench: Bench, table: Path) -> None:
    run(bench, limit=3)
    assert not table.exists()  # it is not whole
    run(bench)
    assert rows(table) == expected(15)
    run(bench, NIGHTS[1])
    assert rows(table) == expected(15, 15)
    run(bench, NIGHTS[1])
    assert DeltaTable(str(table)).version() == 1  # nothing had to change
    bench.write(3, first=15)
    run(bench, NIGHTS[1])
    assert rows(table) == expected(15, 18)
    bench.write(10)
    run(bench, NIGHTS[0], update=True)
    assert rows(table) == expected(10, 18)
    assert DeltaTable(str(table)).version() == 3
    typed = polars.read_delta(str(table)).schema
    assert (typed["night"], typed["row"], typed["sent_at"]) == (polars.Date, polars.Int64, polars.Datetime("us", "UTC"))


def test_a_kill_before_the_commit_or_after_it_changes_nothing(
    bench: Bench, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def before(*_: Any) -> None:
        raise Killed

    def after(*given: Any) -> None:
        delta_table.commit(*given)
        raise Killed

    for kill, night in zip((before, after), NIGHTS, strict=True):
        with monkeypatch.context() as patched:
            patched.setattr(deliver, "commit", kill)
            with pytest.raises(Killed):
                run(bench, night)
        requests = bench.standin.request_count()
        run(bench, night)
        assert bench.standin.request_count() == requests
    assert rows(table) == expected(15, 15)
    assert DeltaTable(str(table)).version() == 1


def test_new_columns_are_added_and_other_types_refused(bench: Bench, table: Path) -> None:
    run(bench)
    bench.settings["input"]["columns"] = ["text", "n", {"from": "text", "to": "more"}]
    run(bench, NIGHTS[1])
    assert polars.read_delta(str(table))["more"].null_count() == 15
    bench.settings["input"]["columns"] = ["text", {"from": "n", "type": "date"}]
    bench.source.write_text('{"text": "word", "n": "2026-11-27"}\n')
    with pytest.raises(RunError, match=r"its column 'n' is long, and in this run it is date; declare"):
        run(bench, NIGHTS[1] + datetime.timedelta(1))
    assert rows(table) == expected(15, 15)


def test_only_tables_of_batchmix_are_written_to(bench: Bench, table: Path) -> None:
    table.parent.mkdir()
    write_deltalake(str(table), polars.DataFrame({"run": ["mine"], "job": ["mine"]}))
    with pytest.raises(JobError, match="is not a table that batchmix made"):
        run(bench)
    assert polars.read_delta(str(table)).rows() == [("mine", "mine")]
    bench.settings["output"]["delta_table"] = str(bench.root / "mine")
    (bench.root / "mine").mkdir()
    (bench.root / "mine" / "file").write_text("mine")
    with pytest.raises(JobError, match="no Delta table, and not empty"):
        run(bench)
    assert bench.standin.request_count() == 0
    bench.settings["output"]["delta_table"] = str(bench.root / "real")
    run(bench)
    bench.settings["provider"] = {"base_url": "rehearsal:"}
    with pytest.raises(JobError, match="made for rehearsed answers"):
        run(bench, NIGHTS[1])


def test_only_the_last_step_of_a_chain_is_delivered(bench: Bench, table: Path) -> None:
    del bench.settings["input"]["prompt"]
    steps = [{"name": "draft", "prompt": "Say {{ text }}"}, {"name": "final", "prompt": "Shorten: {{ response }}"}]
    bench.settings["output"]["publish"] = str(bench.root / "published")
    chain = read_job(None, bench.settings | {"steps": steps}, {}, scheduled=NIGHTS[0])
    delivered = [(step.output.delta_table, step.output.publish) for step in chain.steps]
    assert delivered == [(None, None), (str(table), str(bench.root / "published"))]
