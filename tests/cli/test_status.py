"""From a second terminal: how fast a run is and how long it will take."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from batchmix.cli.summary import state_lines
from batchmix.engine import bottlenecks, reader
from batchmix.store.lock import take_lock
from batchmix.store.run_folder import Layout, RunFile
from tests.calling import batchmix
from tests.conftest import Bench
from tests.odd_provider import Provider
from tests.wire import GOOD, reply


@pytest.mark.parametrize("sealed", [True, False])
def test_status_shows_the_rate_of_a_run_and_its_time_left(bench: Bench, sealed: bool) -> None:
    bench.write(25)
    bench.settings["output"]["shard_rows"] = 20 if sealed else 100
    if sealed:
        bench.run(limit=20)
    else:
        bench.run(canary=20)
    assert reader.look(bench.out).answers_per_s is None  # no process works on it
    lock = take_lock(Path(bench.out, "lock"), "run")
    try:
        view = reader.look(bench.out)
        view.run.results = 100
        assert view.answers_per_s is not None
        assert 20 / 60 <= view.answers_per_s <= 25
        (line,) = [line for line in state_lines(view) if "answers/s" in line]
        assert line.endswith(" left")
    finally:
        os.close(lock)


def test_status_shows_the_limit_the_cost_and_the_time_left_of_each_model(
    bench: Bench, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state that a running process stores, and what another process shows of it."""
    del bench.settings["model"]
    bench.settings["models"] = [{"id": "fast"}, {"id": "slow"}]
    bench.settings["prices"] = {"fast": {"input": 1.0, "output": 1.0}}
    bench.settings["limits"] = {"concurrency": 1}
    written = threading.Event()
    limits: list[dict[str, str]] = []
    write = Layout.write_run

    def noting(layout: Layout, run: RunFile) -> None:
        limits.append(dict(run.starts[-1].limited_now))
        write(layout, run)
        if limits[-1]:
            written.set()

    def answer(row: int, attempt: int, nth: int) -> bytes:
        assert written.wait(30)
        return reply(200, GOOD)

    provider.answer = answer
    monkeypatch.setattr(Layout, "write_run", noting)
    monkeypatch.setattr(bottlenecks, "_FIRST_S", 0.6)  # after some looks
    bench.write(8, text="row {}")
    bench.run()
    assert limits == [{}, {"fast": "concurrency", "slow": "concurrency"}, {}]
    lock = take_lock(Path(bench.out, "lock"), "run")
    try:
        view = reader.look(bench.out)
        view.run.results, view.run.starts[-1].limited_now = 400, {"fast": "tokens per minute", "slow": "stopped"}
        lines = [" ".join(line.split()) for line in state_lines(view)]
        assert any(line.startswith("fast 4% 8/200") and line.endswith("tokens per minute") for line in lines)
        (fast,) = [line for line in lines if line.startswith("fast")]
        assert " left $" in fast
        assert any(line.startswith("slow 4% 8/200") and line.endswith("stopped") for line in lines)
        view.run.starts[-1].limited_now = {"fast": "outage", "slow": "outage"}
        Layout(bench.out).write_run(view.run)
        found = json.loads(batchmix("status", str(bench.out), "--json").stdout)
        assert found["limited_by"] == {"fast": "outage", "slow": "outage"}
        assert found["left_s"] > 0
        assert found["speeds"]["fast"] > 0
        assert "limited by outage" in batchmix("status", str(bench.out)).stdout
    finally:
        os.close(lock)
