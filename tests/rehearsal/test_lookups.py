from __future__ import annotations

import pytest

BILLING = "/dashboard/billing/"


async def test_the_catalogue_has_prices_and_an_etag(calling):
    async with calling("models=a,b/c&price=1-2&price[b/c]=3-4&404_retired[b/c]=1&successor=a") as caller:
        url = caller.url.removesuffix("/v1") + "/api/v1/models"
        response = await caller.fetch("GET", url)
        tag = response.headers["ETag"]
        same = await caller.fetch("GET", url, headers={"If-None-Match": tag})
        other = await caller.fetch("GET", url, headers={"If-None-Match": '"x"'})
    first, second = response.body["data"]
    assert {name: response.body[name] for name in ("message", "success")} == {"message": "", "success": True}
    assert (first["model_id"], first["pricing"]) == ("a", {"input": 1.0, "output": 2.0, "cache_read": 0.5})
    assert (first["retire_stage"], first["successor_model"]) == ("", "")
    assert (second["model_id"], second["pricing"]["output"]) == ("b/c", 4.0)
    assert (second["retire_stage"], second["successor_model"]) == ("retired", "a")
    assert (same.status, same.raw, same.headers["ETag"]) == (304, b"", tag)
    assert (other.status, other.raw) == (200, response.raw)


async def test_a_balance_is_spent_and_reported(calling):
    async with calling("price=1000-2000&balance_usd=0.05&key=right&broke=402") as caller:
        headers = {"Authorization": "Bearer right"}
        response, spent = await caller.send(key="right"), 0.0
        usage = response.body["usage"]
        spent = (usage["prompt_tokens"] * 1000 + usage["completion_tokens"] * 2000) / 1e6
        limit = (await caller.fetch("GET", BILLING.join(["", "subscription"]), headers=headers)).body
        used = (await caller.fetch("GET", BILLING + "usage?start_date=2026-01-01", headers=headers)).body
        statuses = [(await caller.send(str(number), key="right")).status for number in range(10)]
    assert limit["hard_limit_usd"] == 0.05
    assert used["total_usage"] == pytest.approx(100 * spent)
    assert statuses[-1] == 402
    assert statuses == sorted(statuses)


async def test_a_balance_in_answers_is_reported_once_it_is_spent(calling):
    async with calling("balance=1") as caller:
        before = (await caller.fetch("GET", BILLING + "subscription")).body["hard_limit_usd"]
        await caller.send()
        after = (await caller.fetch("GET", BILLING + "subscription")).body["hard_limit_usd"]
        used = (await caller.fetch("GET", BILLING + "usage")).body["total_usage"]
    assert before == 100_000_000
    assert after == pytest.approx(used / 100)


async def test_a_wrong_key_gets_no_balance_but_all_models(calling):
    async with calling("key=right&models=a") as caller:
        headers = {"Authorization": "Bearer wrong"}
        money = await caller.fetch("GET", BILLING + "subscription", headers=headers)
        models = await caller.fetch("GET", "/models", headers=headers)
    assert (money.status, money.error["code"]) == (401, "invalid_api_key")
    assert "wrong" in money.error["message"]
    assert [entry["id"] for entry in models.body["data"]] == ["a"]


async def test_the_catalogue_says_which_models_lack_structured_outputs(calling):
    async with calling("models=a,b,c,d&structured_outputs[b]=false&400_schema[c]=1&400_schema[d]=0.5") as caller:
        body = (await caller.fetch("GET", caller.url.removesuffix("/v1") + "/api/v1/models")).body
    features = {entry["model_id"]: entry["features"].split(",") for entry in body["data"]}
    assert [model for model in features if "structured_outputs" in features[model]] == ["a", "d"]
    assert all("tools" in found for found in features.values())
