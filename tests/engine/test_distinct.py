"""Distinct requests are counted in bounded memory: exactly up to a few thousand, then approximately."""

from __future__ import annotations

import hashlib

from batchmix.engine.distinct import _KEPT, DistinctCounter


def _hashes(count: int) -> list[str]:
    return [hashlib.sha256(str(number).encode()).hexdigest()[:32] for number in range(count)]


def test_a_few_thousand_requests_are_counted_exactly_however_often_each_occurs() -> None:
    counted = DistinctCounter()
    for hash_ in _hashes(5000) * 2:
        counted.add(hash_)
    assert len(counted) == 5000


def test_more_requests_are_counted_within_two_percent_in_bounded_memory() -> None:
    counted = DistinctCounter()
    for hash_ in _hashes(5 * _KEPT):
        counted.add(hash_)
    assert abs(len(counted) / (5 * _KEPT) - 1) < 0.02
    assert len(counted._kept) <= _KEPT
