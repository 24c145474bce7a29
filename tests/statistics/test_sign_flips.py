"""The sign-flip test has the p-value of all sign flips, near and far from the middle."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from batchmix.statistics.sign_flips import least_p, moved_of, sign_flip_p

RNG = np.random.default_rng(12)
_BEGIN = RNG.bit_generator.state


@pytest.fixture(autouse=True)
def same_draws() -> None:
    """Each test draws the same numbers, whichever tests ran before it."""
    RNG.bit_generator.state = _BEGIN


def of_all_flips(differences: np.ndarray) -> float:
    """Return the exact p-value, by trying all signs."""
    sums = np.zeros(1)
    for size in np.abs(differences):
        sums = np.concatenate([sums - size, sums + size])
    return float((sums <= differences.sum() + 1e-9).mean())


@pytest.mark.parametrize("wins", [500, 520, 560, 600])
def test_the_normal_approximation_for_many_rows_is_near_the_exact_p(wins: int) -> None:
    differences = np.array([1.0] * wins + [-1.0] * (1001 - wins))
    exact = stats.binomtest(wins, 1001, alternative="greater").pvalue
    assert sign_flip_p(-differences) == pytest.approx(exact, rel=0.05, abs=1e-5)


@given(st.lists(st.floats(-5, 5).filter(lambda x: abs(x) > 1e-3), min_size=1, max_size=15))
def test_up_to_15_differences_are_tried_with_all_signs(found: list[float]) -> None:
    differences = np.array(found)
    assert sign_flip_p(differences) == pytest.approx(of_all_flips(differences))
    assert sign_flip_p(differences) >= least_p(len(moved_of(differences)))


@given(st.lists(st.sampled_from([-0.75, -0.5, -0.25, 0.25, 0.5, 0.75, 1.0]), min_size=16, max_size=19))
def test_multiples_of_a_step_have_the_exact_p(found: list[float]) -> None:
    differences = np.array(found)
    assert sign_flip_p(differences) == pytest.approx(of_all_flips(differences))


@pytest.mark.parametrize("shift", [-0.6, 0.0, 0.3, 0.8])
@pytest.mark.parametrize("count", [16, 19])
def test_other_differences_have_nearly_the_p_of_all_signs(shift: float, count: int) -> None:
    for differences in (RNG.normal(shift, 1, count), RNG.lognormal(0, 1, count) * np.sign(RNG.normal(shift, 1, count))):
        assert sign_flip_p(differences) == pytest.approx(of_all_flips(differences), rel=0.12)


def test_a_p_far_out_is_not_lost() -> None:
    differences = -RNG.uniform(0.5, 1, 60)
    assert sign_flip_p(differences) == pytest.approx(2.0**-60)
    assert sign_flip_p(-differences) == pytest.approx(1.0)


def test_without_differences_nothing_can_be_significant() -> None:
    assert (sign_flip_p(np.zeros(5)), least_p(len(moved_of(np.zeros(5))))) == (1.0, 1.0)
    assert least_p(len(moved_of(np.array([1.0, 0.0, -2.0])))) == 0.25
