"""A worsening of the detectable size is found in about 80 of 100 comparisons."""

from __future__ import annotations

import numpy as np
import pytest

from batchmix.statistics.paired import compare
from batchmix.statistics.power import detectable, detectable_in_rows
from batchmix.statistics.sign_flips import sign_flip_p

RNG = np.random.default_rng(13)
_BEGIN = RNG.bit_generator.state


@pytest.fixture(autouse=True)
def same_draws() -> None:
    """Each test draws the same numbers, whichever tests ran before it."""
    RNG.bit_generator.state = _BEGIN


@pytest.mark.parametrize(("rows", "flips", "level"), [(200, 0.05, 0.05), (1000, 0.05, 0.01), (300, 0.1, 0.0125)])
def test_scores_of_0_and_1(rows: int, flips: float, level: float) -> None:
    def changes(fall: float) -> np.ndarray:
        drawn = RNG.random(rows)
        return np.where(drawn < flips + fall, -1.0, np.where(drawn < 2 * flips + fall, 1.0, 0.0))

    before = np.ones(rows)
    sizes = [detectable(compare(before, before + changes(0), np.arange(rows)), level) for _ in range(20)]
    smallest = float(np.median([size for size in sizes if size]))
    found = np.mean([sign_flip_p(changes(smallest)) <= level for _ in range(400)])
    assert 0.7 <= found <= 0.9


@pytest.mark.parametrize("rows", [15, 400])
def test_other_scores(rows: int) -> None:
    sizes = [detectable(compare(np.zeros(rows), RNG.normal(0, 0.3, rows), np.arange(rows)), 0.05) for _ in range(100)]
    smallest = float(np.median([size for size in sizes if size]))
    found = np.mean([sign_flip_p(RNG.normal(-smallest, 0.3, rows)) <= 0.05 for _ in range(400)])
    assert 0.7 <= found <= 0.9


def test_40_rows_find_a_fall_of_30_points_at_worst() -> None:
    assert detectable_in_rows(40, 0.05) == pytest.approx(0.30, abs=0.01)
    found = 0
    for _ in range(500):
        before, after = RNG.random(40) < 0.65, RNG.random(40) < 0.35
        found += sign_flip_p(after.astype(float) - before) <= 0.05
    assert 0.72 <= found / 500 <= 0.9


@pytest.mark.parametrize("margin", [0.1, 0.5])
def test_a_fall_must_also_exceed_what_is_let_pass(margin: float) -> None:
    before = np.ones(200)
    smallest = detectable(compare(before, before, np.arange(200)), 0.05, margin)
    assert smallest is not None
    found = (RNG.random((2000, 200)) < smallest).mean(axis=1) > margin
    assert 0.72 <= np.mean(found) <= 0.88
    assert smallest == pytest.approx(detectable_in_rows(200, 0.05, stderr=0.0, margin=margin), rel=0.01)


def test_more_rows_and_steadier_answers_find_less() -> None:
    sizes = [detectable_in_rows(rows, 0.05) for rows in (10, 100, 1000)]
    assert sizes == sorted(sizes, reverse=True)
    steadier = detectable_in_rows(100, 0.05, stderr=0.01)
    assert steadier is not None
    assert steadier < sizes[1]
    assert detectable_in_rows(1, 0.05) is None


def test_rows_without_any_change_still_need_a_few_that_get_worse() -> None:
    same = compare(np.ones(100), np.ones(100), np.arange(100))
    smallest = detectable(same, 0.05)
    assert smallest is not None
    assert 0.05 <= smallest <= 0.12
    assert sign_flip_p(np.array([-1.0] * round(100 * smallest))) <= 0.05
    assert detectable(compare(np.ones(1), np.ones(1), np.arange(1)), 0.05) is None


def test_rows_of_uneven_weight_find_less() -> None:
    same, heaviest = np.ones(40), np.repeat([0.0, 1.0], [3, 37])
    weights = np.repeat([30.0, 1.0], [3, 37])
    for after in (same, heaviest):  # a fall of 0.71 that is not found
        compared = compare(same, after, np.arange(40), weights)
        assert compared.p_fall > 0.1
        assert detectable(compared, 0.025) > 0.71
    evenly = compare(same, same, np.arange(40), np.full(40, 7.0))
    assert detectable(evenly, 0.025) == pytest.approx(detectable(compare(same, same, np.arange(40)), 0.025))
