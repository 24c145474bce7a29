"""pass@k, pass^k and majority@k are what all draws of k samples have, counted one by one."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchmix.statistics.sample_metrics import majority_at, pass_all, pass_at

ROWS = st.lists(st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=6), min_size=1, max_size=4)
VOTES = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=6), min_size=1, max_size=5)


def numbers(rows: Sequence[Sequence[object]]) -> np.ndarray:
    return np.array([number for number, row in enumerate(rows) for _ in row])


@pytest.mark.parametrize(("metric", "of"), [(pass_at, max), (pass_all, min)])
@given(rows=ROWS)
def test_pass_k_is_the_share_of_all_draws_of_k(
    rows: list[list[float]], metric: Callable[..., dict[int, float]], of: Callable[[Sequence[float]], float]
) -> None:
    found = metric(np.array([score for row in rows for score in row]), numbers(rows))
    assert bool(found) == (max(map(len, rows)) > 1)
    for k, value in found.items():
        shares = [np.mean([of(chosen) for chosen in itertools.combinations(row, k)]) for row in rows if len(row) >= k]
        assert value == pytest.approx(np.mean(shares))


def test_pass_at_k_of_many_samples_does_not_overflow() -> None:
    scores = np.array([1.0] * 50 + [0.0] * 150)
    found = pass_at(scores, np.zeros(200, dtype=np.int64))
    # 1 - C(150, k) / C(200, k), as the numerically stable script of Chen et al. (2021), figure 3, has it
    for k in (1, 10, 100):
        assert found[k] == pytest.approx(1 - np.prod(1 - k / np.arange(151, 201)), rel=1e-9)
    assert list(found) == [1, 2, 5, 10, 20, 50, 100, 200]


@given(rows=VOTES)
def test_majority_at_k_is_the_score_of_the_answer_given_most_often(rows: list[list[int]]) -> None:
    """Answer 1 is right. 0 is no answer, and wrong."""
    votes = np.array([vote for row in rows for vote in row])
    found = majority_at((votes == 1).astype(float), numbers(rows), votes)
    assert bool(found) == (max(map(len, rows)) > 1 and bool(votes.any()))
    for k, value in found.items():
        shares = []
        for row in rows:
            if len(row) >= k:
                counts = Counter(vote for vote in row[:k] if vote)
                best = [vote for vote, count in counts.items() if count == max(counts.values())]
                shares.append((1 in best) / len(best) if best else 0.0)
        assert value == pytest.approx(np.mean(shares))


def test_scores_between_0_and_1_have_a_majority_but_no_pass() -> None:
    scores, rows = np.array([0.5, 0.5, 1.0]), np.zeros(3, dtype=np.int64)
    assert (pass_at(scores, rows), pass_all(scores, rows)) == ({}, {})
    assert majority_at(scores, rows, np.array([7, 7, 9]))[3] == 0.5


def test_the_majority_of_many_rows_takes_bounded_memory() -> None:
    rows = np.repeat(np.arange(30_000), 40)
    votes = np.tile(np.array([1] * 21 + [2] * 19), 30_000)
    assert majority_at((votes == 1).astype(float), rows, votes)[40] == 1
