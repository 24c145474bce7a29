"""From a second terminal: how fast a run is and how long it will take."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from batchmix import reading
from batchmix.cli.closing import state_lines
from batchmix.store.lock import take_lock
from tests.conftest import Bench


@pytest.mark.parametrize("sealed", [True, False])
def test_status_says_how_fast_a_run_is_and_how_long_it_takes(bench: Bench, sealed: bool) -> None:
    bench.write(25)
    bench.settings["output"]["shard_rows"] = 20 if sealed else 100
    if sealed:
        bench.run(limit=20)
    else:
        bench.run(canary=20)
    assert reading.look(bench.out).answers_per_s is None  # nobody works on it
    lock = take_lock(Path(bench.out, "lock"), "run")
    try:
        view = reading.look(bench.out)
        view.run.results = 100
        assert view.answers_per_s is not None
        assert 20 / 60 <= view.answers_per_s <= 25
        (line,) = [line for line in state_lines(view, view.run.starts[-1]) if "answers/s" in line]
        assert line.endswith(" left")
    finally:
        os.close(lock)
