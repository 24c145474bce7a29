from __future__ import annotations

import math
import re
import time

import aiohttp
import pytest


async def test_a_completion_has_the_shape_of_the_gateways(calling):
    before = int(time.time())
    async with calling("stable=false") as caller:
        response = await caller.send()
    body = response.body
    assert response.status == 200
    assert set(body) == {"id", "object", "created", "model", "choices", "system_fingerprint", "usage"}
    assert body["object"] == "chat.completion"
    assert body["model"] == "m" == response.headers["X-Aihubmix-Model"]
    assert before <= body["created"] <= time.time()
    (choice,) = body["choices"]
    assert choice["index"] == 0
    assert choice["finish_reason"] == "stop"
    assert choice["message"] == {"role": "assistant", "content": response.content}
    usage = body["usage"]
    assert usage["prompt_tokens"] == math.ceil(len('[{"role":"user","content":"Hello"}]') / 4)
    assert usage["completion_tokens"] == len(response.content.split())
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


async def test_content_follows_from_messages_model_seed_and_choice(calling):
    async with calling("seed=1&stable=false") as caller:
        first, again = await caller.send(), await caller.send(temperature=0.5, n=2)
        other, model = await caller.send("Hi"), await caller.send(model="m2")
        swapped = await caller.send(messages=[{"content": "Hello", "role": "user"}])
    async with calling("seed=2") as caller:
        seed = await caller.send()
    texts = [choice["message"]["content"] for choice in again.body["choices"]]
    assert first.content == texts[0] == swapped.content
    assert len({first.content, texts[1], other.content, model.content, seed.content}) == 5
    assert len({response.body["id"] for response in (first, again, other)}) == 3
    assert len({response.headers["x-aihubmix-request-id"] for response in (first, again, other)}) == 3


async def test_stable_bodies_are_the_same_to_the_byte(calling):
    async with calling() as caller:
        assert (await caller.send()).raw == (await caller.send()).raw


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_max_tokens_limits_the_answer(calling, name):
    async with calling("words=40") as caller:
        whole, cut = await caller.send("Hello"), await caller.send("Hello", **{name: 1})
    assert cut.content == whole.content.split()[0]
    assert cut.body["choices"][0]["finish_reason"] == "length"
    assert cut.body["usage"]["completion_tokens"] == 1


async def test_the_number_of_words_is_about_the_option(calling):
    async with calling("words=30") as caller:
        counts = [len((await caller.send(str(number))).content.split()) for number in range(40)]
    assert 20 < sum(counts) / len(counts) < 40
    assert len(set(counts)) > 5


async def test_other_endpoints_answer_in_their_shapes(calling):
    async with calling("models=a,b/c") as caller:
        text = (await caller.send(path="/completions", model="a", messages=None, prompt="Hello")).body
        vectors = (await caller.send(path="/embeddings", model="a", messages=None, input=["x", "y", "x"])).body
        models = (await caller.fetch("GET", "/models?page=1")).body
    assert text["object"] == "text_completion"
    assert text["choices"][0]["text"]
    one, two, three = (entry["embedding"] for entry in vectors["data"])
    assert one == three != two
    assert [entry["id"] for entry in models["data"]] == ["a", "b/c"]


async def test_other_paths_get_a_404_or_a_web_page(calling):
    async with calling() as caller:
        unknown = await caller.fetch("GET", "/batches")
        api = await caller.fetch("GET", caller.url.removesuffix("/v1") + "/api/none")
        page = await caller.fetch("POST", caller.url.removesuffix("/v1") + "/chat/completions", data="{}")
        head = await caller.fetch("HEAD", "/models")
    assert unknown.status == api.status == 404
    assert "Invalid URL" in unknown.error["message"]
    assert (page.status, page.headers["Content-Type"]) == (200, "text/html")
    assert page.raw.startswith(b"<!doctype html>")
    assert (head.status, head.raw) == (200, b"")


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"\xff", b"[]", b"null", b"{}", b'{"messages":[]}', b'{"messages":"hi"}', b'{"messages":[1]}',
        b'{"messages":[{"role":"user"}],"n":0}', b'{"messages":[{"role":"user"}],"n":129}',
        b'{"messages":[{"role":"user"}],"max_tokens":true}', b"[" * 100_000,
    ],
)  # fmt: skip
async def test_a_malformed_request_is_a_400(calling, data):
    async with calling() as caller:
        response = await caller.send(data=data)
        (record,) = caller.rehearsal.records
    assert response.status == 400
    assert set(response.error) == {"message", "type", "param", "code"}
    assert (record.kind, record.status, record.answered) == ("malformed", 400, False)


async def test_odd_messages_are_answered(calling):
    async with calling() as caller:
        parts = [{"type": "text", "text": "[[rehearsal:echo]] a"}, {"type": "image_url"}, {"type": "text", "text": "b"}]
        response = await caller.send(parts)
        assert response.content == "[[rehearsal:echo]] ab"
        assert (await caller.send(None)).status == 200
        assert (await caller.send(model="m\r\nX: y\u2028")).headers.get("X") is None


async def test_a_wrong_key_is_repeated_in_the_error(calling):
    async with calling("key=right") as caller:
        wrong, right = await caller.send(key="sk-wrong"), await caller.send(key="right")
    assert (wrong.status, right.status) == (401, 200)
    assert "sk-wrong" in wrong.error["message"]
    tid = re.search(r"\((?:tid|request id):\s*([\w-]+)\)", wrong.error["message"])
    assert tid is not None
    assert tid[1] == wrong.headers["x-aihubmix-request-id"]


async def test_an_unknown_model_is_refused(calling):
    async with calling("models=a,b") as caller:
        response = await caller.send(model="c")
        assert (await caller.send(model="b")).status == 200
    assert response.status == 503
    assert response.error["message"].startswith("Incorrect model ID")


async def test_an_unknown_model_may_also_be_a_400(calling):
    async with calling() as caller:
        response = await caller.send("[[rehearsal:400_model]]")
    assert response.status == 400
    assert response.error["message"].startswith("Incorrect model ID")


async def test_responses(calling):
    async with calling("words=20") as caller:
        chat = await caller.send("Hello")
        whole = (await caller.send(path="/responses", messages=None, input="Hello")).body
        cut = (await caller.send(path="/responses", messages=None, input="Hello", max_output_tokens=1)).body
        listed = await caller.send(path="/responses", messages=None, input=[{"role": "user", "content": "Hello"}])
        failed = await caller.send(
            path="/responses", messages=None, input=[{"role": "user", "content": "[[rehearsal:500]]"}]
        )
    (message,) = whole["output"]
    (part,) = message["content"]
    assert (whole["object"], whole["status"], message["role"], part["type"]) == (
        "response",
        "completed",
        "assistant",
        "output_text",
    )
    assert (cut["status"], cut["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert cut["output"][0]["content"][0]["text"] == part["text"].split()[0]
    usage = whole["usage"]
    assert usage["output_tokens"] == len(part["text"].split())
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert listed.body["output"][0]["content"][0]["text"] == chat.content
    assert failed.status == 500


@pytest.mark.parametrize(
    ("kind", "types", "status"),
    [
        ("tools", ["function_call"], "completed"),
        ("reasoning", ["reasoning", "message"], "completed"),
        ("refusal", ["message"], "completed"),
        ("null", [], "completed"),
        ("filter", ["message"], "incomplete"),
    ],
)
async def test_responses_of_other_kinds(calling, kind, types, status):
    async with calling() as caller:
        body = (await caller.send(path="/responses", messages=None, input=f"[[rehearsal:{kind}]]")).body
    assert ([item["type"] for item in body["output"]], body["status"]) == (types, status)


async def test_gzip_where_it_is_enabled_and_accepted(calling):
    async with calling("gzip=true&words=2000") as caller:
        packed = await caller.send()
        short = await caller.send(max_tokens=2)
        plain = await caller.send(encoding="identity")
        with pytest.raises(aiohttp.ClientPayloadError):
            await caller.send("[[rehearsal:cut]]")
    async with calling("words=2000") as caller:
        default = await caller.send()
    assert [one.headers.get("Content-Encoding") for one in (packed, short, plain, default)] == [
        "gzip",
        None,
        None,
        None,
    ]
    assert packed.raw == plain.raw == default.raw
    assert int(packed.headers["Content-Length"]) < len(packed.raw) / 2


async def test_large_bodies_pass(calling):
    async with calling() as caller:
        text = "[[rehearsal:echo]]" + "x" * 5_000_000
        assert (await caller.send(text)).content == text
        (record,) = caller.rehearsal.records
        assert record.answered
