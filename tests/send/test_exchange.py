"""Every row of the error table, and the traps, as they really come over a socket."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchmix.errors import Next
from batchmix.job import Timeouts
from batchmix.records import Completion, Exchange, Failure, Request
from batchmix.redact import Secrets
from batchmix.send.classify import judge
from batchmix.send.client import Client, retry_after_s

GOOD = {
    "id": "x",
    "model": "gpt-4o-mini-2024",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Paris"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6},
}
REQUEST = Request(0, "m", 0, "h", "/chat/completions", b'{"model":"m"}', 3, None)
KEY = "sk-secret-0123456789"


def reply(status: int, body: object = b"", *headers: str, kind: str = "application/json") -> bytes:
    """Return an HTTP reply as bytes."""
    data = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    head = [f"HTTP/1.1 {status} X", f"Content-Type: {kind}", f"Content-Length: {len(data)}", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + data


def error(message: str, code: object = None) -> dict[str, object]:
    return {
        "error": {"message": f"{message} (tid: 2026112300000001)", "type": "aihubmix_error", "param": "", "code": code}
    }


@asynccontextmanager
async def answering(*replies: bytes | None, close: bool = False) -> AsyncIterator[str]:
    """Serve raw bytes, one after the other (the last one again and again); None: hang; `close`: then close."""
    left = list(replies)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    int(line.split(b":")[1])
                    for line in head.lower().split(b"\r\n")
                    if line.startswith(b"content-length")
                )
                await reader.readexactly(length)
                found = left.pop(0) if len(left) > 1 else left[0]
                if found is None:
                    await asyncio.Event().wait()
                else:
                    writer.write(found)
                    await writer.drain()
                if close:
                    break
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            if "serve" in str(task.get_coro()):
                task.cancel()


async def exchange(*replies: bytes | None, close: bool = False, **timeouts: float) -> Exchange:
    async with (
        answering(*replies, close=close) as url,
        Client(url, Secrets(KEY), Timeouts(**timeouts), 4, most_answer_bytes=100_000) as client,
    ):
        return await client.post(REQUEST)


MODEL_STOP, RUN_STOP = Next.STOP_MODEL, Next.STOP_RUN
TABLE: list[tuple[str, bytes, Next, str]] = [
    ("400 a refused parameter", reply(400, error("Unsupported parameter: max_tokens")), Next.REJECT, "rejected"),
    ("400 bad model id", reply(400, error("Incorrect model ID. Please request to view the available models")), MODEL_STOP, "model_not_found"),
    ("400 no channel", reply(400, error("x", "no_available_channel")), MODEL_STOP, "model_not_found"),
    ("400 content filter", reply(400, error("flagged", "content_filter")), Next.REJECT, "content_filter"),
    ("400 too long", reply(400, error("maximum context length is 8192 tokens", "context_length_exceeded")), Next.REJECT, "context_length"),
    ("401 wrong key", reply(401, error(f"Invalid API key: {KEY}", "invalid_api_key")), RUN_STOP, "invalid_key"),
    ("401 without a body", reply(401), RUN_STOP, "invalid_key"),
    ("401 model denied", reply(401, error("Model access denied")), MODEL_STOP, "model_denied"),
    ("403 no access to the model", reply(403, error("The model `x` does not exist or you do not have access to it")), MODEL_STOP, "model_denied"),
    ("403 not authorized", reply(403, error("You are not authorized to access the requested model")), MODEL_STOP, "model_denied"),
    ("402", reply(402, error("pay")), RUN_STOP, "no_balance"),
    ("403 quota by code", reply(403, error("x", "insufficient_user_quota")), RUN_STOP, "no_balance"),
    ("403 balance without a code", reply(403, error("Your balance is insufficient")), RUN_STOP, "no_balance"),
    ("403 balance in Chinese", reply(403, error("用户余额不足")), RUN_STOP, "no_balance"),
    ("429 no quota", reply(429, error("You exceeded your current quota", "insufficient_quota")), RUN_STOP, "no_balance"),
    ("429 no credit", reply(429, error("x", "credit_balance_exhausted")), RUN_STOP, "no_balance"),
    ("403 suspended", reply(403, error("Your account has been suspended")), RUN_STOP, "account_blocked"),
    ("403 ip", reply(403, error("IP 1.2.3.4 is not allowed")), RUN_STOP, "account_blocked"),
    ("404 retired", reply(404, error("gone", "model_retired")), MODEL_STOP, "model_retired"),
    ("410", reply(410, error("gone")), MODEL_STOP, "model_retired"),
    *((str(status), reply(status, error("trouble")), Next.RETRY, "server_error") for status in (408, 409, 500, 502, 504, 520, 526)),
    ("413", reply(413, error("too large")), Next.REJECT, "rejected"),
    ("422", reply(422, {"detail": [{"msg": "field required"}]}), Next.REJECT, "rejected"),
    ("429", reply(429, error("Too many requests")), Next.PAUSE, "throttled"),
    ("429 without a body", reply(429), Next.PAUSE, "throttled"),
    ("429 slow down", reply(429, error("x", "slow_down")), Next.PAUSE, "throttled"),
    ("501", reply(501, error("not implemented")), RUN_STOP, "not_offered"),
    ("503 throttled", reply(503, error("Rate limited by provider, try later")), Next.PAUSE, "throttled"),
    ("503 overloaded", reply(503, error("x", "server_is_overloaded")), Next.PAUSE, "throttled"),
    ("503 bad model id", reply(503, error("Incorrect model ID. Please check")), MODEL_STOP, "model_not_found"),
    ("503 no channel", reply(503, error("No available channel for model x")), MODEL_STOP, "model_not_found"),
    ("503 no channel in Chinese", reply(503, error("当前分组下对于模型 x 无可用渠道")), MODEL_STOP, "model_not_found"),
    ("503 alone", reply(503, b"upstream"), Next.RETRY, "server_error"),
    ("200 with a web page", reply(200, b"<!doctype html><html>", kind="text/html"), Next.RETRY, "web_page"),
    ("200 with a web page that says it is JSON", reply(200, b"\n <html>"), Next.RETRY, "web_page"),
    ("200 with a balance error", reply(200, error("x", "insufficient_user_quota")), RUN_STOP, "no_balance"),
    ("200 with a throttle", reply(200, error("Too many requests", 429)), Next.PAUSE, "throttled"),
    ("200 with an error", reply(200, error("something")), Next.RETRY, "server_error"),
    ("200 with an error as text", reply(200, {"error": "something"}), Next.RETRY, "server_error"),
    ("200 with no choices", reply(200, {**GOOD, "choices": []}), Next.RETRY, "bad_answer"),
    ("200 without choices", reply(200, {"id": "x"}), Next.RETRY, "bad_answer"),
    ("200 cut off inside", reply(200, json.dumps(GOOD).encode()[:60]), Next.RETRY, "bad_answer"),
    ("200 with nothing", reply(200), Next.RETRY, "empty"),
    ("200 with a number", reply(200, b"17"), Next.RETRY, "bad_answer"),
    ("301", reply(301, b"", "Location: https://elsewhere.example/v1"), RUN_STOP, "redirect"),
    ("418 unknown", reply(418, error("teapot")), Next.REJECT, "rejected"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "answer", "following", "kind"), TABLE, ids=[row[0] for row in TABLE])
async def test_each_row_of_the_error_table(name: str, answer: bytes, following: Next, kind: str) -> None:
    heard = await exchange(answer)
    assert heard.fault is None
    outcome = judge(heard, REQUEST.path)
    assert isinstance(outcome, Failure)
    assert (outcome.next, outcome.type) == (following, kind)
    assert KEY not in outcome.message
    assert outcome.message.isprintable()


async def test_the_text_for_accounts_that_never_paid_is_no_answer() -> None:
    text = "To prevent abuse of free resources, accounts that have not been recharged can only try 10 times. Please recharge."
    trap = {**GOOD, "choices": [{"message": {"content": text}, "finish_reason": "stop"}]}
    outcome = judge(await exchange(reply(200, trap)))
    assert isinstance(outcome, Failure)
    assert (outcome.next, outcome.type) == (Next.STOP_RUN, "no_balance")
    quoted = {
        **GOOD,
        "choices": [{"message": {"content": f"The terms say: {text} " + "And more. " * 60}, "finish_reason": "stop"}],
    }
    assert isinstance(judge(await exchange(reply(200, quoted))), Completion)


async def test_an_answer_is_taken_apart() -> None:
    heard = await exchange(reply(200, GOOD, "x-aihubmix-request-id: rid-7", "X-Aihubmix-Model: gpt-billed"))
    outcome = judge(heard)
    assert isinstance(outcome, Completion)
    assert (outcome.response, outcome.finish_reason, outcome.served_model) == ("Paris", "stop", "gpt-billed")
    assert (outcome.usage.prompt_tokens, outcome.usage.completion_tokens, outcome.usage.total_tokens) == (5, 1, 6)
    assert outcome.usage.cached_tokens is None
    assert heard.request_id == "rid-7"


ODD: list[tuple[str, bytes, dict[str, object]]] = [
    ("null content", json.dumps({**GOOD, "choices": [{"message": {"content": None, "refusal": "no"}}]}).encode(), {"response": None, "refusal": "no"}),
    ("tool calls", json.dumps({**GOOD, "choices": [{"message": {"tool_calls": [{"id": 1}]}}]}).encode(), {"response": None, "tool_calls": '[{"id": 1}]'}),
    ("reasoning only", json.dumps({**GOOD, "choices": [{"message": {"reasoning_content": "hm"}, "finish_reason": "length"}]}).encode(), {"reasoning": "hm", "finish_reason": "length"}),
    ("parts", json.dumps({**GOOD, "choices": [{"message": {"content": [{"type": "text", "text": "a"}, {"text": "b"}]}}]}).encode(), {"response": "ab"}),
    ("a lone surrogate", b'{"choices":[{"message":{"content":"a\\ud800b"}}]}', {"response": "a\ufffdb"}),
    ("a NUL", b'{"choices":[{"message":{"content":"a\\u0000b"}}]}', {"response": "a\0b"}),
    ("a BOM", b"\xef\xbb\xbf" + json.dumps(GOOD).encode(), {"response": "Paris"}),
    ("NaN", json.dumps(GOOD)[:-1].encode() + b',"logprobs":NaN}', {"response": "Paris"}),
    ("pretty", json.dumps(GOOD, indent=4).encode(), {"response": "Paris"}),
    ("a body that is not UTF-8", b'{"choices":[{"message":{"content":"caf\xe9"}}]}', {"response": "caf\ufffd"}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "body", "expected"), ODD, ids=[row[0] for row in ODD])
async def test_odd_answers_are_answers(name: str, body: bytes, expected: dict[str, object]) -> None:
    outcome = judge(await exchange(reply(200, body)))
    assert isinstance(outcome, Completion)
    assert {key: getattr(outcome, key) for key in expected} == expected


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, (None, None, None, None, None)),
        ({"prompt_tokens": 150.0, "completion_tokens": 2, "total_tokens": 152}, (150, 2, 152, None, None)),
        ({"prompt_tokens": 2**70, "completion_tokens": -1, "total_tokens": "9"}, (None, None, None, None, None)),
        ({"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11, "claude_cache_tokens_details": {"cache_read_input_tokens": 3}}, (5, 6, 11, 3, None)),
        ({"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11, "prompt_cache_hit_tokens": 4}, (5, 6, 11, 4, None)),
        ({"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11, "completion_tokens_details": {"reasoning_tokens": 2}}, (5, 6, 11, None, 2)),
    ],
)  # fmt: skip
def test_usage_is_what_the_provider_said_or_null(usage: object, expected: tuple[int | None, ...]) -> None:
    outcome = judge(Exchange(0, 0, 0, 200, json.dumps({**GOOD, "usage": usage}).encode()))
    assert isinstance(outcome, Completion)
    found = outcome.usage
    assert (
        found.prompt_tokens,
        found.completion_tokens,
        found.total_tokens,
        found.cached_tokens,
        found.reasoning_tokens,
    ) == expected


async def test_gzip_answers_are_read() -> None:
    body = gzip.compress(json.dumps(GOOD).encode())
    assert isinstance(judge(await exchange(reply(200, body, "Content-Encoding: gzip"))), Completion)


FAULTS: list[tuple[str, tuple[bytes | None, ...], dict[str, float], str, bool]] = [
    ("no answer in time", (None,), {"total_s": 0.2}, "timeout", True),
    ("closed without an answer", (b"",), {}, "connection", True),
    ("cut in the body", (reply(200, GOOD)[:-20],), {}, "cut_off", True),
    ("cut in the headers", (reply(200, GOOD)[:20],), {}, "connection", True),
    ("bad gzip", (reply(200, b"nonsense", "Content-Encoding: gzip"),), {}, "cut_off", True),
    ("not HTTP", (b"SSH-2.0-OpenSSH\r\n\r\n",), {}, "bad_answer", True),
    ("too large", (reply(200, b"x" * 200_000),), {}, "too_large", True),
]


@pytest.mark.parametrize(("name", "replies", "timeouts", "fault", "billed"), FAULTS, ids=[row[0] for row in FAULTS])
async def test_each_way_to_break_off_is_an_exchange(
    name: str, replies: tuple[bytes | None, ...], timeouts: dict[str, float], fault: str, billed: bool
) -> None:
    heard = await exchange(*replies, close=None not in replies, **timeouts)
    assert (heard.fault, heard.maybe_billed) == (fault, billed)
    outcome = judge(heard)
    assert isinstance(outcome, Failure)
    assert outcome.next is (Next.REJECT if fault == "too_large" else Next.RETRY)
    assert "127.0.0.1" in heard.fault_message or fault == "too_large"


async def test_an_answer_that_is_whole_although_the_connection_broke_is_an_answer() -> None:
    body = json.dumps(GOOD).encode()
    longer = (
        f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body) + 5}\r\n\r\n".encode() + body
    )
    heard = await exchange(longer, close=True)
    assert heard.fault == "cut_off"
    assert not heard.body or isinstance(judge(heard), Completion)


async def test_what_never_left_is_not_billed() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    async with Client(url, Secrets(), Timeouts(), 4) as client:
        heard = await client.post(REQUEST)
    assert (heard.fault, heard.maybe_billed, heard.status) == ("connection", False, None)
    assert "refused" in heard.fault_message.lower()


async def test_the_key_is_taken_out_of_body_and_headers() -> None:
    heard = await exchange(
        reply(401, error(f"bad key {KEY}"), f"x-aihubmix-request-id: {KEY}", f"X-Aihubmix-Model: {KEY}")
    )
    assert KEY not in repr(heard)
    assert b"***" in heard.body


async def test_the_trace_id_is_found_in_the_message() -> None:
    assert (await exchange(reply(500, error("x")))).request_id == "2026112300000001"
    assert (await exchange(reply(500, b"", "X-Request-Id: abc"))).request_id == "abc"


async def test_netrc_is_never_read(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert isinstance(judge(await exchange(reply(200, GOOD))), Completion)


async def test_the_environments_proxy_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with answering(reply(200, GOOD)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.removesuffix("/v1"))
        monkeypatch.delenv("no_proxy", raising=False)
        async with Client("http://provider.invalid/v1", Secrets(), Timeouts(), 4) as client:
            assert isinstance(judge(await client.post(REQUEST)), Completion)


@pytest.mark.parametrize(
    ("headers", "status", "expected"),
    [
        ({"Retry-After": "2"}, 429, 2.0),
        ({"Retry-After": "0.5"}, 429, 0.5),
        ({"Retry-After": "0"}, 429, 0.0),
        ({"Retry-After": "-1"}, 429, None),
        ({"Retry-After": "soon"}, 429, None),
        ({"Retry-After": "nan"}, 429, None),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:10 GMT"}, 429, 10.0),
        ({"retry-after-ms": "1500", "Retry-After": "9"}, 429, 1.5),
        ({"llm_provider-retry-after": "3"}, 429, 3.0),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, 429, 360.0),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "12ms"}, 429, 0.012),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "-1"}, 429, None),
        ({"x-ratelimit-remaining-tokens": "5", "x-ratelimit-reset-tokens": "1s"}, 429, None),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1s"}, 500, None),
        ({}, 429, None),
    ],
)
def test_retry_after_in_all_its_forms(headers: dict[str, str], status: int, expected: float | None) -> None:
    now = 1445412480.0  # 2015-10-21 07:28:00
    assert retry_after_s(status, headers, now) == expected


mutated = st.builds(
    lambda at, byte, cut: (lambda body: (body[:at] + bytes([byte]) + body[at + 1 :])[:cut])(json.dumps(GOOD).encode()),
    st.integers(0, 250), st.integers(0, 255), st.integers(0, 300),
)  # fmt: skip
values = st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["error", "choices", "message", "content", "usage", "code", "detail", "model", "finish_reason", "tool_calls", "prompt_tokens"]), inner, max_size=4), max_leaves=12)  # fmt: skip


@given(st.one_of(st.binary(max_size=100), mutated, values.map(lambda value: json.dumps(value).encode())), st.sampled_from([200, 400, 401, 403, 404, 429, 500, 503, 302, 599]), st.sampled_from(["/chat/completions", "/completions", "/embeddings", "/responses"]))  # fmt: skip
def test_no_body_breaks_the_judge(body: bytes, status: int, path: str) -> None:
    outcome = judge(Exchange(0, 0, 0.0, status, body), path)
    assert isinstance(outcome, Completion | Failure)
    assert status == 200 or isinstance(outcome, Failure)
    if isinstance(outcome, Completion):
        for text in (
            outcome.response,
            outcome.reasoning,
            outcome.refusal,
            outcome.tool_calls,
            outcome.finish_reason,
            outcome.served_model,
        ):
            assert text is None or text.encode()
