from __future__ import annotations

import json

import pytest

from batchmix.rehearsal.oddities import LARGE_BYTES, UNFUNDED
from batchmix.rehearsal.reply_table import REPLY_KINDS

CONTENTS = {
    "blank": lambda text: text == "",
    "nul": lambda text: text.startswith("a\0b "),
    "surrogate": lambda text: text.startswith("\ud800 "),
    "control_codes": lambda text: "\x1b]0;title\x07" in text,
    "markup": lambda text: text.startswith("</script><script>"),
    "large": lambda text: LARGE_BYTES <= len(text) < LARGE_BYTES + 1000,
    "unfunded": lambda text: text == UNFUNDED,
    "parts": lambda parts: len(parts) == 2 and all(part["type"] == "text" and part["text"] for part in parts),
}
PLAIN_USAGE = ["completion_tokens", "prompt_tokens", "total_tokens"]


@pytest.mark.parametrize("kind", CONTENTS)
async def test_contents(calling, kind):
    async with calling() as caller:
        response = await caller.send(f"[[rehearsal:{kind}]]")
        (record,) = caller.rehearsal.records
    assert response.status == 200
    assert CONTENTS[kind](response.content)
    assert record.answered == (kind != "unfunded")


async def test_missing_content_and_nothing_but_reasoning(calling):
    async with calling() as caller:
        missing = (await caller.send("[[rehearsal:no_content]]")).body["choices"][0]
        only = (await caller.send("[[rehearsal:only_reasoning]]")).body["choices"][0]
        details = (await caller.send("[[rehearsal:reasoning_details]]")).body["choices"][0]
    assert missing["message"] == {"role": "assistant"}
    assert (only["finish_reason"], only["message"]["content"]) == ("length", "")
    assert only["message"]["reasoning_content"]
    assert details["message"]["reasoning_details"][0]["text"]


async def test_n_is_honoured_or_not(calling):
    async with calling() as caller:
        counts = [len((await caller.send(p, n=3)).body["choices"]) for p in ("Hello", "[[rehearsal:one_choice]]")]
    assert counts == [3, 1]


async def test_usages(calling):
    async with calling() as caller:
        usages = {kind: (await caller.send(f"[[rehearsal:{kind}]]")).body.get("usage", "missing") for kind in (
            "no_usage", "null_usage", "zero_usage", "claude_usage", "deepseek_usage",
        )}  # fmt: skip
        floats = (await caller.send("[[rehearsal:float_usage]]")).raw
    assert usages["no_usage"] == "missing"
    assert usages["null_usage"] is None
    assert set(usages["zero_usage"].values()) == {0}
    assert sorted(usages["claude_usage"]) == ["claude_cache_tokens_details", *PLAIN_USAGE]
    assert usages["claude_usage"]["claude_cache_tokens_details"]["cache_read_input_tokens"] > 0
    assert sorted(usages["deepseek_usage"]) == sorted(
        [*PLAIN_USAGE, "prompt_cache_hit_tokens", "prompt_cache_miss_tokens"]
    )
    assert b'.0,"completion_tokens":' in floats


async def test_bytes(calling):
    async with calling() as caller:
        response = {
            kind: await caller.send(f"[[rehearsal:{kind}]]") for kind in ("huge", "nan", "pretty", "bom", "half")
        }
        plain = await caller.send("[[rehearsal:text_plain]]")
    assert response["huge"].body["created"] == 2**70 + 1
    assert b'"score": NaN' in response["nan"].raw
    assert response["pretty"].raw.startswith(b"\n{\n    ")
    assert response["bom"].raw.startswith(b"\xef\xbb\xbf{")
    assert json.loads(response["bom"].raw.decode("utf-8-sig"))["choices"]
    assert int(response["half"].headers["Content-Length"]) == len(response["half"].raw) > 100
    with pytest.raises(ValueError, match="line 1"):
        json.loads(response["half"].raw)
    assert plain.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert plain.content


async def test_models_and_choices(calling):
    async with calling() as caller:
        dated = await caller.send("[[rehearsal:dated_model]]", model="gpt-5")
        fallback = await caller.send("[[rehearsal:fallback]]")
        none, empty = [await caller.send(f"[[rehearsal:{kind}]]") for kind in ("no_choices", "empty_choices")]
        records = caller.rehearsal.records
    assert (dated.body["model"], dated.headers["X-Aihubmix-Model"]) == ("gpt-5-2026-03-05", "gpt-5")
    assert fallback.headers["X-Aihubmix-Fallback"] == "true"
    assert fallback.headers["X-Aihubmix-Router-Resolved-Model"] == "fallback-model"
    assert "choices" not in none.body
    assert empty.body["choices"] == []
    assert [record.answered for record in records] == [True, True, False, False]


async def test_an_oversized_body_is_complete_and_generated_while_sent(calling):
    async with calling() as caller:
        body = {"model": "m", "messages": [{"role": "user", "content": "[[rehearsal:oversized]]"}]}
        size = 0
        async with caller.session.post(caller.url + "/chat/completions", json=body) as response:
            start = await response.content.readexactly(100)
            async for piece in response.content.iter_any():
                size, end = size + len(piece), piece
        (record,) = caller.rehearsal.records
    assert REPLY_KINDS["oversized"].endless_bytes < size + 100 < REPLY_KINDS["oversized"].endless_bytes + 1000
    assert start.startswith(b'{"id":')
    assert end.endswith(b"}}")
    assert not record.answered
