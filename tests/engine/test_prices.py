"""Prices come from the job, the run, the catalogue or the package, in that order, and stay what they were."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from batchmix.engine import reader
from batchmix.engine.prices import PriceLookup, spent
from batchmix.errors import BudgetSpent, JobError
from batchmix.job import Price, read_job
from batchmix.prices.cost import cost_usd
from batchmix.prices.genai_prices import listed_price
from batchmix.records import Usage
from batchmix.store.shard import Shard
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
    return PriceLookup(job, None).settled(job.models)


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


def test_a_billed_model_without_a_price_costs_what_was_asked(paid: Bench, gateway: Gateway) -> None:
    gateway.billed = "unheard-of"
    paid.run()
    assert paid.rows()[0]["cost_usd"] == pytest.approx((1000 * 0.15 + 100 * 0.6) / 1e6)


def test_a_resume_and_status_count_as_the_start_did(paid: Bench, gateway: Gateway) -> None:
    first = paid.run()
    gateway.offer(model("gpt-4o-mini", pricing={"input": 99, "output": 99}))
    gateway.etag = '"two"'
    asked = len(gateway.asked)
    paid.write(3, first=3)
    again = paid.run()
    assert len(gateway.asked) == asked
    assert again.totals.cost_usd == pytest.approx(2 * (first.totals.cost_usd or 0))
    assert reader.look(paid.out).summary() == again.summary()
    assert json.loads((paid.out / "run.json").read_text())["prices"]["gpt-4o-mini"]["input"] == 0.15


def test_a_mistyped_model_is_refused_before_anything_is_sent(paid: Bench, gateway: Gateway) -> None:
    paid.settings["model"] = "gpt-40-mini"
    with pytest.raises(JobError, match=r"did you mean gpt-4o-mini"):
        paid.run()
    assert not gateway.posts
    assert not paid.out.exists()


def test_a_rehearsal_has_the_catalogue_of_the_models_that_it_was_told_to_have(bench: Bench) -> None:
    url = "rehearsal:?models=gpt-4o-mini,old&price=1-2&price[gpt-4o-mini]=3-4&404_retired[old]=1&successor=gpt-4o-mini"
    bench.settings |= {"provider": {"base_url": url}, "model": "gpt-4o-mini"}
    bench.write(3)
    bench.run()
    row = bench.rows()[0]
    assert row["cost_usd"] == pytest.approx((row["prompt_tokens"] * 3 + row["completion_tokens"] * 4) / 1e6)
    for model_id, said in {"gpt4o-mini": "did you mean gpt-4o-mini?", "old": "its successor is gpt-4o-mini"}.items():
        bench.settings |= {"model": model_id, "output": {"path": str(bench.root / model_id)}}
        with pytest.raises(JobError, match=re.escape(said)):
            bench.run()
        assert not (bench.root / model_id).exists()


def test_a_rehearsal_that_has_any_model_refuses_none(bench: Bench) -> None:
    bench.settings |= {"provider": {"base_url": "rehearsal:?price[m]=3-4"}, "models": [{"id": "m"}, {"id": "other"}]}
    del bench.settings["model"]
    bench.write(3)
    bench.run()
    assert {row["model"]: row["cost_usd"] is not None for row in bench.rows()} == {"m": True, "other": False}


def test_prices_in_the_job_ask_for_no_catalogue(paid: Bench, gateway: Gateway) -> None:
    paid.settings["prices"] = {"gpt-4o-mini": {"input": 1, "output": 2}}
    paid.run()
    assert not gateway.asked
    assert paid.rows()[0]["cost_usd"] == pytest.approx((1000 + 200) / 1e6)


def test_a_catalogue_that_is_out_of_reach_stops_nobody(paid: Bench, gateway: Gateway) -> None:
    gateway.status = 503
    paid.settings["model"] = "known-to-nobody"
    assert paid.run().totals.ok == 3
    assert [row["cost_usd"] for row in paid.rows()] == [None] * 3


def test_the_package_knows_what_the_catalogue_does_not_tell(gateway: Gateway) -> None:
    gateway.status = 503
    settings = {"model": "gpt-4o-mini", "provider": {"base_url": ADDRESS}}
    assert price_of(settings) == {"gpt-4o-mini": Price(0.15, 0.6, 0.075)}


def test_a_prompt_too_long_for_a_price_has_none() -> None:
    """Where the package knows tiers, its price is that of the first; beyond it the cost is not known."""
    price = listed_price("gemini-2.5-pro", ADDRESS)
    assert price is not None
    assert price.up_to is not None
    assert cost_usd(price, Usage(price.up_to, 10)) == pytest.approx(
        (price.up_to * price.input + 10 * price.output) / 1e6
    )
    assert cost_usd(price, Usage(price.up_to + 1, 10)) is None


def test_a_local_server_is_not_priced_by_a_famous_name() -> None:
    settings = {"model": "gpt-4o-mini", "provider": {"base_url": "http://127.0.0.1:8000/v1"}}
    assert price_of(settings) == {}
    assert price_of({"model": "gpt-4o-mini", "provider": {"base_url": "rehearsal:"}}) == {}


def test_a_local_servers_start_waits_for_no_package(bench: Bench) -> None:
    bench.write(2)
    code = (
        "import sys; from pathlib import Path; from batchmix.engine.run import Options; from batchmix.job import read_job;"
        "from batchmix.engine.plan import plan; plan(read_job(None, eval(sys.argv[1]), {}), Options());"
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


def test_attempts_that_may_have_been_billed_are_in_the_account(bench: Bench) -> None:
    bench.source.write_text('{"text": "[[rehearsal:cutx2]]"}\n{"text": "plain"}\n')
    bench.settings["prices"] = {"m": {"input": 1, "output": 1}}
    view = bench.run()
    lost = {row["maybe_billed"]: row["cost_usd"] for row in bench.rows()}
    assert set(lost) == {0, 2}
    assert view.totals.maybe_billed_usd == pytest.approx(2 * lost[2])


def test_an_answer_with_nothing_in_it_may_have_been_billed(bench: Bench) -> None:
    bench.source.write_text('{"text": "[[rehearsal:halfx2]]"}\n{"text": "[[rehearsal:500x2]]"}\n')
    bench.settings["prices"] = {"m": {"input": 1, "output": 1}}
    view = bench.run()
    rows = bench.rows()
    assert [row["maybe_billed"] for row in rows] == [2, 0]
    assert view.totals.maybe_billed_usd == pytest.approx(2 * rows[0]["cost_usd"])
    assert view.totals.billed_retries_usd == 0
    assert json.loads((bench.out / "summary.json").read_text())["maybe_billed_usd"] == view.totals.maybe_billed_usd


@pytest.mark.parametrize("kind", ["no_choices", "empty_choices"])
def test_a_retry_that_came_with_its_usage_is_billed_and_stands_apart(bench: Bench, kind: str) -> None:
    bench.source.write_text(f'{{"text": "[[rehearsal:{kind}x2]]"}}\n{{"text": "[[rehearsal:cutx2]]"}}\n')
    bench.settings["prices"] = {"m": {"input": 1, "output": 2}}
    view = bench.run()
    first, second = bench.rows()
    assert [(row["attempts"], row["maybe_billed"]) for row in (first, second)] == [(3, 0), (3, 2)]
    found = json.loads((bench.out / "summary.json").read_text())
    assert (found["billed_retries"], found["maybe_billed"]) == (2, 2)
    assert found["billed_retries_usd"] == pytest.approx(2 * first["cost_usd"])
    assert found["maybe_billed_usd"] == pytest.approx(2 * second["cost_usd"])
    assert found["costs"]["m"]["billed_retries_usd"] == found["billed_retries_usd"]
    each = first["total_tokens"] + second["total_tokens"]
    account = spent(view, reader.prices_of(view.run))
    assert account[1] == pytest.approx(each + 2 * first["total_tokens"] + 2 * each / 2)
    assert account[0] == pytest.approx(sum(found[f"{name}_usd"] for name in ("cost", "billed_retries", "maybe_billed")))


@pytest.mark.parametrize("killed", [False, True], ids=["", "killed before its journals were taken away"])
def test_billed_retries_stay_in_the_account_whatever_becomes_of_their_rows(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    """They stand in no row: a part that is opened again hands them on, once."""
    journals: dict[Path, bytes] = {}
    remove = Shard.remove_journals

    def removing(shard: Shard) -> None:
        journals.update({path: path.read_bytes() for path in (bench.out / "journal").glob("*.jsonl")})
        remove(shard)

    monkeypatch.setattr(Shard, "remove_journals", removing)
    bench.settings |= {"prices": {"m": {"input": 1, "output": 2}}, "retry": {"attempts": 2}}
    bench.source.write_text('{"text": "[[rehearsal:no_choicesx3]]"}\n{"text": "plain"}\n')
    first = bench.run()
    assert (first.totals.failed, first.totals.billed_retries) == (1, 2)
    assert not list((bench.out / "journal").iterdir())
    assert journals
    for path, text in journals.items() if killed else ():
        path.write_bytes(text)
    assert reader.look(bench.out).summary() == first.summary()
    again = bench.run()
    assert (again.totals.ok, again.totals.billed_retries, again.totals.maybe_billed) == (2, 3, 0)
    assert again.totals.billed_retries_usd == pytest.approx(1.5 * (first.totals.billed_retries_usd or 0))
    assert reader.look(bench.out).summary() == again.summary()


def test_what_was_reused_makes_no_cost_known(bench: Bench) -> None:
    """Where nothing that was paid has a price, the cost is not known, and is not that of the reused answers."""
    bench.settings["reuse"] = {"dedupe": True}
    bench.write(5, text="same")
    view = bench.run()
    assert (view.totals.reused, view.totals.unpriced) == (4, 1)
    assert view.summary()["cost_usd"] is None


def test_lost_attempts_of_rows_without_an_answer_count_as_average_answers(bench: Bench) -> None:
    bench.settings["retry"] = {"attempts": 1}
    bench.source.write_text('{"text": "[[rehearsal:cut]]"}\n{"text": "plain"}\n')
    bench.settings["prices"] = {"m": {"input": 1, "output": 1}}
    view = bench.run()
    assert view.totals.maybe_billed_usd == pytest.approx(view.totals.cost_usd)


def test_a_run_stops_at_its_cap_and_goes_on_with_a_higher_one(bench: Bench) -> None:
    bench.write(60)
    bench.standin.behave("latency=0.001")
    bench.settings["params"] = {"max_tokens": 40}
    bench.settings["budget"] = {"max_tokens": 600}
    with pytest.raises(BudgetSpent, match=r"budget\.max_tokens"):
        bench.run()
    view = reader.look(bench.out)
    assert 0 < view.totals.ok < 60
    assert 0.8 * 600 < view.totals.total_tokens <= 600 + 8 * 40
    assert bench.start()["exit_code"] == 3
    with pytest.raises(BudgetSpent):
        bench.run()
    assert bench.standin.asked() == view.totals.ok
    bench.settings["budget"] = {"max_tokens": 100_000}
    assert bench.run().totals.ok == 60
    assert bench.standin.asked() == 60


def test_a_cap_in_usd_needs_prices(bench: Bench) -> None:
    bench.write(3)
    bench.settings["budget"] = {"max_usd": 1.0}
    with pytest.raises(JobError, match=r"no price is known for m"):
        bench.run()
    assert not bench.out.exists()
    bench.settings["prices"] = {"m": {"input": 1, "output": 1}}
    assert bench.run().totals.ok == 3
