"""Failures without a reason slow a lane down only if many requests fail while others are answered."""

from __future__ import annotations

from batchmix.pacing.overload import Overload


def after(*series: tuple[int, int]) -> bool:
    """Return whether there is an overload after series of failures, each with the answers that came before it."""
    overload, answers = Overload(), 0
    for before, failures in series:
        answers += before
        for _ in range(failures):
            overload.failed(answers)
    return overload.is_on


def test_floods_of_failures_between_answers_are_an_overload() -> None:
    assert after((0, 100), (2, 60), (2, 1))
    assert not after((0, 100), (2, 1))


def test_an_outage_is_none_however_long_and_neither_are_a_few_failures() -> None:
    assert not after((0, 1000))
    assert not after((500, 1000), (500, 1))
    assert not after(*[(9, 1)] * 100)


def test_an_overload_ends_once_failures_are_rare() -> None:
    flood = ((0, 100), (2, 60), (2, 1))
    assert after(*flood, *[(10, 1)] * 100)
    assert not after(*flood, *[(100, 1)] * 20)
