"""A canary is a part of its run: its answers stay, nothing is sent twice, and its forecast of the rest holds."""

from __future__ import annotations

import json

import pytest

from batchmix.cli.forecast import forecast_lines
from batchmix.engine.canary import forecast
from batchmix.errors import ProviderStopped
from batchmix.job import read_job
from tests.calling import batchmix
from tests.conftest import Bench


@pytest.fixture
def priced(bench: Bench) -> Bench:
    bench.settings["prices"] = {"m": {"input": 1.0, "output": 5.0}}
    bench.source.write_text("".join(json.dumps({"text": f"row {n} " + "more " * (n % 37)}) + "\n" for n in range(300)))
    return bench


def test_a_canary_is_spread_over_the_input_and_the_run_resumes_from_it(priced: Bench) -> None:
    view = priced.run(canary=30)
    assert view.totals.ok == 30 == priced.standin.request_count()
    rows = [row for row, _ in view.run.canary["m"].rows]
    sizes = [size for _, size in view.run.canary["m"].rows]
    assert sizes == sorted(sizes)
    assert max(sizes) > 2 * min(sizes)
    assert max(rows) - min(rows) > 200
    assert not list((priced.out / "data").iterdir())
    assert (priced.start()["exit_code"], priced.start()["reason"]) == (0, "only the canary was sent")
    assert priced.run().totals.ok == 300
    assert priced.standin.request_count() == 300
    assert [row["row"] for row in priced.rows()] == list(range(300))


def test_repeating_a_canary_sends_nothing(priced: Bench) -> None:
    priced.run(canary=30)
    priced.run(canary=30)
    assert priced.standin.request_count() == 30


def test_the_forecast_contains_the_cost_of_the_remaining_rows(priced: Bench) -> None:
    view = priced.run(canary=50)
    found = forecast(view, read_job(None, priced.settings, {}))
    assert (found.rows, found.answered, found.requests) == (50, 50, 250)
    whole = priced.run()
    assert found.cost_usd is not None
    assert found.completion_tokens is not None
    rest_usd = (whole.totals.cost_usd or 0) - (found.spent_usd or 0)
    rest_tokens = whole.totals.completion_tokens - view.totals.completion_tokens
    assert found.cost_usd.low <= rest_usd <= found.cost_usd.high
    assert found.cost_usd.estimate == pytest.approx(rest_usd, rel=0.2)
    assert found.completion_tokens.low <= rest_tokens <= found.completion_tokens.high


def test_a_canary_of_finished_rows_keeps_its_forecast(priced: Bench) -> None:
    before = forecast(priced.run(canary=50), read_job(None, priced.settings, {}))
    after = forecast(priced.run(), read_job(None, priced.settings, {}))
    assert after.cost_usd == before.cost_usd
    assert after.requests == 0


def test_each_model_has_its_own_canary(priced: Bench) -> None:
    del priced.settings["model"]
    priced.settings["models"] = [{"id": "m"}, {"id": "n", "prices": {"input": 2, "output": 2}}]
    priced.settings["samples"] = 2
    view = priced.run(canary=12)
    assert view.totals.ok == 48
    found = forecast(view, read_job(None, priced.settings, {}))
    assert (found.rows, found.answered, found.requests) == (24, 24, 1200 - 48)
    whole = priced.run()
    assert found.cost_usd is not None
    assert found.cost_usd.low <= (whole.totals.cost_usd or 0) - (found.spent_usd or 0) <= found.cost_usd.high
    assert priced.standin.request_count() == 1200


def test_too_few_answers_give_no_forecast(priced: Bench) -> None:
    found = forecast(priced.run(canary=5), read_job(None, priced.settings, {}))
    assert found.completion_tokens is None
    assert found.cost_usd is None


def test_a_canary_with_a_wrong_key_stops_and_can_be_repeated(priced: Bench) -> None:
    priced.standin.behave("key=sk-the-right-one")
    with pytest.raises(ProviderStopped):
        priced.run(canary=30, key="sk-the-wrong-one")
    assert priced.run(canary=30, key="sk-the-right-one").totals.ok == 30


def test_a_canary_of_more_rows_than_exist_sends_all(priced: Bench) -> None:
    assert priced.run(canary=1000).totals.ok == 300
    assert priced.run().totals.ok == 300
    assert priced.standin.request_count() == 300
    assert len(priced.rows()) == 300


def test_a_script_stops_after_the_canary_and_continues_with_yes(priced: Bench) -> None:
    call = ["run", str(priced.source), "--model", "m", "--prompt", "Say {{ text }}", "--base-url", priced.standin.url,
            "--out", str(priced.out), "--progress", "none", "--set", "provider.api_key_env=",
            "--set", "prices.m={input = 1, output = 5}", "--canary", "30"]  # fmt: skip
    stopped = batchmix(*call)
    assert stopped.returncode == 3, stopped.stderr
    assert "30 of 30 rows answered" in stopped.stdout
    assert "270 requests" in stopped.stdout
    assert "--yes" in stopped.stderr
    done = batchmix(*call, "--yes")
    assert done.returncode == 0, done.stderr
    assert priced.standin.request_count() == 300


def test_a_plan_with_a_canary_sends_only_the_canary(priced: Bench) -> None:
    call = ["plan", str(priced.source), "--model", "m", "--prompt", "Say {{ text }}", "--base-url", priced.standin.url,
            "--out", str(priced.out), "--set", "provider.api_key_env=", "--canary", "20"]  # fmt: skip
    done = batchmix(*call, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["requests"], found["done"], found["canary"]["answered"]) == (280, 20, 20)
    assert found["canary"]["cost_usd"] is None
    assert found["canary"]["sameness"] == ""
    assert "cost         unknown" in batchmix(*call).stdout
    assert priced.standin.request_count() == 20


SCHEMA = {"type": "object", "properties": {"mood": {"enum": ["good", "bad"]}}, "required": ["mood"]}


@pytest.mark.parametrize("on_invalid", ["keep", "fail"])
def test_the_forecast_includes_invalid_answers_and_their_repairs(priced: Bench, on_invalid: str) -> None:
    priced.standin.behave("wrong_enum=0.4&missing_key=0.1&max_faults=100")
    priced.settings["answer"] = {"schema": SCHEMA, "repair": 1, "on_invalid": on_invalid}
    job = read_job(None, priced.settings, {})
    view = priced.run(canary=60)
    found = forecast(view, job)
    sent = priced.standin.request_count()
    paid = (view.totals.cost_usd or 0) + (view.totals.billed_retries_usd or 0)
    assert found.spent_usd == pytest.approx(paid)
    assert found.answered == view.totals.ok
    assert sent > 75
    rest = priced.run()
    again = 1.5 * view.totals.failed  # these are sent once more, and take one or two requests each
    rest_usd = (rest.totals.cost_usd or 0) + (rest.totals.billed_retries_usd or 0) - paid
    rest_requests = priced.standin.request_count() - sent
    assert found.cost_usd is not None
    assert found.billed_requests is not None
    # The draw differs from run to run. Its standard error is 4 %; repairs are a third of all requests.
    assert found.cost_usd.estimate == pytest.approx(rest_usd - again * paid / sent, rel=0.2)
    assert found.billed_requests.estimate == pytest.approx(rest_requests - again, rel=0.2)
    assert found.billed_requests.estimate > 1.2 * found.requests


def test_the_forecast_includes_billed_attempts_without_an_answer(priced: Bench) -> None:
    priced.standin.behave("no_choices=0.5&max_faults=1")
    view = priced.run(canary=60)
    found = forecast(view, read_job(None, priced.settings, {}))
    assert view.totals.billed_retries > 10
    whole = priced.run().totals
    rest_usd = (whole.cost_usd or 0) + (whole.billed_retries_usd or 0) - (found.spent_usd or 0)
    assert found.cost_usd is not None
    assert found.cost_usd.estimate == pytest.approx(rest_usd, rel=0.25)


def test_the_end_of_a_canary_says_how_many_requests_repairs_will_take(priced: Bench) -> None:
    priced.standin.behave("wrong_enum=0.4&max_faults=100")
    priced.settings["answer"] = {"schema": SCHEMA}
    lines = forecast_lines(forecast(priced.run(canary=60), read_job(None, priced.settings, {})))
    assert any(line.startswith("  billed ") and "requests with repairs and retries" in line for line in lines)
