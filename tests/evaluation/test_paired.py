"""Paired comparisons agree with scipy and keep their significance level."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from batchmix.evaluation.paired import compare, holm, sign_flip_p

RNG = np.random.default_rng(11)


@given(st.integers(0, 400), st.integers(0, 400), st.integers(0, 50), st.sampled_from([1.0, 0.1, 3.0]))
def test_scores_of_0_and_1_have_mcnemars_exact_p(wins: int, losses: int, ties: int, size: float) -> None:
    differences = np.array([size] * wins + [-size] * losses + [0.0] * ties)
    expected = stats.binomtest(wins, wins + losses, alternative="less").pvalue if wins + losses else 1.0
    assert sign_flip_p(differences) == pytest.approx(min(1.0, expected), rel=1e-9)
    found = compare(np.zeros(len(differences)), differences, np.arange(len(differences)))
    if wins + losses:
        assert found is not None
        assert found.p == pytest.approx(min(1.0, stats.binomtest(wins, wins + losses).pvalue), rel=1e-9)


@pytest.mark.parametrize("wins", [500, 520, 560, 600])
def test_the_normal_approximation_for_many_rows_is_near_the_exact_p(wins: int) -> None:
    differences = np.array([1.0] * wins + [-1.0] * (1001 - wins))
    exact = stats.binomtest(wins, 1001, alternative="greater").pvalue
    assert sign_flip_p(-differences) == pytest.approx(exact, rel=0.05, abs=1e-5)


@pytest.mark.parametrize("shift", [0.0, 0.3, 0.8])
def test_other_scores_have_the_p_of_all_flips(shift: float) -> None:
    differences = RNG.normal(shift, 1, 12)
    exact = stats.permutation_test(
        (differences, np.zeros(12)), lambda a, b: np.mean(a - b), permutation_type="samples", n_resamples=np.inf,
        alternative="less",
    )  # fmt: skip
    assert sign_flip_p(differences) == pytest.approx(exact.pvalue, abs=0.02)
    assert sign_flip_p(differences) == sign_flip_p(differences)


def test_the_interval_of_paired_scores_is_that_of_their_differences() -> None:
    before, after = RNG.normal(0.5, 0.2, 500), RNG.normal(0.52, 0.2, 500)
    found = compare(before, after, np.arange(500))
    assert found is not None
    low, high = stats.norm.interval(0.95, np.mean(after - before), stats.sem(after - before))
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


def test_holm_gives_the_published_example() -> None:
    # The p-values and the adjusted ones of R's p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm").
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]
