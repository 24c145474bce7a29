"""Simulated providers of many kinds: how much of their limits is used, how soon, and how often they refuse.

The cases and their bounds are in `tests.pacing.profiles`. Each is played with one seed in the ordinary suite, and with all of
`SEEDS` in `pytest -q -n 3 -m slow tests/pacing/test_simulation.py`. `python -m tests.benchmarks.pacing` prints the figures.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.pacing.cases import SEEDS, Case, play
from tests.pacing.profiles import CASES
from tests.pacing.provider import Best, Profile
from tests.pacing.rules import Rule, meter, requests, tokens
from tests.pacing.simulation import Simulation

MISSED: dict[str, list[int]] = json.loads(Path(__file__).with_name("missed.json").read_text())
"""The seeds with which a case misses a bound, written by `python -m tests.benchmarks.pacing --missed`.

Played only with -m slow. A case that keeps its bounds after all fails, until its seed is taken from the list.
"""


def seeded() -> list[Any]:
    """Return each case with each seed, as parameters."""
    missed = [pytest.mark.slow, pytest.mark.xfail(strict=True, reason="misses a bound with this seed")]
    return [
        pytest.param(
            case,
            seed,
            id=f"{case.name}-{seed}",
            marks=missed if seed in MISSED.get(case.name, []) else [pytest.mark.slow] * (seed != SEEDS[0]),
        )
        for case in CASES
        for seed in SEEDS
    ]


@pytest.mark.parametrize(("case", "seed"), seeded())
def test_a_provider_is_used_as_promised(case: Case, seed: int) -> None:
    figures = play(case, seed)
    assert case.missed(figures) == [], figures


def test_each_case_has_its_own_name_and_those_that_are_missed_exist() -> None:
    names = {case.name for case in CASES}
    assert len(names) == len(CASES)
    assert names >= MISSED.keys()


RULES = [
    (requests(120), [0.0] * 120 + [0.5, 1.0]),
    (requests(120, holds=1), [0.0, 0.5, 1.0]),
    (requests(120, span_s=1), [0.0, 0.0, 0.5, 1.0]),
    (requests(2, window="fixed"), [0.0, 0.0, 60.0, 60.0, 120.0]),
    (requests(120, window="fixed", span_s=1), [0.0, 0.0, 1.0, 1.0, 2.0]),
    (requests(2, window="first"), [0.0, 0.0, 60.0, 60.0, 120.0]),
    (requests(2, window="sliding"), [0.0, 0.0, 60.0, 60.0, 120.0]),
]


@pytest.mark.parametrize(("rule", "times"), RULES)
def test_a_rule_lets_requests_in_as_soon_as_it_says(rule: Rule, times: list[float]) -> None:
    used = meter(rule, -17.0)
    now, entered = 0.0, []
    for _ in times:
        while wait_s := used.wait_s(now, 1.0):
            now += wait_s
        used.take(now, 1.0)
        entered.append(now)
    assert entered == pytest.approx(times)


def test_a_short_queue_serves_some_lets_some_wait_and_refuses_the_others() -> None:
    simulation = Simulation(Profile("queue", concurrency=2, queue=3, rows=40, status=503, latency_s=100, spread=0))
    simulation.run(1)
    assert simulation.accepted(0, 1) == 2
    assert len(simulation.clients[0].refused) >= 7, "of the twelve that leave at first"


def test_answers_that_take_too_long_time_out() -> None:
    simulation = Simulation(Profile("one", concurrency=1, queue=1e9, rows=8, latency_s=250, spread=0))
    simulation.run(601)
    client = simulation.clients[0]
    assert (client.answered, len(client.refused)) == (2, 6)


def test_output_tokens_are_charged_when_the_answer_ends() -> None:
    sizes: Any = {"sizes": 0.0, "spread": 0.0, "completion": 100, "retry_after": "none"}
    simulation = Simulation(Profile("output", (tokens(100, "output"),), rows=3, latency_s=10, **sizes))
    simulation.run(5)
    assert simulation.accepted(0, 5) == 3
    simulation = Simulation(Profile("reserved", (tokens(600, "reserved"),), rows=3, latency_s=10, **sizes))
    simulation.run(5)
    assert simulation.accepted(0, 5) == 1


@pytest.mark.parametrize(
    ("profile", "least_s"),
    [
        (Profile("rate", (requests(60, window="first"),), rows=130, latency_s=1, spread=0), 121.0),
        (Profile("cap", concurrency=4, rows=40, latency_s=1, spread=0), 10.2),
        (Profile("course", (requests(60, holds=1),), rows=31, latency_s=1, spread=0, course=((10, 2.0),)), 21.5),
    ],
)
def test_the_least_possible_time_is_known(profile: Profile, least_s: float) -> None:
    assert Best(profile, 1, 300).finished_s == pytest.approx(least_s, abs=0.6)
