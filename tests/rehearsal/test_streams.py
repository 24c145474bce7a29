from __future__ import annotations

import json

import aiohttp
import pytest

USAGE = {"stream": True, "stream_options": {"include_usage": True}}


def events(raw):
    """Return the events of a stream: JSON values, or other lines as text."""
    lines = [line for line in raw.decode().split("\n\n") if line]
    return [json.loads(line[6:]) if line.startswith("data: {") else line for line in lines]


def answered(found):
    """Return the content of a stream's only choice."""
    deltas = (choice["delta"] for event in found if isinstance(event, dict) for choice in event["choices"])
    return "".join(delta.get("content") or "" for delta in deltas)


def reasons(found):
    return [c["finish_reason"] for event in found if isinstance(event, dict) for c in event.get("choices", ())]


@pytest.fixture
def streamed(calling):
    async def stream(prompt, behaviour="", **more):
        async with calling(behaviour) as caller:
            response = await caller.send(prompt, **{**USAGE, **more})
            return response, events(response.raw), caller.rehearsal.records[0]

    return stream


async def test_a_stream_has_the_content_of_the_whole_answer(calling):
    async with calling() as caller:
        whole = await caller.send("Hello")
        response = await caller.send("Hello", **USAGE)
        bare = events((await caller.send("Hello", stream=True)).raw)
        records = caller.rehearsal.records
    found = events(response.raw)
    *chunks, last, done = found
    assert response.headers["Content-Type"] == "text/event-stream"
    assert response.headers["Transfer-Encoding"] == "chunked"
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert {chunk["id"] for chunk in chunks} == {whole.body["id"]}
    assert all(chunk["usage"] is None for chunk in chunks)
    assert answered(found) == whole.content
    assert reasons(chunks) == [None] * (len(chunks) - 1) + ["stop"]
    assert (last["choices"], last["usage"], done) == ([], whole.body["usage"], "data: [DONE]")
    assert not any("usage" in event for event in bare[:-1])
    assert [record.answered for record in records] == [True, True, True]


async def test_each_choice_finishes_by_itself(streamed):
    _, found, _ = await streamed("Hello", n=3, words=40)
    ends = {c["index"]: c["finish_reason"] for e in found[:-1] for c in e["choices"] if c["finish_reason"]}
    assert ends == {0: "stop", 1: "stop", 2: "stop"}


async def test_other_messages_are_streamed_too(streamed):
    for kind, name in (("tools", "tool_calls"), ("refusal", "refusal"), ("reasoning", "reasoning_content")):
        _, found, _ = await streamed(f"[[rehearsal:{kind}]]")
        assert any(name in c["delta"] for e in found[:-1] for c in e["choices"]), kind


async def test_texts_are_streamed_too(calling):
    async with calling() as caller:
        whole = await caller.send(path="/completions", messages=None, prompt="Hello")
        response = await caller.send(path="/completions", messages=None, prompt="Hello", stream=True)
    text = "".join(choice["text"] for event in events(response.raw)[:-1] for choice in event["choices"])
    assert text == whole.body["choices"][0]["text"]


async def test_the_ids_of_stream_chunks_can_change(streamed):
    _, found, record = await streamed("[[rehearsal:stream_ids]]")
    ids = [event["id"] for event in found[:-1]]
    assert len(set(ids)) == len(ids) > 3
    assert record.answered


async def test_zeros_come_before_the_usage(streamed):
    _, found, record = await streamed("[[rehearsal:stream_zeros]]")
    totals = [event["usage"]["total_tokens"] for event in found[:-1]]
    assert set(totals[:-1]) == {0}
    assert totals[-1] > 0
    assert record.answered


async def test_comments_and_no_done(streamed):
    _, found, record = await streamed("[[rehearsal:stream_comments]]")
    assert found[::2] == [": keep-alive"] * (len(found) // 2)
    assert (reasons(found)[-1], record.answered) == ("stop", True)
    _, found, record = await streamed("[[rehearsal:stream_no_done]]")
    assert found[-1]["usage"]["total_tokens"] > 0
    assert record.answered


async def test_a_stream_may_be_ignored(streamed):
    response, _, record = await streamed("[[rehearsal:stream_ignored]]")
    assert response.headers["Content-Type"] == "application/json"
    assert response.content
    assert record.answered


async def test_odd_bytes_are_not_streamed(streamed):
    response, _, _ = await streamed("[[rehearsal:bom]]")
    assert response.raw.startswith(b"\xef\xbb\xbf{")


@pytest.mark.parametrize(("kind", "done"), [("stream_ends", False), ("stream_no_finish", True)])
async def test_streams_that_are_not_whole(streamed, kind, done):
    response, found, record = await streamed(f"[[rehearsal:{kind}]]")
    assert response.status == 200
    assert answered(found)
    assert not any(reasons(found))
    assert ("data: [DONE]" in found) == done
    assert (record.status, record.answered) == (200, False)
    assert record.finished is not None


async def test_an_error_comes_first_or_later_in_a_stream(streamed):
    _, first, early = await streamed("[[rehearsal:stream_error_first]]")
    _, later, late = await streamed("[[rehearsal:stream_error]]")
    assert list(first[0]) == ["error"]
    assert list(later[-2]) == ["error"]
    assert later[0]["choices"]
    assert not early.answered
    assert not late.answered


async def test_an_error_before_the_stream_is_plain_json(streamed):
    response, _, _ = await streamed("[[rehearsal:500]]")
    assert (response.status, response.headers["Content-Type"]) == (500, "application/json")
    assert response.error["message"]


async def test_a_stream_can_be_cut(calling):
    async with calling() as caller:
        with pytest.raises(aiohttp.ClientPayloadError):
            await caller.send("[[rehearsal:cut]]", stream=True)
        assert not caller.rehearsal.records[0].answered


async def test_a_stream_takes_as_long_as_its_words(calling):
    async with calling("speed=100&words=20") as caller:
        response = await caller.send("Hello", stream=True)
        (record,) = caller.rehearsal.records
    assert record.finished - record.begun >= len(answered(events(response.raw)).split()) / 100 * 0.9
