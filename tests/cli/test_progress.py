"""The line of the bar says what a person wants to know."""

from __future__ import annotations

import time

from batchmix.cli.progress import summary_line
from batchmix.records import Board, Progress


def test_at_the_end_it_says_what_the_last_rows_wait_for() -> None:
    lane = Progress("m", in_flight=1, tail=2, retrying_after="503", oldest_sent_at=time.monotonic() - 94)
    line = summary_line(Board(phase="sending", lanes=[lane]), (0.0, 0.0))
    assert line.startswith("waiting for 3 rows: 2 retrying after 503, 1 in flight for 94 s, 0 failed")


def test_at_the_end_what_limits_a_lane_is_not_told_once_more() -> None:
    lane = Progress("m", in_flight=1, tail=0, limited_by="input")
    assert "limited by" not in summary_line(Board(phase="sending", lanes=[lane]), (0.0, 0.0))
    assert "limited by disk" in summary_line(Board(phase="sealing", lanes=[lane]), (0.0, 0.0))


def test_before_that_it_says_how_many_wait_to_retry() -> None:
    line = summary_line(Board(phase="sending", lanes=[Progress("m", retrying=7)]), (0.0, 0.0))
    assert "7 waiting to retry" in line
    assert "waiting for" not in line
