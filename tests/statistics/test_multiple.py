"""Many tests together keep the level, and those that could not be significant cost nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from batchmix.statistics.multiple import GROUPS_SHARE, FamilyTest, adjusted_in_families, holm


def test_holm_gives_the_published_example() -> None:
    # The p-values and the adjusted ones of R's p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm").
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_weights_share_the_level() -> None:
    assert holm([0.01, 0.01], [3.0, 1.0]) == pytest.approx([0.04 / 3, 0.0133333], rel=1e-3)
    assert holm([0.02, 0.9], [3.0, 1.0]) == pytest.approx([0.08 / 3, 0.9])
    assert holm([0.02, 0.9, 0.5], [2.0, 2.0, 2.0]) == holm([0.02, 0.9, 0.5])


def test_a_test_that_could_not_be_significant_takes_no_part_of_the_level() -> None:
    assert holm([0.03, 1.0, 1.0, 0.5], least=[1e-9, 1.0, 1.0, 0.5])[0] == pytest.approx(0.03)
    assert holm([0.03, 1.0, 1.0, 0.5], least=[1e-9, 1e-9, 1.0, 0.5])[0] == pytest.approx(0.06)


def test_tests_that_can_only_be_significant_alone_all_count() -> None:
    # One alone could be, or two; but none of them is left out, so that there are three, and 0.02 > 0.05 / 3.
    assert holm([0.02, 0.02, 0.02], least=[0.02, 0.02, 0.02]) == pytest.approx([0.06, 0.06, 0.06])
    assert holm([0.02, 0.02, 0.03], least=[0.02, 0.02, 0.03])[:2] == pytest.approx([0.04, 0.04])


def test_all_tests_together_are_seldom_significant_by_chance() -> None:
    draw = np.random.default_rng(2)
    alarms = 0
    for _ in range(1000):
        moved = draw.integers(0, 12, 30)  # with a p-value of the binomial test of so many moved rows
        rises = draw.binomial(moved, 0.5)
        p_values = [_binomial(int(count), int(rise)) for count, rise in zip(moved, rises, strict=True)]
        alarms += min(holm(p_values, least=[2.0 ** -int(count) for count in moved])) <= 0.05
    assert alarms / 1000 <= 0.06
    assert alarms / 1000 >= 0.005


def test_groups_share_a_small_part_of_the_level_however_many_they_are() -> None:
    for count in (1, 20):
        groups = [FamilyTest(0.5, 1e-9, of_group=True)] * count
        (adjusted, own), *_ = adjusted_in_families([FamilyTest(0.01, 1e-9), *groups], 0.05)
        assert adjusted == pytest.approx(0.01 / (1 - GROUPS_SHARE))
        assert own == pytest.approx(0.05 * (1 - GROUPS_SHARE))


def test_a_group_that_falls_is_weighed_against_groups_alone() -> None:
    others = [FamilyTest(0.5, 1e-9)] * 3
    still = [FamilyTest(0.5, 0.25, of_group=True)] * 19  # two rows changed in each
    found = adjusted_in_families([*others, *still, FamilyTest(0.001, 1e-9, of_group=True)], 0.05)
    assert found[-1] == (pytest.approx(0.001 / GROUPS_SHARE), pytest.approx(0.05 * GROUPS_SHARE))


def test_a_family_that_cannot_be_significant_leaves_its_share() -> None:
    groups = [FamilyTest(0.5, 0.25, of_group=True)] * 5
    assert adjusted_in_families([FamilyTest(0.03, 1e-9), *groups], 0.05)[0] == (0.03, 0.05)
    assert adjusted_in_families([FamilyTest(1.0, 1.0), FamilyTest(0.03, 1e-9, of_group=True)], 0.05)[1] == (
        0.03,
        0.05,
    )
    assert adjusted_in_families([], 0.05) == []


def test_guards_of_little_weight_cost_little() -> None:
    tests = [FamilyTest(0.02, 1e-9), FamilyTest(0.5, 1e-9, weight=0.25)]
    assert adjusted_in_families(tests, 0.05)[0] == (pytest.approx(0.025), pytest.approx(0.04))


def _binomial(count: int, rises: int) -> float:
    return sum(math.comb(count, k) for k in range(rises + 1)) / 2**count


def test_no_adjusted_p_value_is_smaller_than_its_own() -> None:
    tests = [FamilyTest(1.0, 1.0), FamilyTest(0.2, 0.001, 0.1), FamilyTest(0.4, 1.0, 0.1)]
    for test, (adjusted, _) in zip(tests, adjusted_in_families(tests, 0.05), strict=True):
        assert adjusted >= test.p
