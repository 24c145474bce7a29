"""A plan counts the open requests and bounds their cost, for each model; it sends nothing."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from batchmix.engine.plan import Plan, plan_run
from batchmix.engine.run import Options
from batchmix.errors import JobError
from batchmix.job import read_job
from tests.calling import batchmix
from tests.conftest import Bench


def planned(bench: Bench) -> Plan:
    return plan_run(read_job(None, bench.settings, {}), Options())


@pytest.fixture
def two(bench: Bench) -> Bench:
    bench.write(40)
    del bench.settings["model"]
    bench.settings["params"] = {"max_tokens": 50}
    bench.settings["models"] = [
        {"id": "m", "prices": {"input": 1.0, "output": 10.0}, "limits": {"requests_per_minute": 60}},
        {"id": "n", "prices": {"input": 2.0, "output": 20.0}, "limits": {"requests_per_minute": 10}},
    ]
    return bench


def test_the_cost_of_a_run_lies_within_the_bounds_of_its_plan(two: Bench) -> None:
    found = planned(two)
    assert two.standin.request_count() == 0
    assert found.max_tokens == 2 * 40 * 50
    two.settings["models"][0]["limits"] = two.settings["models"][1]["limits"] = {"concurrency": 8}
    view = two.run()
    assert found.least_usd is not None
    assert found.most_usd is not None
    assert found.least_usd < (view.totals.cost_usd or 0) < found.most_usd
    for lane in found.lanes:
        assert (lane.least_usd or 0) < view.totals.costs[lane.model].usd < (lane.most_usd or 0)


def test_the_least_time_of_a_plan_is_that_of_its_slowest_lane(two: Bench) -> None:
    found = planned(two)
    assert [lane.least_s for lane in found.lanes] == [40, 240]
    assert found.least_s == 240


def test_finished_rows_are_left_out_of_the_cost(two: Bench) -> None:
    del two.settings["models"][0]["limits"], two.settings["models"][1]["limits"]
    before = planned(two)
    two.run(limit=20)
    found = planned(two)
    assert (found.done, found.requests) == (40, 40)
    assert (found.most_usd or 0) == pytest.approx((before.most_usd or 0) / 2, rel=0.1)


def test_without_max_tokens_a_plan_has_no_highest_cost(two: Bench) -> None:
    del two.settings["params"]
    found = planned(two)
    assert (found.max_tokens, found.most_usd) == (None, None)
    assert found.least_usd is not None


def test_the_cost_without_a_price_is_unknown_and_not_zero(two: Bench) -> None:
    del two.settings["models"][1]["prices"]
    found = planned(two)
    assert (found.least_usd, found.most_usd) == (None, None)
    assert found.lanes[0].most_usd is not None


def test_a_plan_refuses_what_a_run_would_refuse(two: Bench) -> None:
    del two.settings["models"][1]["prices"]
    two.settings["budget"] = {"max_usd": 1.0}
    with pytest.raises(JobError, match="no price is known for n"):
        planned(two)


def test_the_cost_is_shown(bench: Bench) -> None:
    bench.write(3)
    call = ["plan", str(bench.source), "--model", "m", "--prompt", "Say {{ text }}", "--base-url", bench.standin.url,
            "--set", "provider.api_key_env=", "--set", "prices.m={input = 1000, output = 1000}"]  # fmt: skip
    assert "cost         $" in batchmix(*call, "--set", "params.max_tokens=10").stdout
    assert "and more: the requests set no max_tokens" in batchmix(*call).stdout
    assert "no price is known for m" in batchmix(*call[:-2]).stdout


def test_a_plan_warns_when_few_requests_are_different(bench: Bench) -> None:
    """The plan and the canary count them; samples do not count as repetitions."""
    bench.write(40, text="the same")
    call = ["plan", str(bench.source), "--model", "m", "--prompt", "Say {{ text }}", "--base-url", bench.standin.url,
            "--set", "provider.api_key_env=", "--set", "samples=2", "--out", str(bench.root / "other")]  # fmt: skip
    done = batchmix(*call)
    assert "to send      80, 1 of them different" in done.stdout
    assert "only 1 of 40 requests is different" in done.stderr
    assert "different    1 request over all rows" in batchmix(*call, "--canary", "4").stdout
    bench.write(40)
    found = planned(bench)
    assert (found.different, found.duplicates_warning) == (40, "")


def test_arrow_allocates_from_the_system_and_does_not_import_pandas(bench: Bench) -> None:
    """Otherwise memory would grow with the input, and an installed pandas would take half a second to import."""
    bench.write(2)
    (bench.root / "pandas.py").write_text("raise SystemExit('pandas was imported')")
    code = (
        "import sys; import pyarrow; from batchmix.engine.run import Options; from batchmix.engine.plan import plan_run;"
        "from batchmix.formats.pyarrow_setup import claim_process; claim_process();"  # as the command line does
        "from batchmix.job import read_job; plan_run(read_job(None, eval(sys.argv[1]), {}), Options());"
        "pyarrow.array([1, 2]); print(pyarrow.default_memory_pool().backend_name)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, repr(bench.settings)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(bench.root)},
    )
    assert done.stdout.split() == ["system"]
