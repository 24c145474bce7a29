"""Paired comparisons agree with scipy, and each interval and p-value is that of rows that belong together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from batchmix.statistics.paired import compare, compare_percentile
from batchmix.statistics.sign_flips import sign_flip_p

RNG = np.random.default_rng(11)
_BEGIN = RNG.bit_generator.state


@pytest.fixture(autouse=True)
def same_draws() -> None:
    """Each test draws the same numbers, whichever tests ran before it."""
    RNG.bit_generator.state = _BEGIN


@given(st.integers(0, 400), st.integers(0, 400), st.integers(0, 50), st.sampled_from([1.0, 0.1, 3.0]))
def test_scores_of_0_and_1_have_mcnemars_exact_p(wins: int, losses: int, ties: int, size: float) -> None:
    differences = np.array([size] * wins + [-size] * losses + [0.0] * ties)
    expected = stats.binomtest(wins, wins + losses, alternative="less").pvalue if wins + losses else 1.0
    assert sign_flip_p(differences) == pytest.approx(min(1.0, expected), rel=1e-9)
    found = compare(np.zeros(len(differences)), differences, np.arange(len(differences)))
    if wins + losses:
        assert found is not None
        assert found.p == pytest.approx(min(1.0, stats.binomtest(wins, wins + losses).pvalue), rel=1e-9)


def test_the_interval_of_paired_scores_is_that_of_their_differences() -> None:
    before, after = RNG.normal(0.5, 0.2, 500), RNG.normal(0.52, 0.2, 500)
    found = compare(before, after, np.arange(500))
    assert found is not None
    low, high = stats.t.interval(0.95, 499, np.mean(after - before), stats.sem(after - before))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert found.p == pytest.approx(stats.ttest_rel(after, before).pvalue, abs=0.02)
    assert (found.wins + found.losses, found.ties) == (500, 0)


def test_samples_of_a_row_flip_together() -> None:
    chance = RNG.normal(0, 1, 200)
    alarms = 0
    for _ in range(200):
        drift = RNG.normal(0, 0.3, 200)
        rows = np.repeat(np.arange(200), 10)
        before = np.repeat(chance, 10) + RNG.normal(0, 0.1, 2000)
        after = np.repeat(chance + drift, 10) + RNG.normal(0, 0.1, 2000)
        found = compare(before, after, rows)
        assert found is not None
        alarms += found.p <= 0.05
    assert alarms <= 20


def test_without_pairs_there_is_no_comparison() -> None:
    nothing = np.array([])
    assert compare(nothing, nothing, np.array([], dtype=np.int64)) is None
    one = compare(np.array([1.0]), np.array([0.0]), np.array([3]))
    assert one is not None
    assert (one.difference, one.low, one.p) == (-1.0, None, 1.0)


@pytest.mark.parametrize("sizes", [[5] * 40, [1, 2, 3, 10, 40] * 8])
def test_rows_of_a_document_flip_together_in_any_order(sizes: list[int]) -> None:
    documents = np.repeat(np.arange(len(sizes)), sizes)
    alarms, by_row, covered = 0, 0, 0
    for _ in range(300):
        order = RNG.permutation(len(documents))
        shock = RNG.normal(0, 0.3, len(sizes))[documents]
        before, after = RNG.normal(0, 0.3, len(documents)), RNG.normal(0, 0.3, len(documents)) + shock
        found = compare(before[order], after[order], documents[order])
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        assert found.rows == len(sizes)
        alarms += found.p <= 0.05
        covered += found.low <= 0 <= found.high
        rows = compare(before, after, np.arange(len(documents)))
        by_row += rows is not None and rows.p <= 0.05
    assert alarms <= 27
    assert covered >= 273
    assert by_row >= 40


def test_weights_count_as_so_many_rows() -> None:
    before, after = RNG.normal(0, 1, 30), RNG.normal(0.2, 1, 30)
    times = RNG.integers(1, 5, 30)
    rows = np.arange(30)
    weighted = compare(before, after, rows, times.astype(float))
    repeated = compare(np.repeat(before, times), np.repeat(after, times), np.repeat(rows, times))
    assert weighted is not None
    assert repeated is not None
    for name in ("before", "after", "difference", "low", "high", "p_fall", "p_rise", "stderr", "df", "rows"):
        assert getattr(weighted, name) == pytest.approx(getattr(repeated, name), rel=1e-9), name


def test_few_rows_have_the_interval_of_a_t_test() -> None:
    before, after = RNG.normal(0, 1, 6), RNG.normal(0, 1, 6)
    found = compare(before, after, np.arange(6))
    assert found is not None
    low, high = stats.ttest_rel(after, before).confidence_interval(0.95)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert found.df == 5


@pytest.mark.parametrize("percent", [50, 90, 99])
def test_a_percentile_is_tested_by_how_many_values_exceed_that_of_both_runs(percent: int) -> None:
    before = RNG.lognormal(0, 1, 1000)
    after = before * RNG.lognormal(0.3, 0.3, 1000)
    found = compare_percentile(before, after, np.arange(1000), percent)
    assert found is not None
    assert (found.before, found.after) == (np.percentile(before, percent), np.percentile(after, percent))
    bound = np.percentile(np.concatenate([before, after]), percent)
    rose, fell = int(((before <= bound) & (after > bound)).sum()), int(((before > bound) & (after <= bound)).sum())
    assert found.p_rise == pytest.approx(stats.binomtest(rose, rose + fell, alternative="greater").pvalue)
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.difference < found.high


def test_the_interval_of_a_percentile_contains_the_truth_in_95_of_100() -> None:
    inside = 0
    for _ in range(400):
        base = RNG.lognormal(0, 0.5, 400)
        before, after = base * RNG.lognormal(0, 0.5, 400), 1.2 * base * RNG.lognormal(0, 0.5, 400)
        found = compare_percentile(before, after, np.arange(400), 50)
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        inside += found.low <= 0.2 <= found.high  # the median of each is 1, and 1.2
    assert 365 <= inside <= 395


def test_a_percentile_of_the_same_values_is_the_same() -> None:
    values = RNG.lognormal(0, 1, 50)
    found = compare_percentile(values, values, np.arange(50), 90)
    assert found is not None
    assert (found.difference, found.low, found.high, found.p, found.least_p) == (0, 0, 0, 1, 1)
    assert compare_percentile(values[:0], values[:0], np.arange(0), 90) is None
