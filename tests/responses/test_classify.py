"""The classification of an exchange: the message for the user, and robustness against any body."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchmix.records import Exchange, Failure
from batchmix.responses.classify import classify
from tests.wire import GOOD, PAGE, Wire, error, page, reply

MESSAGES: list[tuple[bytes, str, str | None]] = [
    (reply(401, error("bad\n key\x1b[31m")), "bad key[31m (tid: 2026112300000001); set the right key in the environment variable that provider.api_key_env names, then give the same command again", None),
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
    (reply(402, error("Pay")), "Pay (tid: 2026112300000001); top up the account, or lower max_tokens or limits.concurrency, then give the same command again", None),
    (reply(200), "the answer is empty", None),
    (reply(200, {"id": 1}), "the answer has no choices", None),
]  # fmt: skip


@pytest.mark.parametrize(("answered", "message", "code"), MESSAGES)
async def test_a_failure_holds_the_providers_message_and_advice_in_one_line(
    wire: Wire, answered: bytes, message: str, code: str | None
) -> None:
    outcome = classify(await wire.exchange(answered))
    assert isinstance(outcome, Failure)
    assert (outcome.message, outcome.code) == (message, code)


# Whatever comes

NAMES = ["error", "errors", "choices", "message", "content", "usage", "code", "type", "detail", "model", "text", "output", "finish_reason", "tool_calls", "reasoning_details", "prompt_tokens", "total_tokens", "prompt_tokens_details", "cached_tokens"]  # fmt: skip
values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text() | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=12,
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A good answer with one value replaced, one byte changed, or the end missing."""
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
def test_no_body_breaks_the_classification(body: bytes, status: int, path: str, fault: str | None) -> None:
    received = Exchange(0, 0, 0.0, status, body, fault=fault, fault_message="it broke" if fault else "")
    outcome = classify(received, path)
    assert outcome == classify(received, path)
    if isinstance(outcome, Failure):
        assert outcome.message.isprintable()
        assert outcome.type.isidentifier()
        return
    assert 200 <= status < 300
    texts = (outcome.response, outcome.reasoning, outcome.refusal, outcome.tool_calls, outcome.finish_reason)
    for text in (*texts, outcome.served_model):
        assert text is None or text.encode() is not None
    usage = outcome.usage
    for count in (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens, usage.cached_tokens):
        assert count is None or 0 <= count < 2**63
