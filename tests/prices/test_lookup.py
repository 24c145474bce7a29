"""Prices come from the job, the run, the catalogue or the package, in that order, and stay the same in a run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from batchmix.engine import reader
from batchmix.errors import JobError
from batchmix.job import Price, read_job
from batchmix.prices.cost import cost_usd
from batchmix.prices.genai_prices import listed_price
from batchmix.prices.lookup import PriceLookup
from batchmix.records import Usage
from tests.conftest import Bench
from tests.gateway import ADDRESS, Gateway, model


@pytest.fixture
def gateway(gateway: Gateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Gateway:
    """The gateway's own address leads to a server on this machine."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("http_proxy", gateway.url)
    return gateway


@pytest.fixture
def paid(bench: Bench, gateway: Gateway) -> Bench:
    bench.settings["provider"] = {"base_url": ADDRESS, "api_key_env": ""}
    bench.settings["model"] = "gpt-4o-mini"
    bench.write(3)
    return bench


def price_of(settings: dict[str, Any]) -> dict[str, Price]:
    job = read_job(None, {"input": {"path": "x.jsonl"}, **settings}, {})
    return PriceLookup(job).settled(job.models)


def test_the_catalogues_prices_fill_the_cost(paid: Bench) -> None:
    view = paid.run()
    each = (1000 * 0.15 + 100 * 0.6) / 1e6
    assert [row["cost_usd"] for row in paid.rows()] == [pytest.approx(each)] * 3
    assert view.summary()["costs"] == {
        "gpt-4o-mini": {"cost_usd": pytest.approx(3 * each), "billed_retries_usd": 0.0, "maybe_billed_usd": 0.0}
    }  # fmt: skip


def test_the_model_that_was_billed_decides_and_the_bodys_name_does_not(paid: Bench, gateway: Gateway) -> None:
    paid.settings["prices"] = {"some-name-that-changes": {"input": 1000, "output": 1000}}
    gateway.billed = "gpt-4o"
    paid.run()
    assert paid.rows()[0]["cost_usd"] == pytest.approx((1000 * 2.5 + 100 * 10) / 1e6)


def test_a_billed_model_without_a_price_costs_as_much_as_the_requested_one(paid: Bench, gateway: Gateway) -> None:
    gateway.billed = "unheard-of"
    paid.run()
    assert paid.rows()[0]["cost_usd"] == pytest.approx((1000 * 0.15 + 100 * 0.6) / 1e6)


def test_a_resume_and_status_use_the_prices_of_the_first_start(paid: Bench, gateway: Gateway) -> None:
    first = paid.run()
    gateway.offer(model("gpt-4o-mini", pricing={"input": 99, "output": 99}))
    gateway.etag = '"two"'
    fetches = len(gateway.gets)
    paid.write(3, first=3)
    again = paid.run()
    assert len(gateway.gets) == fetches
    assert again.totals.cost_usd == pytest.approx(2 * (first.totals.cost_usd or 0))
    assert reader.look(paid.out).summary() == again.summary()
    assert json.loads((paid.out / "run.json").read_text())["prices"]["gpt-4o-mini"]["input"] == 0.15


def test_a_mistyped_model_is_refused_before_anything_is_sent(paid: Bench, gateway: Gateway) -> None:
    paid.settings["model"] = "gpt-40-mini"
    with pytest.raises(JobError, match=r"did you mean gpt-4o-mini"):
        paid.run()
    assert not gateway.posts
    assert not paid.out.exists()


def test_a_rehearsal_has_a_catalogue_of_its_configured_models(bench: Bench) -> None:
    url = "rehearsal:?models=gpt-4o-mini,old&price=1-2&price[gpt-4o-mini]=3-4&404_retired[old]=1&successor=gpt-4o-mini"
    bench.settings |= {"provider": {"base_url": url}, "model": "gpt-4o-mini"}
    bench.write(3)
    bench.run()
    row = bench.rows()[0]
    assert row["cost_usd"] == pytest.approx((row["prompt_tokens"] * 3 + row["completion_tokens"] * 4) / 1e6)
    for model_id, message in {"gpt4o-mini": "did you mean gpt-4o-mini?", "old": "its successor is gpt-4o-mini"}.items():
        bench.settings |= {"model": model_id, "output": {"path": str(bench.root / model_id)}}
        with pytest.raises(JobError, match=re.escape(message)):
            bench.run()
        assert not (bench.root / model_id).exists()


def test_a_rehearsal_that_has_any_model_refuses_none(bench: Bench) -> None:
    bench.settings |= {"provider": {"base_url": "rehearsal:?price[m]=3-4"}, "models": [{"id": "m"}, {"id": "other"}]}
    del bench.settings["model"]
    bench.write(3)
    bench.run()
    assert {row["model"]: row["cost_usd"] is not None for row in bench.rows()} == {"m": True, "other": False}


def test_a_job_with_prices_requests_no_catalogue(paid: Bench, gateway: Gateway) -> None:
    paid.settings["prices"] = {"gpt-4o-mini": {"input": 1, "output": 2}}
    paid.run()
    assert not gateway.gets
    assert paid.rows()[0]["cost_usd"] == pytest.approx((1000 + 200) / 1e6)


def test_an_unreachable_catalogue_stops_no_run(paid: Bench, gateway: Gateway) -> None:
    gateway.status = 503
    paid.settings["model"] = "known-to-nobody"
    assert paid.run().totals.ok == 3
    assert [row["cost_usd"] for row in paid.rows()] == [None] * 3


def test_the_package_has_prices_when_the_catalogue_is_unavailable(gateway: Gateway) -> None:
    gateway.status = 503
    settings = {"model": "gpt-4o-mini", "provider": {"base_url": ADDRESS}}
    assert price_of(settings) == {"gpt-4o-mini": Price(0.15, 0.6, 0.075)}


def test_a_prompt_beyond_the_first_price_tier_has_no_price() -> None:
    """If the package has tiers, its price is that of the first; beyond it the cost is unknown."""
    price = listed_price("gemini-2.5-pro", ADDRESS)
    assert price is not None
    assert price.up_to is not None
    assert cost_usd(price, Usage(price.up_to, 10)) == pytest.approx(
        (price.up_to * price.input + 10 * price.output) / 1e6
    )
    assert cost_usd(price, Usage(price.up_to + 1, 10)) is None


def test_a_local_server_is_not_priced_by_a_well_known_model_name() -> None:
    settings = {"model": "gpt-4o-mini", "provider": {"base_url": "http://127.0.0.1:8000/v1"}}
    assert price_of(settings) == {}
    assert price_of({"model": "gpt-4o-mini", "provider": {"base_url": "rehearsal:"}}) == {}


def test_the_start_against_a_local_server_imports_no_price_package(bench: Bench) -> None:
    bench.write(2)
    code = (
        "import sys; from pathlib import Path; from batchmix.engine.run import Options; from batchmix.job import read_job;"
        "from batchmix.engine.plan import plan_run; plan_run(read_job(None, eval(sys.argv[1]), {}), Options());"
        "print('genai_prices' in sys.modules, 'httpx' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, repr(bench.settings)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "False"]


def test_entries_of_one_model_may_have_prices_of_their_own(bench: Bench) -> None:
    bench.write(2)
    del bench.settings["model"]
    bench.settings["models"] = [
        {"id": "m", "name": "day", "prices": {"input": 1e6, "output": 0}},
        {"id": "m", "name": "night", "prices": {"input": 1e3, "output": 0}},
    ]
    view = bench.run()
    costs = {name: cost.usd for name, cost in view.totals.costs.items()}
    assert costs["day"] == pytest.approx(1000 * costs["night"])
    assert view.totals.cost_usd == pytest.approx(sum(costs.values()))


def test_a_budget_in_usd_needs_prices(bench: Bench) -> None:
    bench.write(3)
    bench.settings["budget"] = {"max_usd": 1.0}
    with pytest.raises(JobError, match=r"no price is known for m"):
        bench.run()
    assert not bench.out.exists()
    bench.settings["prices"] = {"m": {"input": 1, "output": 1}}
    assert bench.run().totals.ok == 3
