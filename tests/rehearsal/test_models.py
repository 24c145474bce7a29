from __future__ import annotations

import asyncio

import pytest

from batchmix.rehearsal import Behaviour


def test_options_in_brackets_are_for_one_model():
    found = Behaviour.parse("rpm=600&500=0.1&rpm[a/b:c]=60&402[a/b:c]=0.2&latency[d]=1")
    assert found.for_model("x") is found
    assert found.for_model("a/b:c") == Behaviour(rpm=60, faults={"500": 0.1, "402": 0.2})
    assert found.for_model("d") == Behaviour(rpm=600, latency=(1, 1), faults={"500": 0.1})
    assert found.own.keys() == {"a/b:c", "d"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seed[m]=1", "no option 'seed[m]'"),
        ("reject[m]=1", "no option 'reject[m]'"),
        ("rpmm[m]=1", "did you mean rpm?"),
        ("500[m]=2", "500 is a share"),
        ("models=a&rpm[b]=1", "have no 'b'"),
        ("broke=nothing", "no kind 'nothing'"),
    ],
)
def test_mistakes(text, words):
    with pytest.raises(ValueError, match="rehearsal") as error:
        Behaviour.parse(text)
    assert words in str(error.value)


async def test_a_model_may_refuse_max_tokens(calling):
    async with calling("400_max_tokens[gpt-5]=1") as caller:
        refused = await caller.send(model="gpt-5", max_tokens=5)
        taken = [
            await caller.send(model="gpt-5", max_completion_tokens=5),
            await caller.send(model="gpt-5"),
            await caller.send(model="gpt-4", max_tokens=5),
        ]
    assert (refused.status, refused.error["code"]) == (400, "unsupported_parameter")
    assert "max_completion_tokens" in refused.error["message"]
    assert [response.status for response in taken] == [200, 200, 200]


async def test_a_model_may_be_retired_or_count_as_claude_does(calling):
    async with calling("404_retired[old]=1&successor[old]=new&claude_usage[claude]=1") as caller:
        retired = [await caller.send(model="old") for _ in range(5)]
        claude = await caller.send(model="claude")
        other = await caller.send(model="m")
    assert {response.status for response in retired} == {404}
    assert "please use new instead" in retired[0].error["message"]
    assert "claude_cache_tokens_details" in claude.body["usage"]
    assert "prompt_tokens_details" in other.body["usage"]


async def test_a_model_has_limits_of_its_own(calling):
    async with calling("rpm=1&burst_s=60&rpm[big]=2") as caller:
        statuses = [[(await caller.send(model=model)).status for _ in range(3)] for model in ("big", "a", "b")]
    assert statuses == [[200, 200, 429], [200, 429, 429], [429, 429, 429]]


async def test_a_model_has_a_concurrency_and_a_latency_of_its_own(calling):
    async with calling("concurrency[one]=1&latency[one]=1") as caller:
        response = await asyncio.gather(*(caller.send(str(n), model=model) for n in range(3) for model in ("one", "m")))
        slow = next(record for record in caller.rehearsal.records if (record.model, record.kind) == ("one", "answer"))
        quick = [record for record in caller.rehearsal.records if record.model == "m"]
    assert sorted(one.status for one in response) == [200, 200, 200, 200, 429, 429]
    assert slow.finished - slow.begun >= 0.99
    assert all(record.finished < slow.finished for record in quick)


async def test_an_answer_takes_as_long_as_its_words(calling):
    async with calling("speed=100&words=20") as caller:
        response = await caller.send()
        (record,) = caller.rehearsal.records
    assert record.finished - record.begun >= len(response.content.split()) / 100 * 0.9
