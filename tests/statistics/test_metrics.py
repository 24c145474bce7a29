"""The metrics agree with scipy, with the published formulas, and with a published table."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from batchmix.evaluation.result_arrays import floats
from batchmix.statistics.metrics import estimate, percentiles

RNG = np.random.default_rng(7)
_BEGIN = RNG.bit_generator.state


@pytest.fixture(autouse=True)
def same_draws() -> None:
    """Each test draws the same numbers, whichever tests ran before it."""
    RNG.bit_generator.state = _BEGIN


@pytest.mark.parametrize("n", [2, 3, 50, 2000])
def test_one_score_per_row_has_the_standard_error_of_the_mean(n: int) -> None:
    scores = RNG.normal(0.4, 0.3, n)
    found = estimate(scores, np.arange(n))
    assert found.stderr == pytest.approx(stats.sem(scores), rel=1e-12)
    assert found.mean == pytest.approx(scores.mean(), rel=1e-12)
    low, high = stats.t.interval(0.95, n - 1, scores.mean(), stats.sem(scores))
    assert (found.low, found.high) == (pytest.approx(low, rel=1e-9), pytest.approx(high, rel=1e-9))


def test_several_samples_of_a_row_are_one_cluster() -> None:
    scores = RNG.normal(size=(300, 8)) + RNG.normal(size=(300, 1))
    found = estimate(scores.ravel(), np.repeat(np.arange(300), 8))
    assert found.stderr == pytest.approx(stats.sem(scores.mean(axis=1)), rel=1e-12)
    assert (found.n, found.rows) == (2400, 300)
    uneven = np.array([1.0, 0.0, 1.0, 1.0, 0.5, 0.0])
    rows = np.array([4, 4, 4, 9, 9, 1])
    centred = uneven - uneven.mean()
    by_hand = math.sqrt(3 / 2 * sum(centred[rows == row].sum() ** 2 for row in (1, 4, 9))) / 6
    assert estimate(uneven, rows).stderr == pytest.approx(by_hand, rel=1e-12)


def test_clusters_may_come_in_any_order() -> None:
    scores, documents = RNG.normal(size=60), RNG.integers(0, 12, 60)
    ordered = np.argsort(documents, kind="stable")
    assert estimate(scores, documents).stderr == pytest.approx(estimate(scores[ordered], documents[ordered]).stderr)
    assert estimate(scores, documents).rows == len(set(documents.tolist()))


def test_weights_count_as_so_many_scores_of_a_row() -> None:
    times = RNG.integers(1, 5, 40)
    for scores in (RNG.normal(size=40), (RNG.random(40) < 0.7).astype(float)):
        found = estimate(scores, np.arange(40), times.astype(float))
        repeated = estimate(np.repeat(scores, times), np.repeat(np.arange(40), times))
        assert (found.mean, found.stderr) == (pytest.approx(repeated.mean), pytest.approx(repeated.stderr))
        assert found.low == pytest.approx(repeated.low, abs=0.01)
        assert (found.n, found.rows) == (40, 40)


def test_equal_weights_change_nothing() -> None:
    scores = RNG.normal(size=40)
    found, plain = estimate(scores, np.arange(40), np.full(40, 3.0)), estimate(scores, np.arange(40))
    assert (found.mean, found.stderr, found.low) == pytest.approx((plain.mean, plain.stderr, plain.low))


@pytest.mark.parametrize("sizes", [[3] * 8, [40, 10, 5, 5, 4, 3, 2, 1]])
def test_the_interval_of_few_clusters_contains_the_truth(sizes: list[int]) -> None:
    documents = np.repeat(np.arange(len(sizes)), sizes)
    inside = 0
    for _ in range(500):
        scores = RNG.normal(0, 1, len(sizes))[documents] + RNG.normal(0, 1, len(documents))
        found = estimate(scores, documents)
        assert found.low is not None
        assert found.high is not None
        inside += found.low <= 0 <= found.high
    assert inside >= 460


@pytest.mark.parametrize(("right", "n"), [(0, 10), (10, 10), (3, 10), (1234, 2000), (1, 2)])
def test_scores_of_0_and_1_have_wilsons_interval(right: int, n: int) -> None:
    found = estimate(np.array([1.0] * right + [0.0] * (n - right)), np.arange(n))
    wilson = stats.binomtest(right, n).proportion_ci(method="wilson")
    assert (found.low, found.high) == (pytest.approx(wilson.low, abs=1e-12), pytest.approx(wilson.high, abs=1e-12))


def test_the_interval_contains_the_truth_in_95_of_100_even_for_correlated_samples() -> None:
    inside = 0
    for _ in range(1000):
        chance = RNG.beta(2, 1, size=200)
        found = estimate(RNG.binomial(1, np.repeat(chance, 4)).astype(float), np.repeat(np.arange(200), 4))
        assert found.low is not None
        assert found.high is not None
        inside += found.low <= 2 / 3 <= found.high
    assert 930 <= inside <= 970


def test_without_scores_there_is_no_mean() -> None:
    nothing = estimate(np.array([]), np.array([], dtype=np.int64))
    assert (nothing.n, nothing.mean, nothing.stderr) == (0, None, None)
    assert estimate(np.array([1.0, 0.0]), np.array([3, 3])).stderr is None


def test_percentiles_interpolate() -> None:
    values = RNG.exponential(size=999)
    found = percentiles(values)
    assert found is not None
    assert found.pop("mean") == pytest.approx(np.mean(values))
    assert found == {f"p{p}": pytest.approx(stats.scoreatpercentile(values, p)) for p in (50, 90, 99)}
    assert percentiles(np.array([])) is None


def test_a_count_too_large_for_a_float_does_not_break_a_report() -> None:
    assert floats(pa.array([2**62, None, 3])).tolist()[::2] == [2.0**62, 3.0]
