"""Which throttles are explained by chance."""

from __future__ import annotations

import random

import pytest

from batchmix.pacing.strays import Strays


def explained(strays: Strays, share: float, count: int, *, limited: bool, far: bool) -> float:
    """Send so many requests, of which a share is throttled; return the share of the throttles that are strays."""
    rng, throttled, found = random.Random(1), 0, 0
    for _ in range(count):
        strays.sent += 1
        strays.sent_far += far
        if rng.random() < share:
            throttled += 1
            found += strays.explain(limited=limited, far=far)
    return found / throttled


def test_before_a_limit_is_known_few_throttles_are_strays() -> None:
    assert explained(Strays(), 0.05, 2000, limited=False, far=True) == 1


def test_before_a_limit_is_known_many_throttles_show_one() -> None:
    assert explained(Strays(), 0.9, 100, limited=False, far=True) < 0.9


def test_near_a_limit_every_throttle_is_a_hit_until_strays_are_proven() -> None:
    strays = Strays()
    assert explained(strays, 0.05, 1000, limited=True, far=False) == 0
    strays.learn(190, 10)
    assert strays.share == pytest.approx(0.05, rel=0.2)
    assert explained(strays, 0.05, 1000, limited=True, far=False) > 0.9


def test_near_a_limit_more_throttles_than_strays_explain_are_hits() -> None:
    strays = Strays()
    strays.learn(190, 10)
    assert explained(strays, 0.5, 1000, limited=True, far=False) < 0.9


def test_a_few_throttles_prove_no_strays() -> None:
    strays = Strays()
    strays.learn(20, 3)
    assert strays.share == 0
    strays.learn(1000, 0)
    assert strays.share == 0
