from __future__ import annotations

import json
from typing import Any

import pytest


def chunks(raw: bytes) -> list[Any]:
    *events, end = raw.decode().removesuffix("\n\n").split("\n\n")
    assert end == "data: [DONE]"
    return [json.loads(event.removeprefix("data: ")) for event in events]


async def test_a_stream_says_in_chunks_what_a_body_says(calling):
    async with calling("words=9") as caller:
        plain = (await caller.ask(n=2)).body
        heard = await caller.ask(n=2, stream=True, stream_options={"include_usage": True})
    assert heard.headers["Content-Type"] == "text/event-stream"
    *found, last = chunks(heard.raw)
    assert (last["choices"], last["usage"]) == ([], plain["usage"])
    assert {chunk["object"] for chunk in found} == {"chat.completion.chunk"}
    assert all(chunk["usage"] is None and chunk["id"] == plain["id"] for chunk in found)
    for choice in plain["choices"]:
        own = [one for chunk in found for one in chunk["choices"] if one["index"] == choice["index"]]
        assert own[0]["delta"] == {"role": "assistant", "content": ""}
        assert "".join(one["delta"].get("content", "") for one in own) == choice["message"]["content"]
        assert [one["finish_reason"] for one in own] == [None] * (len(own) - 1) + ["stop"]
        assert len(own) == 2 + len(choice["message"]["content"].split())


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}, "x"])
async def test_usage_comes_only_when_it_is_asked_for(calling, options):
    async with calling() as caller:
        found = chunks((await caller.ask(stream=True, stream_options=options)).raw)
    assert not any("usage" in chunk for chunk in found)


@pytest.mark.parametrize(("kind", "key"), [("tools", "tool_calls"), ("reasoning", "reasoning_content"), ("refusal", "refusal"), ("null", "role")])  # fmt: skip
async def test_all_kinds_of_answers_can_be_streamed(calling, kind, key):
    async with calling() as caller:
        found = chunks((await caller.ask(f"[[rehearsal:{kind}]]", stream=True)).raw)
    assert any(key in choice["delta"] for chunk in found for choice in chunk["choices"])


async def test_text_completions_are_streamed_too(calling):
    async with calling() as caller:
        plain = (await caller.ask(path="/completions", prompt="Hello")).body
        found = chunks((await caller.ask(path="/completions", prompt="Hello", stream=True)).raw)
    assert "".join(chunk["choices"][0]["text"] for chunk in found) == plain["choices"][0]["text"]
    assert {chunk["object"] for chunk in found} == {"text_completion"}


async def test_errors_and_other_endpoints_come_as_one_body(calling):
    async with calling() as caller:
        refused = await caller.ask("[[rehearsal:400]]", stream=True)
        assert (refused.status, "error" in refused.body) == (400, True)
        assert "data" in (await caller.ask(path="/embeddings", input="x", stream=True)).body
        assert "output" in (await caller.ask(path="/responses", input="x", stream=True)).body
