"""The line of the bar says what a person wants to know."""

from __future__ import annotations

import time

import pytest

from batchmix.cli.progress import bar_line, last_line, span_text, summary_line
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


def busy(**more: object) -> Board:
    lane = Progress(
        "m", in_flight=64, answers=400, tokens=80_000, completion_tokens=40_000, usd_per_token=(1e-6, 1e-5),
        limited_by="tokens", workers=512, retrying=3,
    )  # fmt: skip
    return Board(phase="sending", results=100_000, ok=12_345, failed=2, lanes=[lane], spent_usd=0.1, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("width", [40, 59, 79, 120, 199])
def test_however_narrow_it_shows_rows_time_left_cost_and_what_limits(width: int) -> None:
    line = bar_line(busy(), (40.0, 8000.0), width)
    assert len(line) <= width
    wanted = [" 12%", "12,347/100,000", "37 min left", "$0.54", "limited by tokens", "40.0 answers/s"]
    fits = {40: 3, 59: 5}.get(width, 6)
    assert all(words in line for words in wanted[:fits]), line
    assert ("█" in line) == (width > 120)


def test_a_time_is_said_as_a_person_says_it() -> None:
    assert [span_text(s) for s in (7.4, 99, 100, 5_400, 11_100, 190_000)] == [
        "7 s", "99 s", "2 min", "90 min", "3 h 05 min", "2 d 4 h",
    ]  # fmt: skip


def test_before_the_first_answer_and_without_a_price_nothing_is_made_up() -> None:
    board = Board(phase="sending", results=10, lanes=[Progress("m")])
    line = bar_line(board, (0.0, 0.0), 79)
    assert "left" not in line
    assert "$" not in line
    assert bar_line(Board(phase="scanning", scanned=5), (0.0, 0.0), 79) == "scanning the input: 5 rows"


def test_no_control_character_of_a_models_trouble_reaches_the_terminal() -> None:
    board = Board(phase="sending", results=1, lanes=[Progress("m", tail=1, retrying=1, retrying_after="\x1b[2J503")])
    assert "\x1b" not in bar_line(board, (0.0, 0.0), 79)


def test_its_last_words_say_how_far_it_came_and_no_time_or_rate() -> None:
    assert last_line(busy(), 79) == " 12% 12,347/100,000, $0.5400, 2 failed"


def test_of_several_models_it_says_which_is_limited_by_what() -> None:
    lanes = [Progress("a", limited_by="tokens"), Progress("b", limited_by="requests"), Progress("c")]
    board = Board(phase="sending", results=9, lanes=lanes)
    assert bar_line(board, (0.0, 0.0), 199).endswith("limited by tokens (a), requests (b)")
    lanes[1].limited_by = "tokens"
    assert bar_line(board, (0.0, 0.0), 199).endswith("limited by tokens")


def test_where_it_is_too_narrow_for_all_no_word_is_torn() -> None:
    assert bar_line(busy(), (40.0, 8000.0), 48) == " 12% 12,347/100,000 37 min left, $0.5400"
