"""Each start records what limited the run and when that changed, in little space."""

from __future__ import annotations

from batchmix.engine.bottlenecks import BottleneckHistory, bottleneck_of
from batchmix.engine.run_status import LaneStatus, Phase, RunStatus
from tests.conftest import Bench, Provider


def test_a_change_is_recorded_with_its_time_and_a_brief_one_is_ignored() -> None:
    pace = BottleneckHistory()
    for quarter in range(40):
        pace.add(quarter / 4, "m", "window" if quarter < 20 and quarter != 9 else "requests per minute")
        pace.add(quarter / 4, "k", "")
    assert pace.spans() == {"m": [(0.0, "window"), (5.0, "requests per minute")], "k": [(0.0, "")]}


def test_the_history_of_eight_hours_stays_small() -> None:
    pace = BottleneckHistory()
    for second in range(8 * 3600):
        pace.add(float(second), "m", "pause" if second % 100 < 50 else "window")
    spans = pace.spans()["m"]
    assert len(spans) <= 256
    assert spans[-1][0] < 8 * 3600
    assert {what for _, what in spans} == {"pause", "window"}


def test_a_gap_is_not_filled() -> None:
    pace = BottleneckHistory()
    pace.add(0.0, "m", "window")
    pace.add(300.0, "k", "")
    assert pace.spans() == {"m": [(0.0, "window")], "k": [(300.0, "")]}


def test_the_last_rows_and_the_disk_are_reported_as_limits() -> None:
    run_status, lane = RunStatus(phase=Phase.SENDING), LaneStatus("m", max_in_flight=2, in_flight=2)
    assert bottleneck_of(run_status, lane) == "concurrency"
    lane.show_tail(0, (), None)
    assert bottleneck_of(run_status, lane) == "last rows"
    run_status.enter(Phase.SEALING)
    assert bottleneck_of(run_status, lane) == "disk"


def test_each_start_records_what_limited_it(bench: Bench, standin: Provider) -> None:
    standin.behave("latency=0.2")
    bench.settings["limits"] = {"concurrency": 40}
    bench.write(240)
    bench.run()
    assert [what for _, what in bench.start()["limited_by"]["m"]][:1] == ["concurrency"]
