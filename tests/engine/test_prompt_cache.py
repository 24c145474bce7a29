"""Whole runs against a provider with a prompt cache: what they cost, and what plan and summary say of it."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import pytest

from batchmix.cli.summary import closing_lines
from batchmix.engine.plan import plan_run
from batchmix.engine.prepare import Options
from batchmix.job import read_job
from tests.conftest import Bench

SYSTEM = "words " * 1000
LEAST_READ = 1536 - 128


def billed_usd(bench: Bench) -> float:
    with urllib.request.urlopen(f"{bench.standin.url}/dashboard/billing/usage") as response:
        return float(json.load(response)["total_usage"]) / 100


def summary(bench: Bench) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((bench.out / "summary.json").read_text())
    return found


@pytest.fixture
def long(bench: Bench) -> Bench:
    """Forty rows that begin with the same 1,500 tokens."""
    bench.write(40)
    bench.settings["input"]["prompt"] = SYSTEM + "Say {{ text }}"
    bench.settings["limits"] = {"concurrency": 40}
    bench.settings["prices"] = {"m": {"input": 1.0, "output": 2.0, "cache_read": 0.5}}
    bench.standin.behave("cache=automatic&price=1-2")
    return bench


def test_all_rows_but_the_first_read_the_prompt_from_the_cache(long: Bench) -> None:
    view = long.run()
    cached = [row["cached_tokens"] for row in long.rows()]
    assert cached.count(0) == 1
    assert min(filter(None, cached)) >= LEAST_READ
    totals = summary(long)
    assert totals["cost_usd"] == pytest.approx(billed_usd(long))
    full_usd = (totals["prompt_tokens"] + 2 * totals["completion_tokens"]) / 1e6
    assert totals["cache_saved_usd"] == pytest.approx(full_usd - totals["cost_usd"], rel=0.01)
    (line,) = [line for line in closing_lines(view, long.run_status, 1.0) if line.startswith("  cache")]
    assert line.startswith(f"  cache        {sum(cached):,} tokens read: $0.0")
    assert line.endswith(" saved")


@pytest.mark.usefixtures("all_at_once")
def test_without_waiting_rows_may_pay_in_full(long: Bench) -> None:
    long.settings["cache"] = {"wait_s": 0}
    long.standin.behave("cache=automatic&price=1-2&latency=0.2")
    long.run()
    assert [row["cached_tokens"] for row in long.rows()].count(0) == 40
    assert summary(long)["cache_saved_usd"] is None


def test_a_resume_sends_one_row_first_again(long: Bench) -> None:
    long.run(limit=20)
    assert long.run().totals.ok == 40
    assert [row["cached_tokens"] for row in long.rows()].count(0) == 1
    assert summary(long)["cost_usd"] == pytest.approx(billed_usd(long))


def test_two_models_each_have_a_first_row(long: Bench) -> None:
    del long.settings["model"]
    long.settings["models"] = [{"id": "m"}, {"id": "other"}]
    long.run()
    for model in ("m", "other"):
        assert [row["cached_tokens"] for row in long.rows() if row["model"] == model].count(0) == 1


def test_a_canary_pays_for_the_prompt_once(long: Bench) -> None:
    long.run(canary=10)
    assert long.run().totals.ok == 40
    assert [row["cached_tokens"] for row in long.rows()].count(0) == 1


def test_the_plan_says_what_could_be_read_from_the_cache(long: Bench) -> None:
    long.settings["params"] = {"max_tokens": 50}
    plan = plan_run(read_job(None, long.settings, {}), Options())
    (lane,) = plan.lanes
    assert lane.cached_tokens == pytest.approx(39 * 1510, rel=0.01)
    assert lane.cache_write_tokens == pytest.approx(1510, rel=0.01)
    assert plan.least_usd is not None
    assert plan.most_usd is not None
    saved_usd = lane.cached_tokens * 0.5 / 1e6
    assert plan.least_cached_usd == pytest.approx(plan.least_usd - saved_usd * 0.5)
    assert plan.most_cached_usd == pytest.approx(plan.most_usd - saved_usd * 1.5)
    long.settings["input"]["prompt"] = "Say {{ text }}"
    assert plan_run(read_job(None, long.settings, {}), Options()).least_cached_usd is None
