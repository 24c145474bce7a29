"""Simulated providers of many kinds: how much of their limits is used, how soon, and how often they throttle.

Each profile runs with one seed in the ordinary suite and with four more in
`pytest -q -n 3 -m slow tests/pacing/test_simulation.py`.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from tests.pacing.simulation import Profile, Simulation

MINUTES = 10
SEEDS = (3,)
MORE_SEEDS = (1, 2, 4, 7)
"""Run only with -m slow."""
MISSED = {
    ("no limit, slow", 2): "uses 0.90 of 0.93: the window stops growing early",
    ("no limit, slow", 3): "uses 0.81 of 0.93: the window stops growing early",
    ("no limit, slow", 4): "uses 0.79 of 0.93: the window stops growing early",
    ("halved after 75 s", 2): "3.5 % are throttled between 30 and 75 s after the change, not 3 %",
    ("shared, seconds, 60 s apart", 7): "the first client keeps 0.67 of the limit, not 0.65",
    ("shared, ms, 60 s apart", 1): "the second client keeps 0.24 of the limit, not 0.35",
}
"""Cases in which a bound is missed, and by how much; found with more seeds than 7."""
PROFILES = [
    Profile("600 requests", rpm=600),
    Profile("1200 requests", rpm=1200),
    Profile("1200 requests, a second saved up", rpm=1200, burst_s=1),
    Profile("1200 requests, a second saved up, to the millisecond", rpm=1200, burst_s=1, retry_after="ms"),
    Profile("6000 requests, no time given", rpm=6000, retry_after="none"),
    Profile("6000 requests, ten seconds saved up, fast", rpm=6000, burst_s=10, latency_s=0.1),
    Profile("3000 requests, a second saved up", rpm=3000, burst_s=1),
    Profile("600 requests, slow", rpm=600, latency_s=20),
    Profile("120 requests, slow", rpm=120, latency_s=5),
    Profile("60k tokens", tpm=60_000),
    Profile("200k tokens, uneven", tpm=200_000, sizes=0.8),
    Profile("1M tokens, a second saved up, uneven", tpm=1_000_000, burst_s=1, sizes=0.8, retry_after="ms"),
    Profile("1200 requests and 400k tokens, uneven", rpm=1200, tpm=400_000, sizes=0.8),
    Profile("1200 requests, reported", rpm=1200, headers=True),
    Profile("200k reserved tokens, uneven, reported", tpm=200_000, charge="reserved", sizes=0.8, headers=True),
    Profile("1200 requests and 400k tokens, uneven, reported", rpm=1200, tpm=400_000, sizes=0.8, headers=True),
    Profile("1200 requests, slow, reported", rpm=1200, latency_s=20, headers=True),
    Profile("1200 requests in a fixed minute, reported", rpm=1200, window="fixed", headers=True),
    Profile("1200 requests in a fixed minute", rpm=1200, window="fixed"),
    Profile("1200 requests in a sliding minute", rpm=1200, window="sliding"),
    Profile("64 slots that share a machine", slots=64, latency_s=2),
    Profile("50 at once, no time given", concurrency=50, latency_s=2, retry_after="none"),
    Profile("50 at once", concurrency=50, latency_s=2),
    Profile("300 at once", concurrency=300, latency_s=1),
    Profile("1000 at once, to the millisecond", concurrency=1000, latency_s=5, retry_after="ms"),
    Profile("100 at once and 1200 requests", concurrency=100, rpm=1200, latency_s=2),
    Profile("60 requests", rpm=60),
    Profile("60k reserved tokens", tpm=60_000, charge="reserved"),
    Profile("100k tokens in a fixed minute", tpm=100_000, window="fixed"),
]
CHANGES = [
    Profile("halved", rpm=1200, change=0.5, change_at_s=300),
    Profile("doubled", rpm=1200, change=2, change_at_s=300),
    Profile("halved, a second saved up", rpm=3000, burst_s=1, change=0.5, change_at_s=300),
    Profile("doubled, a second saved up", rpm=3000, burst_s=1, change=2, change_at_s=300),
    Profile("halved, reported", rpm=1200, change=0.5, change_at_s=300, headers=True),
    Profile("doubled, reported", rpm=1200, change=2, change_at_s=300, headers=True),
    Profile("doubled, no time given", rpm=1200, change=2, change_at_s=300, retry_after="none"),
    Profile("half of 50 at once", concurrency=50, latency_s=2, change=0.5, change_at_s=300),
    Profile("double of 50 at once", concurrency=50, latency_s=2, change=2, change_at_s=300),
    Profile("double tokens", tpm=400_000, change=2, change_at_s=300),
]
RANDOM = [
    Profile("no limit", slots=60, latency_s=0.25, random_throttles=0.02, retry_after="none"),
    Profile("no limit, slow", slots=200, latency_s=3, random_throttles=0.02, retry_after="none"),
    Profile("3000 requests", rpm=3000, random_throttles=0.02),
    Profile("6000 requests, no time given", rpm=6000, random_throttles=0.02, retry_after="none"),
    Profile("3000 requests, configured", rpm=3000, random_throttles=0.02, configured=True),
    Profile("often", slots=150, random_throttles=0.05, retry_after="none"),
]


def seeded(*cases: tuple[str, Any]) -> list[Any]:
    """Return each named case with each seed, as parameters."""
    return [
        pytest.param(
            case,
            seed,
            id=f"{name}-{seed}",
            marks=[pytest.mark.slow] * (seed in MORE_SEEDS)
            + [pytest.mark.xfail(strict=True, reason=MISSED.get((name, seed), ""))] * ((name, seed) in MISSED),
        )
        for name, case in cases
        for seed in SEEDS + MORE_SEEDS
    ]


def by_profile(profiles: list[Profile]) -> list[Any]:
    return seeded(*((profile.name, profile) for profile in profiles))


def simulated(profile: Profile, seed: int) -> Simulation:
    simulation = Simulation(profile, seed=seed)
    simulation.run(MINUTES * 60)
    return simulation


@pytest.mark.parametrize(("profile", "seed"), by_profile(PROFILES))
def test_unpublished_limits_are_found_and_used(profile: Profile, seed: int) -> None:
    simulation = simulated(profile, seed)
    least = 0.9 if profile.window == "sliding" else 0.93  # the first burst leaves a gap that recurs every minute
    assert simulation.used(60, MINUTES * 60) >= least
    assert simulation.throttled(60, MINUTES * 60) <= 0.03
    assert simulation.reached_s(0) <= max(30, 8 * profile.latency_s)
    assert simulation.clients[0].most_throttled < 10


CONFIGURED = [
    profile
    for profile in PROFILES
    if min(profile.rpm, profile.tpm) < math.inf
    and profile.window != "sliding"
    and (profile.charge == "usage" or profile.headers)  # otherwise the provider counts differently than configured
]


@pytest.mark.parametrize(("profile", "seed"), by_profile(CONFIGURED))
def test_configured_limits_are_used_and_kept(profile: Profile, seed: int) -> None:
    simulation = simulated(dataclasses.replace(profile, configured=True), seed)
    assert simulation.used(60, MINUTES * 60) >= 0.98
    assert simulation.throttled(60, MINUTES * 60) <= 0.01
    assert simulation.reached_s(0) <= max(5, 2 * profile.latency_s)


@pytest.mark.parametrize(("profile", "seed"), by_profile(CHANGES))
def test_changed_limits_are_found_again(profile: Profile, seed: int) -> None:
    simulation = simulated(profile, seed)
    assert simulation.reached_s(profile.change_at_s) <= 30
    assert simulation.throttled(60, MINUTES * 60) <= 0.03


HALVED = Profile("halved after 75 s", rpm=1200, burst_s=5, change_at_s=75, change=0.5)


@pytest.mark.parametrize(("profile", "seed"), [*by_profile([HALVED]), (HALVED, 0), (HALVED, 8)])
def test_throttles_of_a_lowered_limit_are_not_taken_for_random_ones(profile: Profile, seed: int) -> None:
    """Below the old limit, no throttle seems possible."""
    simulation = Simulation(profile, seed=seed)
    simulation.run(400)
    assert simulation.throttled(105, 150) <= 0.03
    assert simulation.throttled(150, 400) <= 0.015
    assert simulation.used(105, 400) >= 0.98


SHARED = [
    (f"shared, {retry_after}, {apart_s:g} s apart", (retry_after, apart_s))
    for retry_after in ("seconds", "ms")
    for apart_s in (0.0, 5.0, 60.0)
]


@pytest.mark.parametrize(("case", "seed"), seeded(*SHARED))
def test_two_clients_share_a_limit_fairly(case: tuple[str, float], seed: int) -> None:
    retry_after, apart_s = case
    simulation = Simulation(Profile("shared", rpm=1200, burst_s=5, retry_after=retry_after), seed=seed, clients=2)
    simulation.run(600, apart_s)
    both = simulation.used(120, 600)
    assert both >= 0.93
    assert simulation.throttled(120, 600) <= 0.08
    for client in range(2):
        assert simulation.used(120, 600, client) / both >= 0.35


@pytest.mark.parametrize(("profile", "seed"), by_profile(RANDOM))
def test_random_throttles_reduce_throughput_by_little_more_than_their_share(profile: Profile, seed: int) -> None:
    simulation = simulated(profile, seed)
    assert simulation.used(60, MINUTES * 60) >= 0.93
    assert simulation.throttled(60, MINUTES * 60) <= profile.random_throttles + 0.01
