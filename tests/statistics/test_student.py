"""Student's t distribution agrees with scipy's."""

from __future__ import annotations

import pytest
from scipy import stats

from batchmix.statistics.student import t_quantile, t_tail


@pytest.mark.parametrize("df", [1, 1.5, 2, 7.3, 30, 1000, 1e5, 1e8])
@pytest.mark.parametrize("p", [0.025, 0.5, 0.6, 0.9, 0.975, 0.9999, 1 - 1e-8])
def test_quantiles(p: float, df: float) -> None:
    assert t_quantile(p, df) == pytest.approx(stats.t.ppf(p, df), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("t", [0.0, 0.3, 2.0, 40.0])
def test_tails(t: float) -> None:
    assert t_tail(t, 5.5) == pytest.approx(stats.t.sf(t, 5.5), rel=1e-9)
