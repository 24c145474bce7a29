"""Answers in every shape are parsed without loss."""

from __future__ import annotations

import json

import pytest

from batchmix.records import Completion, Exchange, Failure, Tokens, Usage
from batchmix.responses.classify import classify
from tests.streams import PARIS, events, usage
from tests.wire import GOOD, Wire, reply

USAGE = Usage(5, 1, 6)


def good(**message: object) -> bytes:
    return json.dumps({**GOOD, "choices": [{"message": message, "finish_reason": "stop"}]}).encode()


ANSWERS: list[tuple[str, bytes, Completion]] = [
    ("ordinary", json.dumps(GOOD).encode(), Completion("Paris", finish_reason="stop", usage=USAGE)),
    ("pretty-printed", json.dumps(GOOD, indent=4).encode(), Completion("Paris", finish_reason="stop", usage=USAGE)),
    ("after a BOM", b"\xef\xbb\xbf" + json.dumps(GOOD).encode(), Completion("Paris", finish_reason="stop", usage=USAGE)),
    ("with NaN", json.dumps({**GOOD, "logprob": float("nan")}).encode(), Completion("Paris", finish_reason="stop", usage=USAGE)),
    ("with an integer of 200 bits", json.dumps({**GOOD, "created": 2**200}).encode(), Completion("Paris", finish_reason="stop", usage=USAGE)),
    ("with an integer of 5,000 digits and a lone surrogate", json.dumps(GOOD)[:-1].encode() + b',"a":' + b"9" * 5000 + b',"b":"\\ud800"}', Completion("Paris", finish_reason="stop", usage=USAGE)),
    ("a null error", json.dumps({**GOOD, "error": None}).encode(), Completion("Paris", finish_reason="stop", usage=USAGE)),
    ("null content", good(content=None, refusal="I can't"), Completion(None, refusal="I can't", finish_reason="stop", usage=USAGE)),
    ("missing content", good(role="assistant"), Completion(None, finish_reason="stop", usage=USAGE)),
    ("no content left by the cap", json.dumps({**GOOD, "choices": [{"message": {"content": ""}, "finish_reason": "length"}]}).encode(), Completion("", finish_reason="length", usage=USAGE)),
    ("filtered away", json.dumps({**GOOD, "choices": [{"index": 0, "finish_reason": "content_filter"}]}).encode(), Completion(None, finish_reason="content_filter", usage=USAGE)),
    ("parts", good(content=[{"type": "text", "text": "a"}, {"text": "b"}, "c", 4]), Completion("abc", finish_reason="stop", usage=USAGE)),
    ("parts with what was thought", good(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "h"}, {"type": "text", "text": "m"}]}, {"type": "thinking", "thinking": "!"}, {"type": "text", "text": "a"}]), Completion("a", "hm!", finish_reason="stop", usage=USAGE)),
    ("parts without text", good(content=[{"type": "text", "text": ""}, {"type": "output_text"}]), Completion(None, finish_reason="stop", usage=USAGE)),
    ("nested parts", good(content=[["a", [{"text": "b"}]], None]), Completion("ab", finish_reason="stop", usage=USAGE)),
    ("reasoning_content", good(content=None, reasoning_content="hm"), Completion(None, "hm", finish_reason="stop", usage=USAGE)),
    ("reasoning", good(content="x", reasoning="hm"), Completion("x", "hm", finish_reason="stop", usage=USAGE)),
    ("reasoning_details", good(content="x", reasoning_details=[{"type": "reasoning.text", "text": "h"}, {"summary": "m"}]), Completion("x", "hm", finish_reason="stop", usage=USAGE)),
    ("tool calls as they came", good(content=None, tool_calls=[{"id": 1, "n": 2**70}]), Completion(tool_calls=json.dumps([{"id": 1, "n": 2**70}]), finish_reason="stop", usage=USAGE)),
    ("no tool calls", good(content="x", tool_calls=[]), Completion("x", finish_reason="stop", usage=USAGE)),
    ("several choices", json.dumps({**GOOD, "choices": [*GOOD["choices"], {"message": {"content": "Rome"}}]}).encode(), Completion("Paris", finish_reason="stop", usage=USAGE)),
    ("a lone surrogate", b'{"model":"gpt-4o-mini-2024","choices":[{"message":{"content":"a\\ud800b","tool_calls":["\\udfff"]}}]}', Completion("a\ufffdb", tool_calls='["\\udfff"]')),
    ("a pair of surrogates", b'{"model":"gpt-4o-mini-2024","choices":[{"message":{"content":"\\ud83d\\ude00"}}]}', Completion("😀")),
    ("a NUL", b'{"model":"gpt-4o-mini-2024","choices":[{"message":{"content":"a\\u0000b"}}]}', Completion("a\0b")),
    ("not UTF-8", b'{"model":"gpt-4o-mini-2024","choices":[{"message":{"content":"caf\xe9"}}]}', Completion("caf\ufffd")),
    ("no usage", json.dumps({name: value for name, value in GOOD.items() if name != "usage"}).encode(), Completion("Paris", finish_reason="stop")),
    ("reasoning in two places", good(content="x", reasoning_content="hm", reasoning="no"), Completion("x", "hm", finish_reason="stop", usage=USAGE)),
    ("escapes that end a line or a file", good(content="a\r\n\x1a\u2028\x7f\x1b[2Jb"), Completion("a\r\n\x1a\u2028\x7f\x1b[2Jb", finish_reason="stop", usage=USAGE)),
    ("deep", json.dumps(GOOD)[:-1].encode() + b',"a":' + b"[" * 400 + b"]" * 400 + b"}", Completion("Paris", finish_reason="stop", usage=USAGE)),
    ("choices out of order", json.dumps({**GOOD, "choices": [{"index": 1, "message": {"content": "Rome"}, "finish_reason": "length"}, {"index": 0, **GOOD["choices"][0]}]}).encode(), Completion("Paris", finish_reason="stop", usage=USAGE)),
    ("choices out of order, their indexes as text", json.dumps({**GOOD, "choices": [{"index": "1", "message": {"content": "Rome"}}, GOOD["choices"][0] | {"index": "0"}]}).encode(), Completion("Paris", finish_reason="stop", usage=USAGE)),
    ("choices out of order, their indexes as fractions", json.dumps({**GOOD, "choices": [{"index": 1.0, "message": {"content": "Rome"}}, GOOD["choices"][0] | {"index": 0.0}]}).encode(), Completion("Paris", finish_reason="stop", usage=USAGE)),
    ("choices of which one has a negative index", json.dumps({**GOOD, "choices": [{"index": -1, "message": {"content": "Rome"}, "finish_reason": "stop"}, GOOD["choices"][0] | {"index": 0}]}).encode(), Completion("Paris", finish_reason="stop", usage=USAGE)),
    ("a message that is a text", json.dumps({**GOOD, "choices": [{"message": "Paris", "finish_reason": "stop"}]}).encode(), Completion("Paris", finish_reason="stop", usage=USAGE)),
    ("a list of numbers as content", good(content=[1, [2.5, None], False]), Completion("[1, [2.5, null], false]", finish_reason="stop", usage=USAGE)),
    ("a null among the choices", json.dumps({**GOOD, "choices": [None, *GOOD["choices"]]}).encode(), Completion("Paris", finish_reason="stop", usage=USAGE)),
    ("an object as content", good(content={"city": "Zürich", "text": "x", "n": [1, None]}), Completion('{"city": "Zürich", "text": "x", "n": [1, null]}', finish_reason="stop", usage=USAGE)),
    ("an empty object as content", good(content={}), Completion("{}", finish_reason="stop", usage=USAGE)),
    ("a part as content", good(content={"type": "text", "text": "a"}), Completion("a", finish_reason="stop", usage=USAGE)),
    ("a number as content", good(content=4.5), Completion("4.5", finish_reason="stop", usage=USAGE)),
    ("false as content", good(content=False), Completion("false", finish_reason="stop", usage=USAGE)),
    ("parts of another kind", good(content=[{"type": "json", "json": {"a": 1}}]), Completion('[{"type": "json", "json": {"a": 1}}]', finish_reason="stop", usage=USAGE)),
    ("text beside parts of another kind", good(content=[{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "x"}}, {"type": "text", "text": {"value": "b"}}]), Completion("ab", finish_reason="stop", usage=USAGE)),
    ("a refusal among the parts", good(content=[{"type": "refusal", "refusal": "No"}]), Completion(refusal="No", finish_reason="stop", usage=USAGE)),
    ("a call among the parts", good(content=[{"type": "text", "text": "a"}, {"type": "tool_use", "id": "t", "name": "f", "input": {}}]), Completion("a", tool_calls='[{"type": "tool_use", "id": "t", "name": "f", "input": {}}]', finish_reason="stop", usage=USAGE)),
    ("a function call", good(content=None, function_call={"name": "f", "arguments": "{}"}), Completion(tool_calls='[{"type": "function", "function": {"name": "f", "arguments": "{}"}}]', finish_reason="stop", usage=USAGE)),
    ("speech", good(content=None, audio={"id": "a", "data": "UklGRg==", "transcript": "Paris"}), Completion("Paris", finish_reason="stop", usage=USAGE)),
    ("text beside a message with nothing in it", json.dumps({**GOOD, "choices": [{"message": {"role": "assistant", "content": None}, "text": "Paris", "finish_reason": "stop"}]}).encode(), Completion("Paris", finish_reason="stop", usage=USAGE)),
    ("text beside a message", json.dumps({**GOOD, "choices": [{"message": {"content": "Paris"}, "text": "Rome", "finish_reason": "stop"}]}).encode(), Completion("Paris", finish_reason="stop", usage=USAGE)),
    ("a delta for a message", json.dumps({**GOOD, "choices": [{"delta": {"content": "Paris"}, "finish_reason": "stop"}]}).encode(), Completion("Paris", finish_reason="stop", usage=USAGE)),
    *((f"an error of nothing: {nothing}", json.dumps({**GOOD, "error": nothing}).encode(), Completion("Paris", finish_reason="stop", usage=USAGE)) for nothing in ({}, "", " ", [], [{}], 0, False, {"message": None, "type": "", "code": None, "param": {}})),
    ("an error of nothing in the choice", json.dumps({**GOOD, "choices": [{**GOOD["choices"][0], "error": {"message": ""}}]}).encode(), Completion("Paris", finish_reason="stop", usage=USAGE)),
    ("a stream that nobody asked for", events(*PARIS[:-1], {**usage({"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}), "model": GOOD["model"]}, b"[DONE]"), Completion("Paris", finish_reason="stop", usage=USAGE)),
    ("a stream whose events nothing ends", events(*PARIS[:-1], {**usage({"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}), "model": GOOD["model"]}, b"[DONE]").replace(b"\n\n", b"\n"), Completion("Paris", finish_reason="stop", usage=USAGE)),
    ("one event that is all", b"event: x\ndata: " + json.dumps(GOOD).encode() + b"\n\n", Completion("Paris", finish_reason="stop", usage=USAGE)),
    ("comments, and then a body", b": PROCESSING\n\n: PROCESSING\r\n\r\n" + json.dumps(GOOD, indent=1).encode(), Completion("Paris", finish_reason="stop", usage=USAGE)),
    ("a comment, and then a stream", b": hello\n\ndata: " + json.dumps(GOOD).encode() + b"\n\n", Completion("Paris", finish_reason="stop", usage=USAGE)),
    ("of the wrong types", json.dumps({"model": "gpt-4o-mini-2024", "choices": [{"message": {"content": 7, "refusal": [], "reasoning": {}}, "finish_reason": 1}], "usage": "none"}).encode(), Completion("7")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "body", "expected"), ANSWERS, ids=[row[0] for row in ANSWERS])
async def test_an_odd_answer_is_parsed_and_its_body_kept(
    wire: Wire, name: str, body: bytes, expected: Completion
) -> None:
    outcome = classify(await wire.exchange(reply(200, body, "X-Aihubmix-Model: billed")))
    assert isinstance(outcome, Completion), outcome
    assert outcome.served_model == "billed"
    named = classify(Exchange(0, 0, 0.0, 200, body))
    assert isinstance(named, Completion)
    assert named.served_model == "gpt-4o-mini-2024"
    fields = ("response", "reasoning", "refusal", "tool_calls", "finish_reason", "usage")
    assert [getattr(outcome, field) for field in fields] == [getattr(expected, field) for field in fields]


@pytest.mark.parametrize(
    ("path", "body", "response"),
    [
        ("/completions", {"choices": [{"text": "Paris", "finish_reason": "stop"}]}, "Paris"),
        ("/responses", {"output": [{"type": "reasoning", "content": [{"text": "hm"}]}, {"type": "message", "content": [{"type": "output_text", "text": "Pa"}, {"text": "ris"}]}]}, "Paris"),
        ("/responses", {"output": [{"type": "message", "content": [{"type": "output_text", "text": ""}]}]}, None),
        ("/embeddings", {"data": [{"embedding": [0.1]}]}, "[[0.1]]"),
        ("/rerank", {"results": []}, None),
    ],
)  # fmt: skip
def test_answers_of_other_endpoints_are_parsed_by_their_own_shapes(
    path: str, body: object, response: str | None
) -> None:
    outcome = classify(Exchange(0, 0, 0.0, 200, json.dumps(body).encode()), path)
    assert isinstance(outcome, Completion)
    assert outcome.response == response
    refused = classify(Exchange(0, 0, 0.0, 200, b'{"error":{"message":"x","code":"insufficient_quota"}}'), path)
    assert isinstance(refused, Failure)
    assert refused.type == "no_balance"


USAGES: list[tuple[object, Usage]] = [
    (None, Usage()),
    ([], Usage()),
    ("12", Usage()),
    ({}, Usage()),
    # Counts that are not reported are sent as 0.
    ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, Usage()),
    ({"prompt_tokens": 5, "completion_tokens": 0, "total_tokens": 5}, Usage(5, None, 5)),
    ({"prompt_tokens": 150.0, "completion_tokens": 2, "total_tokens": 152}, Usage(150, 2, 152)),
    ({"prompt_tokens": "150", "completion_tokens": " 2 ", "total_tokens": "152"}, Usage(150, 2, 152)),
    ({"prompt_tokens": 2**70, "completion_tokens": -1, "total_tokens": "x"}, Usage()),
    ({"prompt_tokens": 1.5, "completion_tokens": True, "total_tokens": 1e400}, Usage()),
    ({"prompt_tokens": "9" * 5000, "completion_tokens": "1e3", "total_tokens": {}}, Usage()),
    ({"prompt_tokens": "1,500", "completion_tokens": "2.0", "total_tokens": "1502.0"}, Usage(1500, 2, 1502)),
    ({"prompt_tokens": 2**62, "completion_tokens": 10**13, "total_tokens": 2**62}, Usage()),
    # Under other names.
    ({"promptTokens": 5, "completionTokens": 6, "totalTokens": 11}, Usage(5, 6, 11)),
    ({"promptTokenCount": 5, "candidatesTokenCount": 6, "thoughtsTokenCount": 7, "totalTokenCount": 18, "cachedContentTokenCount": 3}, Usage(5, 13, 18, 3, 7)),
    ({"prompt_token_count": 5, "candidates_token_count": 6, "total_token_count": 11}, Usage(5, 6, 11)),
    ({"inputTokens": 5, "outputTokens": 6, "totalTokens": 16, "cacheReadInputTokens": 3, "cacheWriteInputTokens": 2}, Usage(10, 6, 16, 3, None, 2)),
    # Reasoning tokens come on top of the completion if the total says so.
    ({"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 31, "completion_tokens_details": {"reasoning_tokens": 20}}, Usage(5, 26, 31, None, 20)),
    ({"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11, "completion_tokens_details": {"reasoning_tokens": 20}}, Usage(5, 26, 31, None, 20)),
    ({"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 31}, Usage(5, 6, 31)),
    # Counts that follow from the others.
    ({"total_tokens": 9}, Usage(None, None, 9)),
    ({"prompt_tokens": 5, "total_tokens": 11}, Usage(5, 6, 11)),
    ({"prompt_tokens": None, "completion_tokens": 6, "total_tokens": 11}, Usage(5, 6, 11)),
    ({"prompt_tokens": 5, "completion_tokens": 6}, Usage(5, 6, 11)),
    ({"prompt_tokens": 5}, Usage(5)),
    ({"completion_tokens": 6, "total_tokens": None}, Usage(None, 6)),
    ({"prompt_tokens": 0, "input_tokens": 5, "completion_tokens": None, "output_tokens": 6}, Usage(5, 6, 11)),
    ({"input_tokens": 5, "output_tokens": 6, "total_tokens": 11, "output_tokens_details": {"reasoning_tokens": 2}}, Usage(5, 6, 11, None, 2)),
    # Caches: within the prompt, ...
    ({"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11, "prompt_tokens_details": {"cached_tokens": 3}, "completion_tokens_details": {"reasoning_tokens": 2}}, Usage(5, 6, 11, 3, 2)),
    ({"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11, "prompt_tokens_details": None, "completion_tokens_details": {}}, Usage(5, 6, 11)),
    ({"prompt_tokens": 50, "completion_tokens": 6, "total_tokens": 56, "prompt_tokens_details": {"cached_tokens": 0}, "claude_cache_tokens_details": {"cache_creation_input_tokens": 4, "cache_read_input_tokens": 3}}, Usage(50, 6, 56, 3, None, 4)),
    ({"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11, "prompt_cache_hit_tokens": 4, "prompt_cache_miss_tokens": 1}, Usage(5, 6, 11, 4)),
    ({"prompt_tokens": 194, "completion_tokens": 2, "total_tokens": 196, "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 100}}, Usage(194, 2, 196, 0, None, 100)),
    ({"prompt_tokens": 194, "completion_tokens": 2, "total_tokens": 196, "prompt_tokens_details": {"cached_creation_tokens": 100}}, Usage(194, 2, 196, None, None, 100)),
    ({"prompt_tokens": 194, "completion_tokens": 2, "total_tokens": 196, "prompt_tokens_details": {"cached_tokens": 90, "cache_creation_tokens": 100}, "cache_creation_input_tokens": 100, "cache_read_input_tokens": 90}, Usage(194, 2, 196, 90, None, 100)),
    ({"prompt_tokens": 194, "completion_tokens": 2, "total_tokens": 196, "claude_cache_tokens_details": {"cache_read_input_tokens": 90, "cache_creation_5_m_tokens": 60, "cache_creation_1_h_tokens": 40}}, Usage(194, 2, 196, 90, None, 100, 40)),
    ({"prompt_tokens": 194, "completion_tokens": 2, "total_tokens": 196, "prompt_tokens_details": {"cached_tokens": 90, "cached_creation_tokens": 100}, "claude_cache_creation_5_m_tokens": 100, "claude_cache_creation_1_h_tokens": 0}, Usage(194, 2, 196, 90, None, 100)),
    ({"prompt_tokens": 194, "completion_tokens": 2, "total_tokens": 196, "cached_tokens": 90}, Usage(194, 2, 196, 90)),
    ({"prompt_tokens": 194, "completion_tokens": 2, "total_tokens": 196, "claude_cache_creation_1_h_tokens": 100}, Usage(194, 2, 196, None, None, 100, 100)),
    ({"prompt_tokens": 194, "completion_tokens": 2, "total_tokens": 196, "prompt_tokens_details": {"cache_creation_tokens": 100, "cache_creation_token_details": {"ephemeral_5m_input_tokens": 60, "ephemeral_1h_input_tokens": 40}}}, Usage(194, 2, 196, None, None, 100, 40)),
    # ... and on top of it.
    ({"input_tokens": 5, "output_tokens": 6, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 2}, Usage(10, 6, 16, 3, None, 2)),
    ({"input_tokens": 5, "output_tokens": 6, "cache_creation_input_tokens": 7, "cache_creation": {"ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": 3}}, Usage(12, 6, 18, None, None, 7, 3)),
    ({"input_tokens": 0, "output_tokens": 6, "cache_read_input_tokens": 300}, Usage(300, 6, 306, 300)),
    ({"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11, "prompt_tokens_details": {"cached_tokens": 90}}, Usage(95, 6, 101, 90)),
]  # fmt: skip


@pytest.mark.parametrize(("usage", "expected"), USAGES)
async def test_usage_is_the_providers_count_or_null(wire: Wire, usage: object, expected: Usage) -> None:
    outcome = classify(await wire.exchange(reply(200, {**GOOD, "usage": usage})))
    assert isinstance(outcome, Completion)
    assert outcome.usage == expected


@pytest.mark.parametrize("usage", [{"prompt_tokens": 7, "total_tokens": 7}, {"total_tokens": 7}, {"prompt_tokens": 7}])
def test_an_endpoint_without_completions_has_no_completion_tokens(usage: object) -> None:
    body = json.dumps({"object": "list", "data": [{"index": 0, "embedding": [0.1]}], "usage": usage}).encode()
    outcome = classify(Exchange(0, 0, 0.0, 200, body), "/embeddings")
    assert isinstance(outcome, Completion)
    assert outcome.usage == Usage(7, 0, 7)


def test_usage_is_read_under_geminis_own_name() -> None:
    counts = {"promptTokenCount": 5, "candidatesTokenCount": 1, "totalTokenCount": 6}
    body = {name: value for name, value in GOOD.items() if name != "usage"} | {"usageMetadata": counts}
    outcome = classify(Exchange(0, 0, 0.0, 200, json.dumps(body).encode()))
    assert isinstance(outcome, Completion)
    assert outcome.usage == USAGE


def test_an_answer_without_usage_counts_all_its_choices() -> None:
    choices = [{"index": n, "message": {"content": "four" * 25}, "finish_reason": "stop"} for n in range(3)]
    outcome = classify(Exchange(0, 0, 0.0, 200, json.dumps({"choices": choices}).encode()))
    assert isinstance(outcome, Completion)
    assert outcome.tokens(10) == Tokens(10, 75)
