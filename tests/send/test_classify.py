"""The error table of the gateway, each row and trap as it really comes over a socket, and what answers look like."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchmix.errors import Next
from batchmix.records import Completion, Exchange, Failure, Usage
from batchmix.send.classify import judge
from tests.send.conftest import GOOD, KEY, Closing, Reply, Wire, error, reply

REJECT, RETRY, PAUSE, STOP_MODEL, STOP_RUN = Next.REJECT, Next.RETRY, Next.PAUSE, Next.STOP_MODEL, Next.STOP_RUN
PAGE = b"<!DOCTYPE html>\n<html><head><title>AiHubMix</title></head></html>"
UNFUNDED = (
    "To prevent abuse of free resources, accounts that have not been recharged can only try 10 times. Please recharge."
)


def page(status: int) -> bytes:
    return reply(status, PAGE, kind="text/html; charset=utf-8")


def answer(message: object, **more: object) -> bytes:
    return reply(200, {**GOOD, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], **more})


TABLE: list[tuple[str, Reply, Next, str]] = [
    # 400: the row fails; a bad model id stops that model
    ("400 refused parameter", reply(400, error("Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.", "unsupported_parameter")), REJECT, "rejected"),
    ("400 a cap that is too large", reply(400, error("max_tokens is too large: 100000. This model supports at most 16384 completion tokens")), REJECT, "rejected"),
    ("400 without a code", reply(400, {"error": {"message": "Invalid value: 'sytem'"}}), REJECT, "rejected"),
    ("400 that quotes a prompt about money", reply(400, error("Invalid 'messages[0]': 'insufficient funds on my account'")), REJECT, "rejected"),
    ("400 incorrect model id", reply(400, error("Incorrect model ID. Please request to view the available models", None)), STOP_MODEL, "model_not_found"),
    ("400 no channel by code", reply(400, error("x", "no_available_channel")), STOP_MODEL, "model_not_found"),
    ("400 model not exist", reply(400, error("Model Not Exist", "invalid_request_error")), STOP_MODEL, "model_not_found"),
    ("400 not a valid model", reply(400, error("gpt-x is not a valid model ID", 400)), STOP_MODEL, "model_not_found"),
    ("400 content filter", reply(400, error("The response was filtered due to the prompt triggering Azure OpenAI's content management policy.", "content_filter")), REJECT, "content_filter"),
    ("400 content filter by its words", reply(400, error("Output blocked by content filtering policy")), REJECT, "content_filter"),
    ("400 content in Chinese", reply(400, error("输入内容包含敏感词", "sensitive_words_detected")), REJECT, "content_filter"),
    ("400 too long", reply(400, error("This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.", "context_length_exceeded")), REJECT, "context_length"),
    ("400 too long, Claude", reply(400, error("prompt is too long: 210000 tokens > 200000 maximum")), REJECT, "context_length"),
    ("400 too long, llama.cpp", reply(400, {"error": {"code": 400, "message": "the request exceeds the available context size", "type": "exceed_context_size_error"}}), REJECT, "context_length"),
    ("400 too long, Qwen", reply(400, error("Range of input length should be [1, 6000]")), REJECT, "context_length"),
    ("400 Claude's balance", reply(400, error("Your credit balance is too low to access the Anthropic API")), STOP_RUN, "no_balance"),
    # 401: stop the run
    ("401 wrong key", reply(401, error(f"Incorrect API key provided: {KEY}", "invalid_api_key")), STOP_RUN, "invalid_key"),
    ("401 no key", reply(401, {"error": "unauthorized"}), STOP_RUN, "invalid_key"),
    ("401 without a body", reply(401), STOP_RUN, "invalid_key"),
    ("401 key expired, in Chinese", reply(401, error("该令牌已过期", "", type="one_api_error")), STOP_RUN, "invalid_key"),
    ("401 key used up, in Chinese", reply(401, error("该令牌额度已用尽")), STOP_RUN, "no_balance"),
    # 401/403: the key is fine, the model is not
    ("401 model access denied", reply(401, error("Model access denied")), STOP_MODEL, "model_denied"),
    ("403 model access denied", reply(403, error("Model access denied", "model_access_denied")), STOP_MODEL, "model_denied"),
    ("403 no access to the model", reply(403, error("The model `x` does not exist or you do not have access to it", "model_not_found")), STOP_MODEL, "model_denied"),
    ("401 not authorized", reply(401, error("You are not authorized to access the requested model")), STOP_MODEL, "model_denied"),
    ("403 model denied in Chinese", reply(403, error("该令牌无权使用模型：gpt-4o")), STOP_MODEL, "model_denied"),
    # 402, 403, 429: no money
    ("402", reply(402, error("Payment required")), STOP_RUN, "no_balance"),
    ("402 without a body", reply(402), STOP_RUN, "no_balance"),
    ("403 insufficient_user_quota", reply(403, error("x", "insufficient_user_quota")), STOP_RUN, "no_balance"),
    ("403 balance without a code", reply(403, {"error": {"message": "Your balance is insufficient"}}), STOP_RUN, "no_balance"),
    ("403 balance in Chinese", reply(403, error("用户余额不足，请充值")), STOP_RUN, "no_balance"),
    ("403 quota in Chinese", reply(403, error("预扣费额度失败, 用户剩余额度: ＄0.02")), STOP_RUN, "no_balance"),
    ("429 insufficient_quota", reply(429, error("You exceeded your current quota, please check your plan and billing details.", "insufficient_quota")), STOP_RUN, "no_balance"),
    ("429 credit_balance_exhausted", reply(429, error("x", "credit_balance_exhausted")), STOP_RUN, "no_balance"),
    ("429 spend limit", reply(429, error("You have reached your spend limit")), STOP_RUN, "no_balance"),
    ("429 quota, Gemini, which means throttled", reply(429, [{"error": {"code": 429, "message": "You exceeded your current quota. Please retry in 7.3s.", "status": "RESOURCE_EXHAUSTED"}}]), PAUSE, "throttled"),
    # 403: suspended, IP not allowed
    ("403 suspended", reply(403, error("Your account has been suspended")), STOP_RUN, "account_blocked"),
    ("403 banned, in Chinese", reply(403, error("用户已被封禁")), STOP_RUN, "account_blocked"),
    ("403 ip", reply(403, error("IP 1.2.3.4 is not allowed")), STOP_RUN, "account_blocked"),
    ("403 ip, in Chinese", reply(403, error("您的 IP 不在令牌允许访问的列表中")), STOP_RUN, "account_blocked"),
    ("403 country", reply(403, error("Country, region, or territory not supported", "unsupported_country_region_territory")), STOP_RUN, "account_blocked"),
    ("403 the user's text", reply(403, error("user input blocked by content policy")), REJECT, "content_filter"),
    ("403 something else", reply(403, error("no")), REJECT, "rejected"),
    # 404 model_retired, 410
    ("404 retired", reply(404, error("The model was retired; use gpt-5", "model_retired")), STOP_MODEL, "model_retired"),
    ("404 retired by its words", reply(404, error("The model `text-davinci-003` has been deprecated, learn more here")), STOP_MODEL, "model_retired"),
    ("404 unknown model, vLLM", reply(404, {"object": "error", "message": "The model `x` does not exist.", "type": "NotFoundError", "code": 404}), STOP_MODEL, "model_not_found"),
    ("404 unknown model, Ollama", reply(404, {"error": {"message": 'model "x" not found, try pulling it first'}}), STOP_MODEL, "model_not_found"),
    ("404 path, FastAPI", reply(404, {"detail": "Not Found"}), REJECT, "rejected"),
    ("404 web page", page(404), RETRY, "web_page"),
    ("410", reply(410, error("gone")), STOP_MODEL, "model_retired"),
    # passing trouble
    *((str(status), reply(status, error("Upstream error")), RETRY, "server_error") for status in (408, 409, 500, 502, 504, *range(520, 527))),
    ("502 web page", page(502), RETRY, "server_error"),
    ("503 web page", page(503), RETRY, "server_error"),
    ("500 that speaks of a limit", reply(500, error("rate limit of the upstream")), RETRY, "server_error"),
    ("529", reply(529, error("Overloaded", "overloaded_error")), RETRY, "overloaded"),
    ("dropped connection", Closing(b""), RETRY, "connection"),
    ("time-out", None, RETRY, "timeout"),
    ("500 cut off", Closing(reply(500, error("x"))[:-9]), RETRY, "cut_off"),
    # 413, 422: this row
    ("413", reply(413, error("Request too large")), REJECT, "rejected"),
    ("422 FastAPI", reply(422, {"detail": [{"loc": ["body", "x"], "msg": "field required"}]}), REJECT, "rejected"),
    ("418 unknown", reply(418, error("teapot")), REJECT, "rejected"),
    ("451", reply(451, error("no")), REJECT, "content_filter"),
    # 429: throttled
    ("429 too many", reply(429, error("Too many requests")), PAUSE, "throttled"),
    ("429 by provider", reply(429, error("rate limited by provider", 429)), PAUSE, "throttled"),
    ("429 slow down", reply(429, error("x", "slow_down")), PAUSE, "throttled"),
    ("429 without a body", reply(429), PAUSE, "throttled"),
    ("429 web page", page(429), PAUSE, "throttled"),
    ("429 in Chinese", reply(429, error("请求过于频繁，请稍后再试")), PAUSE, "throttled"),
    ("429 cut off", Closing(reply(429, error("Too many requests"))[:-9]), PAUSE, "throttled"),
    # 501: endpoint not offered
    ("501", reply(501, error("Not implemented")), STOP_RUN, "not_offered"),
    # 503 has two meanings
    ("503 throttled", reply(503, error("Rate limited by provider, please try later")), PAUSE, "throttled"),
    ("503 overloaded", reply(503, error("x", "server_is_overloaded")), PAUSE, "throttled"),
    ("503 overloaded, in Chinese", reply(503, error("当前分组上游负载已饱和，请稍后再试")), PAUSE, "throttled"),
    ("503 bad model id", reply(503, error("Incorrect model ID. Please check")), STOP_MODEL, "model_not_found"),
    ("503 no channel", reply(503, error("No available channel for model x under group default")), STOP_MODEL, "model_not_found"),
    ("503 no channel, in Chinese", reply(503, error("当前分组 default 下对于模型 x 无可用渠道")), STOP_MODEL, "model_not_found"),
    ("503 alone", reply(503, b"upstream connect error"), RETRY, "server_error"),
    # 200 with HTML
    ("200 web page", page(200), RETRY, "web_page"),
    ("200 web page that says it is JSON", reply(200, b"\xef\xbb\xbf\n <html>"), RETRY, "web_page"),
    ("200 text that says it is a web page", reply(200, b"ok", kind="text/html"), RETRY, "web_page"),
    # 200 with an error: as the matching row, by its code and message
    ("200 balance by code", reply(200, error("x", "insufficient_user_quota")), STOP_RUN, "no_balance"),
    ("200 balance by its words", reply(200, error("用户额度不足")), STOP_RUN, "no_balance"),
    ("200 status as integer: 429", reply(200, error("busy", 429)), PAUSE, "throttled"),
    ("200 status as text: 401", reply(200, error("busy", "401")), STOP_RUN, "invalid_key"),
    ("200 status as integer: 400", reply(200, error("bad", 400)), REJECT, "rejected"),
    ("200 status as integer: 502", reply(200, {"error": {"message": "x", "code": 502}}), RETRY, "server_error"),
    ("200 wrong key", reply(200, error("Incorrect API key provided", "invalid_api_key")), STOP_RUN, "invalid_key"),
    ("200 no channel", reply(200, error("No available channel for model x")), STOP_MODEL, "model_not_found"),
    ("200 throttled", reply(200, error("Too many requests")), PAUSE, "throttled"),
    ("200 an error else", reply(200, error("something")), RETRY, "server_error"),
    ("200 an error as text", reply(200, {"error": "something"}), RETRY, "server_error"),
    ("200 a message alone", reply(200, {"code": 0, "message": "something", "data": None}), RETRY, "server_error"),
    ("200 an error beside choices", reply(200, {**GOOD, "error": {"message": "broke"}}), RETRY, "server_error"),
    # 200 with the text of the trap
    ("200 the trap", answer({"role": "assistant", "content": UNFUNDED}), STOP_RUN, "no_balance"),
    ("200 the trap, in parts", answer({"content": [{"type": "text", "text": UNFUNDED}]}), STOP_RUN, "no_balance"),
    # 200 with no choices, cut off, bad or empty JSON
    ("200 empty choices", reply(200, {**GOOD, "choices": []}), RETRY, "bad_answer"),
    ("200 without choices", reply(200, {"id": "x"}), RETRY, "bad_answer"),
    ("200 choices of another kind", reply(200, {**GOOD, "choices": ["x"]}), RETRY, "bad_answer"),
    ("200 a choice with nothing in it", reply(200, {**GOOD, "choices": [{"index": 0}]}), RETRY, "bad_answer"),
    ("200 cut off inside", reply(200, json.dumps(GOOD).encode()[:60]), RETRY, "bad_answer"),
    ("200 cut off outside", Closing(reply(200, GOOD)[:-9]), RETRY, "cut_off"),
    ("200 too large", reply(200, b" " * 100_001), REJECT, "too_large"),
    ("200 nothing", reply(200), RETRY, "empty"),
    ("204", b"HTTP/1.1 204 X\r\n\r\n", RETRY, "empty"),
    ("200 a number", reply(200, b"17"), RETRY, "bad_answer"),
    ("200 text", reply(200, b"upstream", kind="text/plain"), RETRY, "bad_answer"),
    # what the table leaves out
    ("301", reply(301, b"", "Location: https://elsewhere.example/v1"), STOP_RUN, "redirect"),
    ("308 without a place", reply(308), STOP_RUN, "redirect"),
    ("407", reply(407, PAGE), STOP_RUN, "proxy"),
    ("999", reply(999, error("x")), RETRY, "server_error"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "answered", "following", "kind"), TABLE, ids=[row[0] for row in TABLE])
async def test_each_row_of_the_error_table(wire: Wire, name: str, answered: Reply, following: Next, kind: str) -> None:
    heard = await wire.exchange(answered, total_s=30 if answered else 0.05)
    outcome = judge(heard)
    assert isinstance(outcome, Failure), outcome
    assert (outcome.next, outcome.type) == (following, kind)
    assert outcome.message
    assert outcome.message.isprintable()
    assert KEY not in repr(outcome)
    assert judge(heard) == outcome


MESSAGES: list[tuple[bytes, str, str | None]] = [
    (reply(401, error("bad\n key\x1b[31m")), "bad key[31m (tid: 2026112300000001); set the key in the environment variable, then give the same command again", None),
    (reply(500, error("x" * 5000, "c" * 5000)), "x" * 499 + "…", "c" * 100),
    (reply(500, error("x", 1234)), "x (tid: 2026112300000001)", "1234"),
    (reply(500, {"error": {"message": "x", "type": "kind"}}), "x", "kind"),
    (reply(500, {"error": {"message": {"a": 1}}}), '{"a": 1}', None),
    (reply(500, {"error": ["first", "second"]}), "first", None),
    (reply(500, {"code": "c", "msg": "x"}), "x", "c"),
    (reply(500, b"no healthy\r\nupstream"), "no healthy upstream", None),
    (reply(500, PAGE), "HTTP 500 with a web page", None),
    (reply(500), "HTTP 500 without a message", None),
    (reply(500, {}), "{}", None),
    (reply(500, b'{"error":{"message":"a\\ud800b"}}'), "a?b", None),
    (page(200), "this base_url answers a web page; did you leave out /v1?", None),
    (reply(307, b"", "Location: /v1/\x1b[2Jx".replace("\x1b", "")), "base_url redirects to /v1/[2Jx; put the right address into the job", None),
    (reply(402, error("Pay")), "Pay (tid: 2026112300000001); top up the account, then give the same command again", None),
    (reply(200), "the answer is empty", None),
    (reply(200, {"id": 1}), "the answer has no choices", None),
]  # fmt: skip


@pytest.mark.parametrize(("answered", "message", "code"), MESSAGES)
async def test_a_failure_says_in_one_line_what_the_provider_said_and_what_to_do(
    wire: Wire, answered: bytes, message: str, code: str | None
) -> None:
    outcome = judge(await wire.exchange(answered))
    assert isinstance(outcome, Failure)
    assert (outcome.message, outcome.code) == (message, code)


# Answers

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
    ("of the wrong types", json.dumps({"model": "gpt-4o-mini-2024", "choices": [{"message": {"content": 7, "refusal": [], "reasoning": {}}, "finish_reason": 1}], "usage": "none"}).encode(), Completion()),
    ("of a long text that quotes the trap", good(content=f"The terms say: {UNFUNDED} " + "And more. " * 60), Completion(f"The terms say: {UNFUNDED} " + "And more. " * 60, finish_reason="stop", usage=USAGE)),
    ("of a short text about it", good(content="Accounts must be recharged."), Completion("Accounts must be recharged.", finish_reason="stop", usage=USAGE)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "body", "expected"), ANSWERS, ids=[row[0] for row in ANSWERS])
async def test_an_odd_answer_is_taken_apart_and_kept_whole(
    wire: Wire, name: str, body: bytes, expected: Completion
) -> None:
    outcome = judge(await wire.exchange(reply(200, body, "X-Aihubmix-Model: billed")))
    assert isinstance(outcome, Completion), outcome
    assert outcome.served_model == "billed"
    named = judge(Exchange(0, 0, 0.0, 200, body))
    assert isinstance(named, Completion)
    assert named.served_model == "gpt-4o-mini-2024"
    fields = ("response", "reasoning", "refusal", "tool_calls", "finish_reason", "usage")
    assert [getattr(outcome, field) for field in fields] == [getattr(expected, field) for field in fields]


@pytest.mark.parametrize(
    ("path", "body", "response"),
    [
        ("/completions", {"choices": [{"text": "Paris", "finish_reason": "stop"}]}, "Paris"),
        ("/responses", {"output": [{"type": "reasoning", "content": [{"text": "hm"}]}, {"type": "message", "content": [{"type": "output_text", "text": "Pa"}, {"text": "ris"}]}]}, "Paris"),
        ("/embeddings", {"data": [{"embedding": [0.1]}]}, None),
        ("/rerank", {"results": []}, None),
    ],
)  # fmt: skip
def test_other_endpoints_are_answered_by_their_own_shapes(path: str, body: object, response: str | None) -> None:
    outcome = judge(Exchange(0, 0, 0.0, 200, json.dumps(body).encode()), path)
    assert isinstance(outcome, Completion)
    assert outcome.response == response
    refused = judge(Exchange(0, 0, 0.0, 200, b'{"error":{"message":"x","code":"insufficient_quota"}}'), path)
    assert isinstance(refused, Failure)
    assert refused.type == "no_balance"


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, Usage()),
        ({}, Usage()),
        ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, Usage(0, 0, 0)),
        ({"prompt_tokens": 150.0, "completion_tokens": 2, "total_tokens": 152}, Usage(150, 2, 152)),
        ({"prompt_tokens": 2**70, "completion_tokens": -1, "total_tokens": "9"}, Usage()),
        ({"prompt_tokens": 1.5, "completion_tokens": True, "total_tokens": 1e400}, Usage()),
        ({"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11, "prompt_tokens_details": {"cached_tokens": 3}, "completion_tokens_details": {"reasoning_tokens": 2}}, Usage(5, 6, 11, 3, 2)),
        ({"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11, "prompt_tokens_details": None, "completion_tokens_details": {}}, Usage(5, 6, 11)),
        ({"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11, "prompt_tokens_details": {"cached_tokens": 0}, "claude_cache_tokens_details": {"cache_creation_input_tokens": 4, "cache_read_input_tokens": 3}}, Usage(5, 6, 11, 3)),
        ({"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11, "prompt_cache_hit_tokens": 4, "prompt_cache_miss_tokens": 1}, Usage(5, 6, 11, 4)),
        ({"input_tokens": 5, "output_tokens": 6, "total_tokens": 11}, Usage(5, 6, 11)),
    ],
)  # fmt: skip
def test_usage_is_what_the_provider_said_or_null(usage: object, expected: Usage) -> None:
    outcome = judge(Exchange(0, 0, 0.0, 200, json.dumps({**GOOD, "usage": usage}).encode()))
    assert isinstance(outcome, Completion)
    assert outcome.usage == expected


# Whatever comes

NAMES = ["error", "errors", "choices", "message", "content", "usage", "code", "type", "detail", "model", "text", "output", "finish_reason", "tool_calls", "reasoning_details", "prompt_tokens", "total_tokens", "prompt_tokens_details", "cached_tokens"]  # fmt: skip
values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text() | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=12,
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A good answer in which one value is another, one byte is another, or the end is missing."""
    found: Any = json.loads(json.dumps(GOOD))
    place = found
    for step in draw(st.sampled_from([[], ["choices"], ["choices", 0], ["choices", 0, "message"], ["usage"]])):
        place = place[step]
    place[0 if isinstance(place, list) else draw(st.sampled_from(NAMES))] = draw(values)
    body = json.dumps(found).encode()
    at = draw(st.integers(0, len(body)))
    return draw(st.sampled_from([body, body[:at], body[:at] + bytes([draw(st.integers(0, 255))]) + body[at + 1 :]]))


bodies = st.one_of(st.binary(max_size=100), values.map(lambda value: json.dumps(value).encode()), mutated())
deep = st.sampled_from([b"[" * 100_000, b'{"choices":' * 50_000, b'{"a":' * 5000 + b"1" + b"}" * 5000])
paths = st.sampled_from(["/chat/completions", "/completions", "/embeddings", "/responses"])
faults = st.sampled_from([None, None, "cut_off", "timeout", "too_large"])


@given(bodies | deep, st.sampled_from([200, 200, 200, 201, 302, 400, 401, 403, 404, 429, 500, 503, 599]), paths, faults)
def test_no_body_breaks_the_judge(body: bytes, status: int, path: str, fault: str | None) -> None:
    heard = Exchange(0, 0, 0.0, status, body, fault=fault, fault_message="it broke" if fault else "")
    outcome = judge(heard, path)
    assert outcome == judge(heard, path)
    if isinstance(outcome, Failure):
        assert outcome.message.isprintable()
        assert outcome.type.isidentifier()
        return
    assert 200 <= status < 300
    assert fault in {None, "cut_off"}
    texts = (outcome.response, outcome.reasoning, outcome.refusal, outcome.tool_calls, outcome.finish_reason)
    for text in (*texts, outcome.served_model):
        assert text is None or text.encode() is not None
    usage = outcome.usage
    for count in (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens, usage.cached_tokens):
        assert count is None or 0 <= count < 2**63
