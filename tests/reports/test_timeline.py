"""The rate of a run over time: its starts in order, and what limited them."""

from __future__ import annotations

import datetime

import numpy as np
import pytest

from batchmix.reports.timeline import timeline
from batchmix.store.run_folder import RunFile, Start


def run_of(*starts: Start) -> RunFile:
    return RunFile(
        name="n", rehearsal=False, shard_rows=1, job={}, requests="", accepted="", columns="", carried="",
        models=["m"], rows=0, results=0, scan={}, starts=list(starts),
    )  # fmt: skip


def start(at: str, **limited_by: list[tuple[float, str]]) -> Start:
    return Start(f"2026-03-01T{at}Z", 1, "", limited_by=limited_by)


def ms(at: str) -> int:
    return int(datetime.datetime.fromisoformat(f"2026-03-01T{at}Z").timestamp() * 1000)


def answers(first: str, seconds: int, per_s: int) -> tuple[np.ndarray, np.ndarray]:
    sent = ms(first) + np.arange(seconds * per_s) * 1000 // per_s
    return sent, sent + 1000 // per_s


def test_a_steady_run_has_one_rate() -> None:
    found = timeline(run_of(start("02:00:00", m=[(0.0, "window")])), {"m": answers("02:00:00", 10, 40)})
    assert found is not None
    assert found.span_s == pytest.approx(10, abs=0.1)
    assert found.rates["m"][2:-2] == pytest.approx([40] * (len(found.rates["m"]) - 4), rel=0.2)
    assert sum(found.rates["m"]) * found.span_s / len(found.rates["m"]) == pytest.approx(400)
    assert [(one.begin, one.end, one.limit) for one in found.limited_by["m"]] == [(0.0, 1.0, "window")]


def test_the_hours_between_two_starts_are_left_out_and_each_start_has_its_limits() -> None:
    starts = (start("02:00:00", m=[(0.0, "window"), (5.0, "pause")]), start("08:00:00", m=[(0.0, "")]))
    first, second = answers("02:00:00", 10, 20), answers("08:00:00", 10, 20)
    times = {"m": (np.concatenate([first[0], second[0]]), np.concatenate([first[1], second[1]]))}
    found = timeline(run_of(*starts), times)
    assert found is not None
    assert found.span_s == pytest.approx(20, abs=0.2)
    assert found.restarts == pytest.approx([0.5], abs=0.01)
    assert [(one.begin, one.limit) for one in found.limited_by["m"]] == [
        (0.0, "window"),
        (pytest.approx(0.25, abs=0.01), "pause"),
        (pytest.approx(0.5, abs=0.01), ""),
    ]


def test_starts_without_answers_and_killed_starts_are_left_out() -> None:
    starts = (start("02:00:00"), start("03:00:00", m=[(0.0, "outage")]), start("04:00:00", m=[(0.0, "window")]))
    first, last = answers("02:00:00", 5, 20), answers("04:00:00", 5, 20)
    times = {"m": (np.concatenate([first[0], last[0]]), np.concatenate([first[1], last[1]]))}
    found = timeline(run_of(*starts), times)
    assert found is not None
    assert found.span_s == pytest.approx(10, abs=0.2)
    assert [one.limit for one in found.limited_by["m"]] == ["window"]


def test_a_run_that_sent_nothing_has_no_timeline() -> None:
    assert timeline(run_of(start("02:00:00")), {}) is None
