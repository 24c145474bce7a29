"""Axes have round ticks that cover the data, and labels fit."""

from __future__ import annotations

import itertools

import hypothesis
import hypothesis.strategies as st
import pytest

from batchmix.reports.charts import IntervalRow, LineSeries, interval_chart, line_chart
from batchmix.reports.drawing import shortened, spread, ticks, width_of

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


@hypothesis.given(st.lists(st.floats(0, 1000), min_size=1, max_size=9), st.floats(0.5, 50))
def test_places_are_spread_as_little_as_it_takes(places: list[float], gap: float) -> None:
    moved = spread(places, gap)
    in_order = sorted(moved)
    assert all(after - before >= gap * 0.999 for before, after in itertools.pairwise(in_order))
    assert sorted(range(len(places)), key=lambda at: moved[at]) == sorted(range(len(places)), key=lambda at: places[at])
    assert sum(moved) == pytest.approx(sum(places), abs=0.01)
    far_apart = [50.0 * number for number in range(len(places))]
    assert spread(far_apart, 50.0) == pytest.approx(far_apart)


def test_lines_with_the_same_values_do_not_hide_one_another_and_have_their_names() -> None:
    series = [LineSeries(f"model {number}", [0.5, 0.5, None, 0.7], f"c{number}") for number in range(4)]
    drawing = line_chart("t", series, ["a", "b", "c", "d"], str, {1: "data"})
    lines = [mark.attributes["d"] for mark in drawing.marks if mark.attributes["class"].startswith("course")]
    assert len(set(lines)) == 4
    names = [mark for mark in drawing.marks if mark.attributes["class"].startswith("name")]
    assert [mark.text for mark in names] == ["model 0", "model 1", "model 2", "model 3"]
    heights = sorted(float(mark.attributes["y"]) for mark in names)
    assert min(after - before for before, after in itertools.pairwise(heights)) >= 15
    assert drawing.legend == []
    assert [mark.text for mark in drawing.marks if mark.text == "data"] == ["data"]
    crowd = [LineSeries(f"model {number}", [0.5, 0.5], "c0") for number in range(12)]
    assert len(line_chart("t", crowd, ["a", "b"], str).legend) == 12


@pytest.mark.parametrize("count", [1, 2, 5, 14, 30, 60])
@pytest.mark.parametrize("names", ["m", "a longer name"])
def test_labels_of_steps_do_not_overlap(count: int, names: str) -> None:
    steps = [f"2026-11-{number:02}" for number in range(count)]
    series = [LineSeries(f"{names} {number}", [0.5] * count, "c0") for number in range(2)]
    drawing = line_chart("t", series, steps, str)
    labels = [mark for mark in drawing.marks if mark.text in steps]
    assert labels
    shares = {"start": 0.0, "middle": 0.5, "end": 1.0}
    lefts = sorted(
        float(mark.attributes["x"]) - width_of(mark.text) * shares[mark.attributes["text-anchor"]] for mark in labels
    )
    assert all(after - before >= width_of(steps[0]) for before, after in itertools.pairwise(lefts))
