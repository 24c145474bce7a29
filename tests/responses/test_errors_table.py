"""The gateway's table of errors, line by line, each received over a socket.

A row has the response and its classification: the action, the error type, the provider's code.
"""

from __future__ import annotations

import json

import pytest

from batchmix.records import Completion, Failure
from batchmix.responses.classify import classify
from tests.wire import GOOD, KEY, Closing, Reply, Wire, error, follows, page, reply

UNFUNDED = (
    "To prevent abuse of free resources, accounts that have not been recharged can only try 10 times. Please recharge."
)
NO_CHANNEL = "retry, at first stop_model"
NO_PATH = "retry 3, at first stop_path"
BUSY = "retry, between answers pause"
WRONG_ADDRESS = "retry, at first stop_run"
Row = tuple[str, Reply, str, str, str | None]


def trap(**message: object) -> bytes:
    return reply(200, {**GOOD, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})


TABLE: list[Row] = [
    # 400: a parameter the model refuses; bad content; "Incorrect model ID…"; no_available_channel
    ("400 refused parameter", reply(400, error("Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.", "unsupported_parameter", param="max_tokens")), "reject", "refused_parameter", "unsupported_parameter"),
    ("400 bad content", reply(400, error("Invalid value: 'sytem'. Supported values are: 'system', 'user'", "invalid_value")), "reject", "rejected", "invalid_value"),
    ("400 without a code", reply(400, {"error": {"message": "Invalid 'messages[0].content'"}}), "reject", "rejected", None),
    ("400 code null", reply(400, error("bad")), "reject", "rejected", None),
    ("400 code an integer", reply(400, error("bad", 400)), "reject", "rejected", "400"),
    ("400 filtered", reply(400, error("The prompt triggered the content management policy", "content_filter")), "reject", "content_filter", "content_filter"),
    ("400 filtered, by its words", reply(400, error("Output blocked by content filtering policy")), "reject", "content_filter", None),
    ("400 too long", reply(400, error("This model's maximum context length is 8192 tokens", "context_length_exceeded")), "reject", "context_length", "context_length_exceeded"),
    ("400 bad model id", reply(400, error("Incorrect model ID. Please request to view the available models")), "stop_model", "model_not_found", None),
    ("400 no channel", reply(400, error("x", "no_available_channel")), "stop_model", "model_not_found", "no_available_channel"),
    # 401: no key, wrong key, key used up or expired
    ("401 no key", reply(401, error("Unauthorized – no access token supplied; please log in and include a valid token.")), "stop_run", "invalid_key", None),
    ("401 wrong key, which it repeats", reply(401, error(f"Incorrect API key provided: {KEY}", "invalid_api_key")), "stop_run", "invalid_key", "invalid_api_key"),
    ("401 expired", reply(401, error("Unauthorized – access token is invalid or expired.")), "stop_run", "invalid_key", None),
    ("401 expired, in Chinese", reply(401, error("该令牌已过期")), "stop_run", "invalid_key", None),
    ("401 used up", reply(401, error("该令牌额度已用尽")), "stop_run", "no_balance", None),
    ("401 without a body", reply(401), "stop_run", "invalid_key", None),
    ("401 as text", reply(401, {"error": "unauthorized"}), "stop_run", "invalid_key", None),
    # 401/403 "Model access denied", "does not exist or you do not have access", "not authorized to access the requested model"
    ("401 model denied", reply(401, error("Model access denied")), "stop_model", "model_denied", None),
    ("403 model denied", reply(403, error("Model access denied", "model_access_denied")), "stop_model", "model_denied", "model_access_denied"),
    ("403 no access", reply(403, error("The model `x` does not exist or you do not have access to it", "model_not_found")), "stop_model", "model_denied", "model_not_found"),
    ("403 not authorized", reply(403, error("Forbidden – key 1a2b3c not authorized to access the requested model.")), "stop_model", "model_denied", None),
    ("403 model denied, in Chinese", reply(403, error("该令牌无权使用模型：gpt-4o")), "stop_model", "model_denied", None),
    # 402; 403 insufficient_user_quota or "balance is insufficient" (code often missing); 429 insufficient_quota,
    # credit_balance_exhausted, spend limits
    ("402", reply(402, error("Payment required")), "stop_run", "no_balance", None),
    ("402 without a body", reply(402), "stop_run", "no_balance", None),
    ("403 by code", reply(403, error("x", "insufficient_user_quota")), "stop_run", "no_balance", "insufficient_user_quota"),
    ("403 without a code", reply(403, {"error": {"message": "Your account balance is insufficient. Please recharge."}}), "stop_run", "no_balance", None),
    ("403 in Chinese, balance", reply(403, error("用户余额不足，需要充值")), "stop_run", "no_balance", None),
    ("403 in Chinese, what it reserves", reply(403, error("预扣费额度失败, 用户剩余额度: ＄0.02, 需要预扣费额度: ＄0.03")), "stop_run", "no_balance", None),
    ("429 insufficient_quota", reply(429, error("You exceeded your current quota, please check your plan and billing details.", "insufficient_quota")), "stop_run", "no_balance", "insufficient_quota"),
    ("429 the same without a code", reply(429, error("You exceeded your current quota, please check your plan and billing details.")), "stop_run", "no_balance", None),
    ("429 credit", reply(429, error("x", "credit_balance_exhausted")), "stop_run", "no_balance", "credit_balance_exhausted"),
    ("429 spend limit", reply(429, error("You have reached your spend limit")), "stop_run", "no_balance", None),
    # 403 suspended, IP not allowed
    ("403 suspended", reply(403, error("Account suspended.")), "stop_run", "account_blocked", None),
    ("403 suspended, in Chinese", reply(403, error("用户已被封禁")), "stop_run", "account_blocked", None),
    ("403 address", reply(403, error("Forbidden – key 1a2b3c allowed only from approved IP ranges.")), "stop_run", "account_blocked", None),
    ("403 address, in Chinese", reply(403, error("该令牌只能在指定网段使用")), "stop_run", "account_blocked", None),
    # 404 model_retired, 410
    ("404 retired", reply(404, error("The model was retired; use gpt-5", "model_retired")), "stop_model", "model_retired", "model_retired"),
    ("404 retired, by its words", reply(404, error("The model `text-davinci-003` has been deprecated")), "stop_model", "model_retired", None),
    ("410", reply(410, error("gone")), "stop_model", "model_retired", None),
    # 408, 409, 500, 502, 504, 520–526, 529, dropped connection, time-out
    *((str(status), reply(status, error("Upstream error")), "retry", "server_error", None) for status in (408, 409, 500, 502, 504, *range(520, 527))),
    ("529", reply(529, error("Overloaded", "overloaded_error")), BUSY, "overloaded", "overloaded_error"),
    ("500 that speaks of a limit", reply(500, error("rate limit of the upstream")), "pause", "throttled", None),
    ("502 web page", page(502), "retry", "server_error", None),
    ("dropped before the answer", Closing(b""), "retry, at first stop_run", "connection", None),
    ("reset before the answer", Closing(b"", reset=True), "retry, at first stop_run", "connection", None),
    ("dropped in the headers", Closing(reply(200, GOOD)[:20]), "retry, at first stop_run", "connection", None),
    ("dropped in the answer", Closing(reply(200, GOOD)[:-9]), "retry", "cut_off", None),
    ("dropped in the error", Closing(reply(500, error("x"))[:-9]), "retry", "cut_off", None),
    ("time-out", None, "retry", "timeout", None),
    ("time-out in the answer", reply(200, GOOD)[:-9], "retry", "timeout", None),
    # 413, 422
    ("413", reply(413, error("Request too large")), "reject", "rejected", None),
    ("422", reply(422, {"detail": [{"loc": ["body", "x"], "msg": "field required"}]}), "reject", "rejected", None),
    # 429 "Too many requests", "rate limited by provider", slow_down
    ("429", reply(429, error("The gpt-4o model Too many requests; please try again later.")), "pause", "throttled", None),
    ("429 by provider", reply(429, error("rate limited by provider", 429)), "pause", "throttled", "429"),
    ("429 slow down", reply(429, error("x", "slow_down")), "pause", "throttled", "slow_down"),
    ("429 in Chinese", reply(429, error("请求过于频繁，请稍后再试")), "pause", "throttled", None),
    ("429 without a body", reply(429), "pause", "throttled", None),
    ("429 web page", page(429), "pause", "throttled", None),
    ("429 dropped in the body", Closing(reply(429, error("Too many requests"))[:-9]), "pause", "throttled", None),
    # 501
    ("501", reply(501, error("API not implemented", "api_not_implemented")), NO_PATH, "not_offered", "api_not_implemented"),
    # 503: throttled, or no such model: read the message
    ("503 throttled", reply(503, error("Rate limited by provider – contact support to request higher concurrency or try again later.")), "pause", "throttled", None),
    ("503 overloaded", reply(503, error("x", "server_is_overloaded")), "pause", "throttled", "server_is_overloaded"),
    ("503 throttled, in Chinese", reply(503, error("当前分组上游负载已饱和，请稍后再试")), "pause", "throttled", None),
    ("503 bad model id", reply(503, error("Incorrect model ID. Please request to view the model page or you do not have permission to use this model")), NO_CHANNEL, "model_not_found", None),
    ("503 no channel", reply(503, error("No available channel for model x under group default")), NO_CHANNEL, "model_not_found", None),
    ("503 no channel, in Chinese", reply(503, error("当前分组 default 下对于模型 x 无可用渠道")), NO_CHANNEL, "model_not_found", None),
    ("503 neither", reply(503, b"upstream connect error"), BUSY, "server_error", None),
    ("503 web page", page(503), BUSY, "server_error", None),
    # 200 with HTML, by its type or by its first byte
    ("200 web page", page(200), WRONG_ADDRESS, "web_page", None),
    ("200 web page that says it is JSON", reply(200, b"\xef\xbb\xbf\n <html>"), WRONG_ADDRESS, "web_page", None),
    ("200 text that says it is a web page", reply(200, b"ok", kind="text/html"), WRONG_ADDRESS, "web_page", None),
    ("404 web page", page(404), WRONG_ADDRESS.replace("retry", "retry 3"), "web_page", None),
    # 200 with {"error"}: by its code and message, otherwise transient
    ("200 balance", reply(200, error("x", "insufficient_user_quota")), "stop_run", "no_balance", "insufficient_user_quota"),
    ("200 balance, in Chinese", reply(200, error("用户额度不足")), "stop_run", "no_balance", None),
    ("200 wrong key", reply(200, error("Incorrect API key provided", "invalid_api_key")), "stop_run", "invalid_key", "invalid_api_key"),
    ("200 no channel", reply(200, error("No available channel for model x")), "stop_model", "model_not_found", None),
    ("200 throttled", reply(200, error("Too many requests")), "pause", "throttled", None),
    ("200 with the status 429", reply(200, error("busy", 429)), "pause", "throttled", "429"),
    ("200 with the status 401 as text", reply(200, error("busy", "401")), "stop_run", "invalid_key", "401"),
    ("200 with the status 400", reply(200, error("bad", 400)), "reject", "rejected", "400"),
    ("200 with the status 502", reply(200, {"error": {"message": "x", "code": 502}}), "retry", "server_error", "502"),
    ("200 an error else", reply(200, error("something")), "retry 3", "unknown", None),
    ("200 an error as text", reply(200, {"error": "something"}), "retry 3", "unknown", None),
    ("200 a message alone", reply(200, {"code": 0, "message": "something", "data": None}), "retry 3", "unknown", "0"),
    ("200 an error beside choices", reply(200, {**GOOD, "error": {"message": "broke"}}), "retry 3", "unknown", None),
    ("200 an error of nothing", reply(200, {"error": {}}), "retry", "bad_answer", None),
    ("200 ended with an error", reply(200, {**GOOD, "choices": [{"message": {"content": "Par"}, "finish_reason": "error"}]}), "retry 3", "bad_answer", None),
    *((f"200 ended with {reason}", reply(200, {**GOOD, "choices": [{"message": {"content": "Par"}, "finish_reason": reason}]}), "retry 3", "bad_answer", None) for reason in ("abort", "network_error", "insufficient_system_resource", "ERROR", "Error", "canceled", "failed", "MALFORMED_FUNCTION_CALL", "server_error", "upstreamTimeout", "overloaded", "rate_limit", " error ")),
    ("200 ended with an error that it names", reply(200, {**GOOD, "choices": [{"message": {"content": "Par"}, "finish_reason": "error", "error": {"code": 502, "message": "Upstream error"}}]}), "retry", "server_error", "502"),
    ("200 ended with a limit", reply(200, {**GOOD, "choices": [{"message": {"content": ""}, "finish_reason": "error", "error": {"code": 429, "message": "busy"}}]}), "pause", "throttled", "429"),
    ("200 a message and its status", reply(200, {"message": "Service Unavailable", "code": 503}), BUSY, "server_error", "503"),
    ("200 a message and its status, as NestJS and Azure's gateway have it", reply(200, {"statusCode": 429, "message": "Rate limit is exceeded. Try again in 20 seconds."}), "pause", "throttled", "429"),
    ("200 a message and its status, in another spelling", reply(200, {"message": "no", "status_code": "503"}), BUSY, "server_error", "503"),
    ("200 FastAPI, text", reply(200, {"detail": "Rate limit exceeded"}), "pause", "throttled", None),
    ("200 FastAPI, a list", reply(200, {"detail": [{"loc": ["body", "x"], "msg": "field required"}]}), "retry 3", "unknown", None),
    ("200 a stream of an error", reply(200, b'data: {"error": {"message": "Too many requests", "code": 429}}\n\n'), "pause", "throttled", "429"),
    ("200 a stream without its end", reply(200, b'data: {"choices": [{"index": 0, "delta": {"content": "Par"}}]}\n\n'), "retry", "bad_answer", None),
    # 200 that says that the prompt was blocked
    ("200 Gemini's block", reply(200, {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {}}), "reject", "content_filter", "prompt_blocked"),
    ("200 the same behind a gateway", reply(200, {**GOOD, "choices": [], "prompt_feedback": {"block_reason": "SAFETY"}}), "reject", "content_filter", "prompt_blocked"),
    ("200 Gemini's ratings", reply(200, {**GOOD, "choices": [], "promptFeedback": {"safetyRatings": [{"category": "HARM_CATEGORY_HARASSMENT", "probability": "HIGH", "blocked": True}]}}), "reject", "content_filter", "prompt_blocked"),
    ("200 Azure's block", reply(200, {**GOOD, "choices": [], "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": {"hate": {"filtered": False}, "jailbreak": {"filtered": True, "detected": True}}}]}), "reject", "content_filter", "prompt_blocked"),
    ("200 Azure's filters, which let it pass", reply(200, {**GOOD, "choices": [], "prompt_filter_results": [{"content_filter_results": {"hate": {"filtered": False}}}]}), "retry 3", "bad_answer", None),
    # 200 with the text of a blocked prompt
    ("200 the trap", trap(role="assistant", content=UNFUNDED), "stop_run", "no_balance", None),
    ("200 the trap, in parts", trap(content=[{"type": "text", "text": UNFUNDED}]), "stop_run", "no_balance", None),
    # 200 with no choices, cut off, bad or empty JSON
    ("200 empty choices", reply(200, {**GOOD, "choices": []}), "retry 3", "bad_answer", None),
    ("200 without choices", reply(200, {"id": "x"}), "retry", "bad_answer", None),
    ("200 choices of another kind", reply(200, {**GOOD, "choices": ["x"]}), "retry 3", "bad_answer", None),
    ("200 nulls for choices", reply(200, {**GOOD, "choices": [None]}), "retry 3", "bad_answer", None),
    ("200 a null message", reply(200, {**GOOD, "choices": [{"index": 0, "message": None, "finish_reason": "stop"}]}), "retry 3", "bad_answer", None),
    ("200 a choice with nothing in it", reply(200, {**GOOD, "choices": [{"index": 0}]}), "retry 3", "bad_answer", None),
    ("200 cut off inside", reply(200, json.dumps(GOOD).encode()[:60]), "retry", "bad_answer", None),
    ("200 a number", reply(200, b"17"), "retry", "bad_answer", None),
    ("200 text", reply(200, b"upstream", kind="text/plain"), "retry", "bad_answer", None),
    ("200 nothing", reply(200), "retry", "empty", None),
    ("204", b"HTTP/1.1 204 X\r\n\r\n", "retry", "empty", None),
    # cases beyond the table
    ("200 too large", reply(200, b" " * 100_001), "reject", "too_large", None),
    ("301", reply(301, b"", "Location: https://elsewhere.example/v1"), WRONG_ADDRESS, "redirect", None),
    ("308 without a place", reply(308), WRONG_ADDRESS, "redirect", None),
    ("403 else", reply(403, error("Forbidden – insufficient permissions.")), "retry 3", "unknown", None),
    ("403 web page", page(403), "retry 3", "unknown", None),
    ("404 path", reply(404, {"detail": "Not Found"}), NO_PATH, "not_found", None),
    ("405", reply(405, {"detail": "Method Not Allowed"}), NO_PATH, "not_found", None),
    ("407", page(407), "stop_run", "proxy", None),
    ("418", reply(418, error("teapot")), "retry 3", "unknown", None),
    ("451", reply(451, error("no")), "reject", "content_filter", None),
    ("999", reply(999, error("x")), "retry 3", "unknown", None),
]  # fmt: skip
TO_DO = ("top up", "set the right key", "choose", "copy the model's id", "ask the provider", "look at", "put the right address", "did you leave out /v1", "wants a user name", "must begin with https://")  # fmt: skip


@pytest.mark.parametrize(("name", "answered", "following", "kind", "code"), TABLE, ids=[row[0] for row in TABLE])
@pytest.mark.virtual_time(sockets=True)
async def test_each_line_of_the_error_table_is_classified(
    wire: Wire, name: str, answered: Reply, following: str, kind: str, code: str | None
) -> None:
    received = await wire.exchange(answered, total_s=0.3 if "time-out" in name else 30)
    outcome = classify(received)
    assert isinstance(outcome, Failure), outcome
    assert (follows(outcome), outcome.type, outcome.code) == (following, kind, code)
    assert outcome.message
    assert outcome.message.isprintable()
    assert KEY not in repr(outcome) + repr(received)
    assert ("stop" not in following) or any(advice in outcome.message for advice in TO_DO), outcome.message
    assert classify(received) == outcome


@pytest.mark.parametrize(
    "text", [f"The terms say: {UNFUNDED} " + "And more. " * 60, "Accounts must be recharged.", "请先充值。"]
)
async def test_an_answer_that_only_mentions_the_blocked_text_is_an_answer(wire: Wire, text: str) -> None:
    outcome = classify(await wire.exchange(trap(content=text)))
    assert isinstance(outcome, Completion)
    assert outcome.response == text


@pytest.mark.parametrize(
    "longer",
    [reply(200, GOOD).replace(b"Content-Length: ", b"Content-Length: 1"), reply(200, b"\xef\xbb\xbf" + json.dumps({**GOOD, "n": float("nan")}).encode()).replace(b"Content-Length: ", b"Content-Length: 1")],
    ids=["plain", "odd"],
)  # fmt: skip
@pytest.mark.parametrize("hangs", [True, False], ids=["hangs", "breaks off"])
@pytest.mark.virtual_time(sockets=True)
async def test_a_whole_body_is_an_answer_however_its_connection_ended(wire: Wire, longer: bytes, hangs: bool) -> None:
    received = await wire.exchange(longer if hangs else Closing(longer), total_s=0.3 if hangs else 30)
    assert received.fault == ("timeout" if hangs else "cut_off")
    outcome = classify(received)
    assert isinstance(outcome, Completion)
    assert outcome.response == "Paris"
