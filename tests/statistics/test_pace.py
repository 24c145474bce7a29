"""A pace that all models share is no alarm, and a model that gets slower by itself still is."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from batchmix.statistics.pace import Latencies, beyond_pace, with_pace
from batchmix.statistics.paired import Paired, compare, compare_percentile

RNG = np.random.default_rng(14)
_BEGIN = RNG.bit_generator.state
ROWS = 200


@pytest.fixture(autouse=True)
def same_draws() -> None:
    """Each test draws the same numbers, whichever tests ran before it."""
    RNG.bit_generator.state = _BEGIN


def night(models: int, pace: float, slower: float = 0.0) -> dict[str, Latencies]:
    """Draw the latencies of two nights. All models share the pace, and minutes of it; the first one is also slower."""
    base, minute = RNG.lognormal(0, 0.5, ROWS), np.exp(RNG.normal(0, 0.1, ROWS))
    rows = np.arange(ROWS)
    drawn = {}
    for model in range(models):
        before = (1 + model) * base * RNG.lognormal(0, 0.4, ROWS)
        after = (1 + model) * base * RNG.lognormal(0, 0.4, ROWS) * (1 + pace) * minute
        drawn[str(model)] = Latencies(before, after * (1 + slower) if model == 0 else after, rows, rows)
    return drawn


def alarms(models: dict[str, Latencies], percent: float | None = None) -> set[str]:
    beyond = beyond_pace(models, percent)
    found = set()
    for name, pairs in models.items():
        own = (
            compare(pairs.before, pairs.after, pairs.clusters)
            if percent is None
            else compare_percentile(pairs.before, pairs.after, pairs.clusters, percent)
        )
        assert own is not None
        if with_pace(own, beyond[name]).p_rise <= 0.05 / len(models):
            found.add(name)
    return found


@pytest.mark.parametrize(("models", "percent"), [(2, None), (4, None), (2, 90)])
def test_a_shared_pace_is_seldom_an_alarm(models: int, percent: float | None) -> None:
    assert sum(bool(alarms(night(models, 0.1), percent)) for _ in range(100)) <= 11


@pytest.mark.parametrize("models", [2, 4])
def test_a_model_that_gets_slower_is_found_and_the_others_are_not(models: int) -> None:
    found = [alarms(night(models, 0.1, slower=0.25)) for _ in range(50)]
    assert sum("0" in one for one in found) >= 43
    assert sum(bool(one - {"0"}) for one in found) <= 6


def test_a_model_that_gets_faster_does_not_make_the_others_slower() -> None:
    assert sum(bool(alarms(night(2, 0.0, slower=-0.5))) for _ in range(50)) <= 6


def test_rows_that_one_model_lacks_get_the_pace_of_all_rows() -> None:
    models = night(2, 0.5)
    half = slice(0, ROWS // 2)
    models["1"] = Latencies(
        models["1"].before[half], models["1"].after[half], np.arange(ROWS)[half], np.arange(ROWS)[half]
    )
    beyond = beyond_pace(models)
    assert beyond["0"].n == ROWS
    assert abs(beyond["0"].difference) < 0.15


def test_one_model_has_no_pace_to_share() -> None:
    assert beyond_pace(night(1, 0.1)) == {}
    nothing = np.array([])
    empty = Latencies(nothing, nothing, np.arange(0), np.arange(0))
    assert beyond_pace({**night(1, 0.1), "empty": empty}) == {}


def test_the_larger_p_counts() -> None:
    own = compare(np.zeros(8), np.ones(8), np.arange(8))
    relative = compare(np.zeros(8), np.zeros(8), np.arange(8))
    assert isinstance(own, Paired)
    assert isinstance(relative, Paired)
    assert with_pace(own, relative).p_rise == 1.0
    assert with_pace(relative, own).p_rise == 1.0
    assert with_pace(own, own) == msgspec.structs.replace(own, without_pace=True)
