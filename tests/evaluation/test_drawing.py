"""Axes have round ticks that cover the data, and labels fit."""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import pytest

from batchmix.evaluation.charts import IntervalRow, LineSeries, interval_chart, line_chart
from batchmix.evaluation.drawing import shortened, ticks, width_of

NUMBERS = st.floats(-1e9, 1e9, allow_nan=False).map(lambda number: number if abs(number) > 1e-200 else 0.0)


@pytest.mark.parametrize(
    ("span", "marks"),
    [
        ((0.0, 1.0), [0, 0.2, 0.4, 0.6, 0.8, 1]),
        ((0.578, 0.909), [0.5, 0.6, 0.7, 0.8, 0.9, 1.0]),
        ((0.0, 0.0), [0, 0.2]),
        ((3.0, 3.0), [3, 4]),
    ],
)
def test_ticks_are_round(span: tuple[float, float], marks: list[float]) -> None:
    assert ticks(*span) == pytest.approx(marks)


@hypothesis.given(NUMBERS, NUMBERS)
def test_ticks_cover_the_span_and_are_few(one: float, other: float) -> None:
    low, high = sorted((one, other))
    marks = ticks(low, high)
    slack = 1e-5 * max(abs(low), abs(high))
    assert marks[0] <= low + slack
    assert marks[-1] >= high - slack
    assert 2 <= len(marks) <= 8
    assert marks == sorted(set(marks))


@hypothesis.given(st.text(), st.integers(0, 500))
def test_a_label_is_no_wider_than_its_space(text: str, room: int) -> None:
    shown = shortened(text, room)
    assert width_of(shown) <= max(room, 16)
    assert shown.isprintable()


@hypothesis.given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=5))
def test_all_marks_lie_within_the_drawing_for_any_numbers(values: list[tuple[float, float]]) -> None:
    rows = [IntervalRow("m", value, value - 1, value + 1, "", before) for value, before in values]
    series = [LineSeries("m", [value for pair in values for value in pair], "c0")]
    steps = [f"night {number}" for number in range(2 * len(values))]
    for drawing in (interval_chart("t", rows, str), line_chart("t", series, steps, str)):
        places = [float(mark.attributes["cx"]) for mark in drawing.marks if mark.tag == "circle"]
        assert all(0 <= place <= 460 for place in places)
