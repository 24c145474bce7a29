"""The cost and the rows shown by the bar, during a run and at its end, match the summary."""

from __future__ import annotations

import json
from typing import Any

import pytest

from batchmix.engine.run_status import LaneStatus
from batchmix.errors import ProviderStopped
from tests.conftest import Bench
from tests.odd_provider import Provider
from tests.wire import GOOD, error, reply

USAGE = {
    "prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110, "prompt_tokens_details": {"cached_tokens": 60},
}  # fmt: skip


@pytest.fixture
def before(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """The cost that the bar showed just before it received the summary's."""
    shown: list[float | None] = []
    settle = LaneStatus.settle

    def noting(lane: LaneStatus, *args: Any, **more: Any) -> None:
        shown.append(lane.cost_usd)
        settle(lane, *args, **more)

    monkeypatch.setattr(LaneStatus, "settle", noting)
    return shown


def test_the_cost_includes_cache_prices_and_earlier_parts_and_journals(
    bench: Bench, provider: Provider, before: list[float | None]
) -> None:
    """25 rows in shards of 10: the run stops in the middle of the second shard and is resumed."""
    bench.settings["prices"] = {"m": {"input": 1.0, "output": 2.0, "cache_read": 0.1}}
    bench.settings["limits"] = {"concurrency": 1}
    good, gone = reply(200, {**GOOD, "usage": USAGE}), reply(401, error("no such key"))
    provider.answer = lambda row, attempt, nth: gone if row >= 15 else good
    bench.write(25, text="row {}")
    with pytest.raises(ProviderStopped):
        bench.run()
    first = bench.run_status.cost_usd
    provider.answer = lambda row, attempt, nth: good
    bench.run()
    each = (40 * 1.0 + 60 * 0.1 + 10 * 2.0) / 1e6
    summary = json.loads((bench.out / "summary.json").read_text())
    assert before == [pytest.approx(15 * each), pytest.approx(25 * each)]
    assert (first, bench.run_status.cost_usd) == (pytest.approx(15 * each), pytest.approx(summary["cost_usd"]))
    assert (bench.run_status.ok, bench.run_status.finished, bench.run_status.results) == (25, 25, 25)


def test_the_rows_of_each_model_match_the_summary_even_for_a_stopped_model(bench: Bench, provider: Provider) -> None:
    del bench.settings["model"]
    bench.settings["models"] = [{"id": "good"}, {"id": "bad"}]
    bench.write(12, text="row {}")
    provider.answer = lambda row, attempt, nth: reply(200, GOOD)
    bench.run(models=("good",))
    assert [(lane.ok, lane.finished, lane.idle) for lane in bench.run_status.lanes] == [
        (12, 12, None),
        (0, 0, "not asked"),
    ]
    provider.answer = lambda row, attempt, nth: reply(404, error("The model `bad` does not exist", "model_not_found"))
    with pytest.raises(ProviderStopped):
        bench.run()
    summary = json.loads((bench.out / "summary.json").read_text())
    good, bad = bench.run_status.lanes
    assert (good.ok, bad.failed, bad.idle) == (12, summary["failed"], "stopped")
    assert bench.run_status.finished == summary["ok"] + summary["failed"]
