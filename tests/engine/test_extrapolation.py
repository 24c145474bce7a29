"""The cost of all rows is estimated from a few, with an interval that contains it as often as promised."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from batchmix.engine.extrapolation import Bounds, draw_positions, estimate_total

Length = Callable[[random.Random, int], float]
SHAPES: dict[str, Length] = {
    "all alike": lambda rng, prompt: rng.gauss(200, 20),
    "lognormal": lambda rng, prompt: rng.lognormvariate(5, 1.0),
    "lognormal, wide": lambda rng, prompt: rng.lognormvariate(5, 1.2),
    "with the prompt": lambda rng, prompt: prompt * rng.lognormvariate(0, 0.8),
    "Pareto": lambda rng, prompt: 100 * rng.paretovariate(2.5),
    "Pareto, capped": lambda rng, prompt: min(4096, 100 * rng.paretovariate(2.0)),
    "two kinds": lambda rng, prompt: rng.lognormvariate(7, 0.5) if rng.random() < 0.2 else rng.lognormvariate(4, 0.6),
}
INPUT, OUTPUT = 0.15, 0.6


def forecast(rng: random.Random, length: Length, rows: int) -> tuple[Bounds, float]:
    """Return the bounds of a job's cost that 50 rows give, and its true cost."""
    prompts = [20 + int(rng.lognormvariate(5, 0.8)) for _ in range(rows)]
    true_prompts = [prompt * rng.gauss(1.1, 0.05) for prompt in prompts]
    costs = [INPUT * prompt + OUTPUT * length(rng, prompt) for prompt in true_prompts]
    picks = draw_positions(prompts, 50, str(rng.random()))
    each = INPUT * sum(true_prompts[at] for at in picks) / sum(prompts[at] for at in picks)
    bounds = estimate_total(
        [each * prompts[at] for at in picks], [costs[at] for at in picks], each * sum(prompts), rows
    )
    assert bounds is not None
    return bounds, sum(costs)


def share_held(name: str, jobs: int, rows: int = 1000) -> float:
    rng = random.Random(name)
    found = [forecast(rng, SHAPES[name], rows) for _ in range(jobs)]
    return sum(bounds.low <= true <= bounds.high for bounds, true in found) / jobs


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_the_interval_contains_the_true_cost_in_92_percent_of_a_thousand_jobs(name: str) -> None:
    assert share_held(name, 1000) >= 0.92


@pytest.mark.parametrize("name", SHAPES)
def test_the_interval_contains_the_true_cost_in_85_percent_of_a_hundred_jobs(name: str) -> None:
    assert share_held(name, 100, 600) >= 0.85


def test_the_estimate_is_unbiased_and_the_interval_is_narrow() -> None:
    rng = random.Random(4)
    found = [forecast(rng, SHAPES["lognormal"], 1000) for _ in range(200)]
    assert sum(bounds.estimate / true for bounds, true in found) / 200 == pytest.approx(1, abs=0.04)
    assert sum((bounds.high - bounds.low) / true for bounds, true in found) / 200 < 1.2


def test_a_cost_that_follows_from_the_size_has_no_uncertainty() -> None:
    sizes = list(range(1, 1001))
    picks = draw_positions(sizes, 50, "seed")
    bounds = estimate_total([sizes[at] for at in picks], [sizes[at] + 7 for at in picks], sum(sizes), 1000)
    assert bounds is not None
    assert (bounds.low, bounds.estimate, bounds.high) == pytest.approx((sum(sizes) + 7000,) * 3)


def test_a_sample_of_all_rows_has_no_uncertainty() -> None:
    values = [float(value) for value in range(50)]
    bounds = estimate_total([0.0] * 50, values, 0.0, 50)
    assert bounds == Bounds(sum(values), pytest.approx(sum(values)), pytest.approx(sum(values)))


def test_fewer_than_ten_rows_give_no_estimate() -> None:
    assert estimate_total([0.0] * 9, [1.0] * 9, 0.0, 100) is None


def test_a_draw_is_spread_over_the_sizes_and_repeatable() -> None:
    rng = random.Random(1)
    sizes = [int(rng.lognormvariate(4, 1)) for _ in range(10_000)]
    picks = draw_positions(sizes, 50, "digest")
    assert picks == draw_positions(sizes, 50, "digest") != draw_positions(sizes, 50, "another")
    assert len(set(picks)) == 50
    ranks = sorted(sizes)
    for number, at in enumerate(picks):
        assert ranks[200 * number] <= sizes[at] <= ranks[min(9999, 200 * number + 199)]


def test_a_draw_of_more_rows_than_exist_takes_all() -> None:
    assert sorted(draw_positions([5, 5, 5, 1], 50, "s")) == [0, 1, 2, 3]
    assert draw_positions([], 50, "s") == []
