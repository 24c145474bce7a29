"""Providers of many kinds, simulated: how much of their limits is used, how soon, and how often they refuse."""

from __future__ import annotations

import dataclasses
import math

import pytest

from tests.pacing.simulation import Profile, Simulation

MINUTES = 10
PROFILES = [
    Profile("600 requests", rpm=600),
    Profile("1200 requests", rpm=1200),
    Profile("1200 requests, a second saved up", rpm=1200, burst_s=1),
    Profile("1200 requests, a second saved up, to the millisecond", rpm=1200, burst_s=1, retry_after="ms"),
    Profile("6000 requests, no word", rpm=6000, retry_after="none"),
    Profile("6000 requests, ten seconds saved up, fast", rpm=6000, burst_s=10, latency_s=0.1),
    Profile("3000 requests, a second saved up", rpm=3000, burst_s=1),
    Profile("600 requests, slow", rpm=600, latency_s=20),
    Profile("120 requests, slow", rpm=120, latency_s=5),
    Profile("60k tokens", tpm=60_000),
    Profile("200k tokens, uneven", tpm=200_000, sizes=0.8),
    Profile("1M tokens, a second saved up, uneven", tpm=1_000_000, burst_s=1, sizes=0.8, retry_after="ms"),
    Profile("1200 requests and 400k tokens, uneven", rpm=1200, tpm=400_000, sizes=0.8),
    Profile("1200 requests, said", rpm=1200, headers=True),
    Profile("200k reserved tokens, uneven, said", tpm=200_000, charge="reserved", sizes=0.8, headers=True),
    Profile("1200 requests and 400k tokens, uneven, said", rpm=1200, tpm=400_000, sizes=0.8, headers=True),
    Profile("1200 requests, slow, said", rpm=1200, latency_s=20, headers=True),
    Profile("1200 requests in a fixed minute, said", rpm=1200, window="fixed", headers=True),
    Profile("1200 requests in a fixed minute", rpm=1200, window="fixed"),
    Profile("1200 requests in a sliding minute", rpm=1200, window="sliding"),
    Profile("64 slots that share a machine", slots=64, latency_s=2),
    Profile("50 at once, no word", concurrency=50, latency_s=2, retry_after="none"),
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
    Profile("halved, said", rpm=1200, change=0.5, change_at_s=300, headers=True),
    Profile("doubled, said", rpm=1200, change=2, change_at_s=300, headers=True),
    Profile("doubled, no word", rpm=1200, change=2, change_at_s=300, retry_after="none"),
    Profile("half of 50 at once", concurrency=50, latency_s=2, change=0.5, change_at_s=300),
    Profile("double of 50 at once", concurrency=50, latency_s=2, change=2, change_at_s=300),
    Profile("double tokens", tpm=400_000, change=2, change_at_s=300),
]
STRAYS = [
    Profile("no limit", slots=60, latency_s=0.25, strays=0.02, retry_after="none"),
    Profile("no limit, slow", slots=200, latency_s=3, strays=0.02, retry_after="none"),
    Profile("3000 requests", rpm=3000, strays=0.02),
    Profile("6000 requests, no word", rpm=6000, strays=0.02, retry_after="none"),
    Profile("3000 requests, told", rpm=3000, strays=0.02, told=True),
    Profile("often", slots=150, strays=0.05, retry_after="none"),
]


def by_name(profile: Profile) -> str:
    return profile.name


def simulated(profile: Profile) -> Simulation:
    simulation = Simulation(profile, seed=7)
    simulation.run(MINUTES * 60)
    return simulation


@pytest.mark.parametrize("profile", PROFILES, ids=by_name)
def test_limits_that_nobody_told_are_found_and_used(profile: Profile) -> None:
    simulation = simulated(profile)
    least = 0.9 if profile.window == "sliding" else 0.93  # the first rush leaves a hole that comes round every minute
    assert simulation.used(60, MINUTES * 60) >= least
    assert simulation.throttled(60, MINUTES * 60) <= 0.03
    assert simulation.reached_s(0) <= max(30, 8 * profile.latency_s)
    assert simulation.clients[0].most_throttled < 10


TOLD = [
    profile
    for profile in PROFILES
    if min(profile.rpm, profile.tpm) < math.inf
    and profile.window != "sliding"
    and (profile.charge == "usage" or profile.headers)  # else it counts otherwise than it told
]


@pytest.mark.parametrize("profile", TOLD, ids=by_name)
def test_limits_that_were_told_are_used_and_kept(profile: Profile) -> None:
    simulation = simulated(dataclasses.replace(profile, told=True))
    assert simulation.used(60, MINUTES * 60) >= 0.98
    assert simulation.throttled(60, MINUTES * 60) <= 0.01
    assert simulation.reached_s(0) <= max(5, 2 * profile.latency_s)


@pytest.mark.parametrize("profile", CHANGES, ids=by_name)
def test_limits_that_change_are_found_again(profile: Profile) -> None:
    simulation = simulated(profile)
    assert simulation.reached_s(profile.change_at_s) <= 30
    assert simulation.throttled(60, MINUTES * 60) <= 0.03


@pytest.mark.parametrize("seed", [0, 7, 8])
def test_what_a_lowered_limit_refuses_is_not_taken_for_chance(seed: int) -> None:
    """Below the old limit it looks as if nothing could refuse."""
    halved = Profile("halved", rpm=1200, burst_s=5, change_at_s=75, change=0.5)
    simulation = Simulation(halved, seed=seed)
    simulation.run(400)
    assert simulation.throttled(105, 150) <= 0.03
    assert simulation.throttled(150, 400) <= 0.015
    assert simulation.used(105, 400) >= 0.98


@pytest.mark.parametrize("retry_after", ["seconds", "ms"])
@pytest.mark.parametrize("apart_s", [0.0, 5.0, 60.0])
def test_two_who_share_a_limit_share_it_fairly(apart_s: float, retry_after: str) -> None:
    simulation = Simulation(Profile("shared", rpm=1200, burst_s=5, retry_after=retry_after), seed=3, clients=2)
    simulation.run(600, apart_s)
    both = simulation.used(120, 600)
    assert both >= 0.93
    assert simulation.throttled(120, 600) <= 0.08
    for client in range(2):
        assert simulation.used(120, 600, client) / both >= 0.35


@pytest.mark.parametrize("profile", STRAYS, ids=by_name)
def test_refusals_for_no_reason_of_ours_cost_little_more_than_themselves(profile: Profile) -> None:
    simulation = simulated(profile)
    assert simulation.used(60, MINUTES * 60) >= 0.93
    assert simulation.throttled(60, MINUTES * 60) <= profile.strays + 0.01
