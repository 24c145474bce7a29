"""The progress bar and the log line show what a user needs."""

from __future__ import annotations

import io
import logging
import re
import sys
import time

import pytest

from batchmix.engine.run_status import Idle, LaneStatus, Phase, RunStatus
from batchmix.job import Price
from batchmix.prices.cost import Prices
from batchmix.progress import terminal
from batchmix.progress.lines import bar_lines, last_line, span_text, summary_line
from batchmix.progress.shown import progress_shown
from batchmix.records import Bottleneck
from batchmix.redact import Secrets
from batchmix.store.answer_totals import AnswerTotals
from tests.polling import wait_until


def bar_line(run_status: RunStatus, rates: list[tuple[float, float]], width: int) -> str:
    (line,) = bar_lines(run_status, rates, width, 2)
    return line


def test_the_bar_shows_at_the_end_what_the_last_rows_wait_for() -> None:
    lane = LaneStatus("m", in_flight=1, tail=2, retrying_after="503", oldest_sent_at=time.monotonic() - 94)
    line = summary_line(RunStatus(phase=Phase.SENDING, results=9, lanes=[lane]), [])
    assert line.startswith("waiting for 3 rows: 2 retrying after 503, 1 in flight for 94 s, 0 failed")


def test_the_bar_does_not_repeat_at_the_end_what_limits_a_lane() -> None:
    lane = LaneStatus("m", in_flight=1, tail=0, limited_by=Bottleneck.INPUT)
    assert "limited by" not in summary_line(RunStatus(phase=Phase.SENDING, results=9, lanes=[lane]), [])
    assert "writing" in summary_line(RunStatus(phase=Phase.SEALING, results=9, lanes=[lane]), [])


def test_the_bar_shows_before_the_end_how_many_rows_wait_for_a_retry() -> None:
    line = summary_line(RunStatus(phase=Phase.SENDING, results=9, lanes=[LaneStatus("m", retrying=7)]), [])
    assert "7 waiting to retry" in line
    assert "waiting for" not in line


def lane(model: str = "gpt-4o-mini", **more: object) -> LaneStatus:
    given: dict[str, object] = {
        "results": 100_000, "ok": 12_345, "failed": 2, "in_flight": 64, "answers": 400, "tokens": 80_000,
        "prompt_tokens": 40_000, "completion_tokens": 40_000, "usd_of": Prices({"m": Price(1, 10)}, ()).usd_of_sums("m"),
        "earlier_usd": 0.1, "limited_by": Bottleneck.REQUESTS, "max_in_flight": 512, "retrying": 3,
    }  # fmt: skip
    return LaneStatus(model, **(given | more))  # type: ignore[arg-type]


def busy(*lanes: LaneStatus, phase: Phase = Phase.SENDING) -> RunStatus:
    lanes = lanes or (lane(),)
    return RunStatus(phase=phase, results=sum(lane.results for lane in lanes), lanes=list(lanes))


@pytest.mark.parametrize("width", [48, 59, 79, 120, 199])
def test_the_bar_shows_rows_time_left_cost_and_limit_at_any_width(width: int) -> None:
    line = bar_line(busy(), [(40.0, 8000.0)], width)
    assert len(line) <= width
    wanted = [" 12%", "12,347", "37 min left", "$0.5400", "requests", "/100,000", "limited by requests per minute"]
    fits = {48: 5, 59: 6}.get(width, 7)
    assert all(words in line for words in wanted[:fits]), line
    assert ("█" in line) == (width > 120)


def test_durations_are_shown_in_readable_units() -> None:
    assert [span_text(s) for s in (7.4, 99, 100, 5_400, 11_100, 190_000)] == [
        "7 s", "99 s", "2 min", "90 min", "3 h 05 min", "2 d 4 h",
    ]  # fmt: skip


def test_the_bar_shows_no_rate_before_the_first_answer_and_no_cost_without_a_price() -> None:
    line = bar_line(busy(LaneStatus("m", results=10)), [(0.0, 0.0)], 79)
    assert "left" not in line
    assert "$" not in line
    assert bar_line(RunStatus(phase=Phase.SCANNING, scanned=5), [], 79) == "scanning the input: 5 rows"
    assert bar_line(RunStatus(), [], 79) == "starting"


def test_no_control_character_of_an_error_or_a_model_name_reaches_the_terminal() -> None:
    nasty = LaneStatus("m\x1b[2J", results=1, tail=1, retrying=1, retrying_after="\x1b[2J503")
    assert "\x1b" not in "".join(bar_lines(busy(nasty, nasty), [], 79, 10))


def test_no_secret_in_a_model_name_is_shown() -> None:
    key = "sk-1234567890abcdef"
    run_status = busy(lane(key, limited_by=Bottleneck.TOKENS), lane("b"))
    assert key in summary_line(run_status, [])
    run_status.hide(Secrets(key))
    shown = [*bar_lines(run_status, [], 150, 10), summary_line(run_status, [])]
    assert ("***" in shown[1], "(***)" in shown[-1], key in "".join(shown)) == (True, True, False)


def test_the_last_line_of_the_bar_has_the_rows_and_no_time_or_rate() -> None:
    assert last_line(busy(), 79) == " 12% 12,347/100,000, $0.5400, 2 failed"
    assert last_line(busy(lane(ok=99_997)), 79).startswith(" 99% ")


def test_the_bar_shows_no_time_left_while_draining() -> None:
    for width in (59, 79, 199):
        line = bar_line(busy(phase=Phase.DRAINING), [(40.0, 8000.0)], width)
        assert "draining" in line
        assert "64 in flight" in line
        assert "left" not in line


def test_the_bar_shows_the_limit_of_each_of_several_models() -> None:
    lanes = [
        LaneStatus("a", limited_by=Bottleneck.TOKENS),
        LaneStatus("b", limited_by=Bottleneck.REQUESTS),
        LaneStatus("c"),
    ]
    run_status = RunStatus(phase=Phase.SENDING, results=9, lanes=lanes)
    assert bar_line(run_status, [], 199).endswith("limited by tokens per minute (a), requests per minute (b)")
    lanes[1].limit(Bottleneck.TOKENS)
    assert bar_line(run_status, [], 199).endswith("limited by tokens per minute")


def test_a_narrow_bar_cuts_between_words() -> None:
    assert bar_line(busy(), [(40.0, 8000.0)], 40) == " 12% 12,347 37 min left, $0.5400"


MODELS = (
    lane(),
    lane("anthropic/claude-3.5-sonnet-20241022", ok=99_998, limited_by=Bottleneck.NONE),
    lane("gone", ok=0, failed=100, limited_by=Bottleneck.REFUSALS, idle=Idle.STOPPED, usd_of=None, earlier_usd=None),
    lane("千问", limited_by=Bottleneck.PAUSE, paused_until=time.time() + 500),
)


def test_each_of_several_models_has_a_line_at_60_columns_too() -> None:
    until = time.strftime("%H:%M:%S", time.localtime(MODELS[3].paused_until))
    lines = bar_lines(busy(*MODELS), [(40.0, 80.0), (0.0, 0.0), (0.0, 0.0), (0.01, 0.0)], 59, 23)
    assert [re.sub(" +", " ", line) for line in lines[1:]] == [
        "gpt…mini 12% 12,347 37 min $0.5400 requests/min",
        "ant…1022 100% 100,000 $0.5400 done",
        "gone 0% 100 stopped",
        "千问 12% 12,347 101 d 10 h $0.5400 pause",
    ]
    assert lines[0].endswith("124,794/400,000 101 d 10 h left, $1.6200")  # as long as the slowest
    (wide, *_), (_, first, *_) = ([lines[at] for at in (1, 2)], bar_lines(busy(*MODELS), [(40.0, 80.0)], 150, 23))
    assert len(wide) <= 59
    assert bar_lines(busy(*MODELS), [], 79, 23)[4].endswith(f"pause until {until}")
    assert [words in first for words in ("12,347/100,000", "37 min left", "40.0 answers/s", "2 failed")] == [True] * 4


CHECKED = AnswerTotals(valid=12_000, healed=301, repaired=40, lost=4)


@pytest.mark.parametrize("width", [79, 119, 199])
def test_the_bar_shows_how_answers_fared(width: int) -> None:
    fared, few = "301 healed, 40 repaired, 4 lost", {"results": 9_000, "ok": 900}
    for phase in (Phase.SENDING, Phase.DRAINING, Phase.SEALING):
        line = bar_line(busy(lane(checked=CHECKED, **few), phase=phase), [(40.0, 8000.0)], width)
        assert (fared.partition(", ")[2] in line, len(line) <= width) == (True, True), line
        assert (fared in line) == (width > 79 or phase is Phase.SEALING), line
    assert bar_line(busy(lane(checked=AnswerTotals(valid=9))), [], width) == bar_line(busy(), [], width)
    assert last_line(busy(lane(checked=CHECKED)), 79) == f" 12% 12,347/100,000, $0.5400, 2 failed, {fared}"
    both = busy(lane(checked=CHECKED), lane("b", checked=CHECKED))
    assert "602 healed, 80 repaired, 8 lost" in summary_line(both, [])
    lines = bar_lines(both, [(40.0, 80.0)], width, 9)
    assert "602 healed" in lines[0]
    assert [re.search("301 healed +40 repaired +4 lost", line) is not None for line in lines[1:]] == [width > 79] * 2


def test_models_that_do_not_fit_are_counted_and_the_busiest_stay() -> None:
    lanes = [lane(f"m{number}") for number in range(12)]
    rates = [(float(number % 7), 0.0) for number in range(12)]
    lines = bar_lines(busy(*lanes), rates, 79, 6)
    assert [line.split()[0] for line in lines[1:5]] == ["m4", "m5", "m6", "m11"]
    assert lines[5:] == ["… and 8 more"]
    assert len(bar_lines(busy(*lanes), rates, 79, 2)) == 1
    lanes[3].stop(Idle.NOT_CHOSEN)
    assert bar_lines(busy(*lanes), rates, 79, 23)[4].endswith("not asked")


class Terminal(io.StringIO):
    """A terminal that implements only the control codes that the bar uses."""

    encoding = "utf-8"

    def rows(self) -> list[str]:
        rows, at, column = [""], 0, 0
        for code, up, char in re.findall("(\x1b\\[(?:2K|J|\\?7[lh]|([0-9]+)A))|([^\x1b])", self.getvalue()):
            if up:
                at -= int(up)
            elif code.endswith("K"):
                rows[at] = ""
            elif code.endswith("J"):
                rows[at:] = [rows[at][:column]]
            elif char == "\r":
                column = 0
            elif char == "\n":
                at += 1
                rows += [""] * (at == len(rows))
            elif char:
                rows[at] = rows[at][:column].ljust(column) + char + rows[at][column + 1 :]
                column += 1
        return [row.rstrip() for row in rows]


def test_log_lines_are_printed_above_the_bar_and_no_remains_of_it_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen, run_status = Terminal(), busy(lane("a"), lane("b"))
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(terminal, "_BAR_S", 0.01)
    handler = logging.StreamHandler(screen)
    logging.getLogger().addHandler(handler)
    try:
        with progress_shown(run_status, "bar"):
            wait_until(lambda: "\nb" in screen.getvalue().replace("\x1b[2K", ""))
            logging.getLogger("x").warning("b is tired")
            logging.getLogger("x").warning("b sleeps")
            assert [row.split(" ")[0] for row in screen.rows()][-3:] == ["", "a", "b"]
    finally:
        logging.getLogger().removeHandler(handler)
    assert screen.rows() == ["b is tired", "b sleeps", " 12% 24,694/200,000, $1.0800, 4 failed", ""]
