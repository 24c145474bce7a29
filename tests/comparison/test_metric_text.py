"""Metrics as text: each with its unit, and never `-0.0`."""

from __future__ import annotations

import pytest

from batchmix.comparison.metric_text import LIMITS, interval, metric_value, p_value
from batchmix.job.guards import METRICS
from batchmix.records import Bottleneck


@pytest.mark.parametrize(
    ("metric", "value", "plain", "signed"),
    [
        ("score", 0.75, "0.7500", "+0.7500"),
        ("score", -1e-9, "0.0000", "0.0000"),
        ("answered", 0.995, "99.5 %", "+99.5 points"),
        ("refused", -0.0123, "-1.2 %", "-1.2 points"),
        ("cost_usd", 0.000_0179, "$0.0179", "+$0.0179"),
        ("cost_usd", -2.0, "-$2,000.0000", "-$2,000.0000"),
        ("latency_s", 0.0821, "0.082 s", "+0.082 s"),
        ("response_chars", 1234.56, "1,234.6", "+1,234.6"),
    ],
)
def test_a_value_has_its_unit_and_a_difference_its_sign(metric: str, value: float, plain: str, signed: str) -> None:
    assert metric_value(metric, value) == plain
    assert metric_value(metric, value, signed=True) == signed


def test_an_interval_names_its_unit_once() -> None:
    assert interval("latency_s", -0.01, 0.02) == "-0.010 to +0.020 s"
    assert interval("answered", -0.01, 0.0) == "-1.0 to 0.0 points"
    assert interval("score", None, None) == ""


def test_p_values_are_rounded() -> None:
    assert [p_value(p) for p in (1.0, 0.52, 0.0123, 0.0004, 4.6e-23)] == ["1.00", "0.52", "0.012", "0.0004", "<0.0001"]


def test_each_metric_and_each_limit_has_a_label() -> None:
    for metric in METRICS:
        assert metric_value(metric, 1.0)
    assert set(Bottleneck) == LIMITS.keys()
