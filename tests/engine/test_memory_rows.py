"""Rows that are handed over in memory: spooled into the run folder once, and read from there by later starts."""

from __future__ import annotations

import gc
import io
import json
import shutil
import signal
import sys
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchmix.engine import reader
from batchmix.engine.interpreter import tuned_interpreter
from batchmix.engine.shutdown import StopRequest
from batchmix.errors import InputError, Interrupted
from tests.conftest import Bench
from tests.polling import wait_until

TEXTS = [f"word {number}" for number in range(25)]


def jsonl(texts: list[str] = TEXTS) -> io.BytesIO:
    return io.BytesIO("".join(json.dumps({"text": text}) + "\n" for text in texts).encode())


def parquet(texts: list[str] = TEXTS) -> io.BytesIO:
    file = io.BytesIO()
    pq.write_table(pa.table({"text": texts}), file)
    file.seek(0)
    return file


@pytest.fixture(params=["jsonl", "parquet"])
def handed_over(request: pytest.FixtureRequest, bench: Bench) -> type:
    bench.settings["input"]["path"] = f"memory:{request.param}"
    return {"jsonl": jsonl, "parquet": parquet}[request.param]


def test_rows_in_memory_are_answered_and_kept_in_the_run_folder(bench: Bench, handed_over: type) -> None:
    view = bench.run(rows=handed_over())
    assert (view.totals.ok, view.run.rows) == (25, 25)
    assert [row["text"] for row in bench.rows()] == TEXTS
    [spooled] = (bench.out / "input").rglob("00000.*")
    assert spooled.suffix.removeprefix(".") == bench.settings["input"]["path"].removeprefix("memory:")


def test_a_later_start_reads_the_copy_also_in_a_folder_that_was_moved(bench: Bench, handed_over: type) -> None:
    bench.run(rows=handed_over(), limit=5)
    shutil.move(bench.out, bench.root / "elsewhere")
    bench.settings["output"]["path"] = str(bench.root / "elsewhere")
    view = bench.run(rows=io.BytesIO())
    assert (view.totals.ok, view.run.rows, bench.standin.request_count()) == (25, 25, 25)


def test_the_same_rows_again_cost_nothing_and_changed_rows_are_refused(bench: Bench, handed_over: type) -> None:
    bench.run(rows=handed_over())
    bench.run(rows=handed_over())
    assert bench.standin.request_count() == 25
    assert len(list((bench.out / "input").rglob("00000.*"))) == 1
    with pytest.raises(Exception, match="--update"):
        bench.run(rows=handed_over([text.upper() for text in TEXTS]))
    assert len(list((bench.out / "input").rglob("00000.*"))) == 1


def test_without_the_rows_and_without_a_copy_the_message_says_what_to_do(bench: Bench, handed_over: type) -> None:
    with pytest.raises(InputError, match=r"memory:.* stands for rows that were handed over from Python.* resume RUN"):
        bench.run()
    bench.run(rows=handed_over())
    for spooled in (bench.out / "input").rglob("00000.*"):
        spooled.unlink()
    bench.settings["input"]["prompt"] = "Say it again: {{ text }}"
    with pytest.raises(InputError, match="the spooled copy of data is gone; hand the same rows over again"):
        bench.run(update=True)


def test_bad_rows_are_named_as_data(bench: Bench) -> None:
    bench.settings["input"]["path"] = "memory:jsonl"
    with pytest.raises(InputError, match=r"data:2: .*text"):
        bench.run(rows=io.BytesIO(b'{"text": "a"}\n{"other": 1}\n'))
    bench.settings["input"]["path"] = "memory:xml"
    with pytest.raises(InputError, match=r"memory:xml: rows in memory are memory:jsonl or "):
        bench.run()


def test_another_thread_drains_a_run_and_then_cuts_it(bench: Bench) -> None:
    bench.write(40)
    bench.standin.behave("latency=60")
    stop, errors = StopRequest(), list[BaseException]()
    reason = Interrupted("stopped from outside", signal.SIGINT)

    def run() -> None:
        try:
            bench.run(stop_request=stop)
        except Interrupted as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    wait_until(lambda: bench.standin.request_count() == 8)
    stop.stop(reason)
    stop.stop(reason)
    thread.join(30)
    assert errors == [reason]
    assert bench.start()["reason"] == "stopped from outside"
    assert reader.look(bench.out).totals.maybe_billed == 8
    bench.standin.behave()
    assert bench.run().totals.ok == 40


def test_a_stop_that_comes_before_the_run_ends_it_at_once(bench: Bench) -> None:
    bench.write(40)
    stop = StopRequest()
    stop.stop(Interrupted("too early", signal.SIGINT))
    with pytest.raises(Interrupted, match="too early"):
        bench.run(stop_request=stop)
    assert bench.standin.request_count() == 0


def test_the_interpreters_settings_are_restored_after_the_last_of_several_runs() -> None:
    before = (sys.getswitchinterval(), gc.get_threshold(), gc.get_freeze_count())
    with tuned_interpreter():
        with tuned_interpreter():
            tuned = (sys.getswitchinterval(), gc.get_threshold())
        assert (sys.getswitchinterval(), gc.get_threshold()) == tuned
    assert tuned != before[:2]
    assert (sys.getswitchinterval(), gc.get_threshold(), gc.get_freeze_count()) == before
