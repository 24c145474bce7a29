"""Bodies and streams that no provider should send, and checks that batchmix handles each of them."""

from __future__ import annotations

import dataclasses
import json
import random
from typing import Any

import msgspec

from batchmix.records import Completion, Exchange, Failure
from batchmix.responses.classify import UNREADABLE, classify
from batchmix.responses.rate_limits import wait_in_body
from batchmix.responses.stream import AnswerStream
from tests.streams import PARIS, USAGE, chunk, content_chunks, events, usage

_MOST_BYTES = 100_000
_LEVELS = 300
_CALL = {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": '{"word": "é"}'}}
_CHOICES: list[Any] = [
    {"index": 0, "message": {"role": "assistant", "content": "Paris 😀"}, "finish_reason": "stop"},
    {"index": 1, "message": {"role": "assistant", "content": None, "tool_calls": [_CALL]}, "finish_reason": "tool_calls"},
    {"index": 0, "message": {"content": "", "reasoning_content": "hm", "refusal": None}, "finish_reason": "length", "logprobs": None},
    {"index": 0, "message": {"content": [{"type": "text", "text": "a"}], "reasoning_details": [{"summary": "b"}]}},
    {"index": 0, "text": "Paris", "finish_reason": "stop"},
    {"index": 1, "message": None, "finish_reason": "content_filter"}, {"index": 0, "delta": {"content": {"a": 1}}, "finish_reason": "stop"},
    {"index": 0, "message": {"content": "Par", "audio": {"transcript": "x"}, "function_call": _CALL["function"]}, "finish_reason": "error", "error": {"code": 502, "message": "x"}},
]  # fmt: skip
_OUTPUT: list[Any] = [
    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}], "content": [{"type": "reasoning_text", "text": "so"}]},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Paris"}, {"type": "refusal", "refusal": "no"}]},
    {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
]  # fmt: skip
_CHUNKS: list[Any] = [
    *PARIS, usage({"prompt_tokens": 0}), b"ping", chunk(finish="length", index=1),
    *content_chunks("two", index=1), chunk({"tool_calls": [{"index": 0, **_CALL}]}), chunk({"function_call": _CALL["function"]}),
    chunk({"reasoning_details": [{"type": "reasoning.text", "text": "h", "index": 0}]}), chunk({"refusal": "no"}),
    {"choices": [{"index": 0, "text": "Par", "logprobs": {"tokens": ["Par"]}, "finish_reason": None}]},
    {"error": {"message": "Upstream broke", "code": 502}}, {"object": "error", "message": "x", "code": 400},
]  # fmt: skip
ANSWERS: list[Any] = [
    {"id": "x", "object": "chat.completion", "model": "m", "choices": _CHOICES[:2], "usage": {**USAGE, "prompt_tokens_details": {"cached_tokens": 1}}},
    *({"model": "m", "choices": [choice], "usage": USAGE} for choice in _CHOICES),
    {"model": "m", "output": [{"type": "message", "content": [{"type": "output_text", "text": "Paris"}]}], "usage": {"input_tokens": 1}},
    *({"model": "m", "status": status, "output": _OUTPUT, "error": None, "incomplete_details": {"reason": "max_output_tokens"}, "usage": {"input_tokens": 1, "output_tokens": 2, "output_tokens_details": {"reasoning_tokens": 1}}} for status in ("completed", "incomplete", "failed", "queued")),
    {"model": "m", "choices": [], "usage": USAGE, "promptFeedback": {"blockReason": "SAFETY"}, "prompt_filter_results": [{"content_filter_results": {"hate": {"filtered": True}}}]},
    {"message": "Service Unavailable", "code": 503, "error": {"message": "", "code": None}, "retry_after": 3},
    {"object": "list", "data": [{"index": 1, "embedding": [0.1]}, {"index": 0, "embedding": "AACAPw=="}], "usage": {"prompt_tokens": 1}},
    {"object": "list", "data": [{"embedding": [0.1, -1e9]}], "usage": {"prompt_tokens": 1, "total_tokens": 1}},
    {"error": {"message": "Too many requests (tid: 2026)", "type": "rate_limit_error", "param": "", "code": 429}},
    {"error": "text"}, {"detail": [{"loc": ["body"], "msg": "field required"}]}, {"code": "c", "msg": "x"},
    [{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "Please retry in 7.3s.", "details": [{"retryDelay": "30s"}]}}],
]  # fmt: skip
"""Real answers and errors, in all forms that batchmix reads."""
_NAMES = sorted({name for answer in (*ANSWERS, *_CHUNKS) if isinstance(answer, dict) for name in answer} | {"index", "delta", "message", "content", "finish_reason", "tool_calls", "function", "arguments", "prompt_tokens", "total_tokens", "cached_tokens", "completion_tokens_details", "text", "logprobs", "status", "reason", "type", "summary", "refusal", "audio", "function_call", "embedding", "blockReason", "retryDelay", "retry_after"})  # fmt: skip
_TOKENS = [b"{", b"}", b"[", b"]", b'"', b",", b":", b"null", b"NaN", b"-Infinity", b"1e400", b"9" * 5000, b"\\ud800", b"\\u0000", b"\xff", b"\xef\xbb\xbf", b"\r", b"\n", b"\r\n\r\n", b"data: ", b"data: [DONE]\n\n", b": x\n", b"<html>", b'{"error":', b"\x1b[2J"]  # fmt: skip
_NESTS = [(b"[", b"]"), (b'{"text":', b"}"), (b'[{"content":', b"}]"), (b'[0,"[",', b"]")]
_ODD = [None, True, False, 0, -1, 2**63, 2**200, 1.5, float("nan"), float("inf"), "", "x", "\ud800", "\x00\x1b[31m", "stop", "null", [], {}]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Case:
    """One response: its bytes, and how they arrive."""

    kind: str
    data: bytes
    status: int
    path: str
    fault: str | None
    pieces: tuple[bytes, ...] | None
    """The pieces of a stream. None for a plain body."""
    choices: int


def cases(count: int, seed: int) -> list[Case]:
    """Return random cases, always the same for the same seed."""
    dice = random.Random(seed)
    return [_case(dice) for _ in range(count)]


def outcome_of(case: Case) -> str:
    """Return the kind of outcome of a case. Raises `AssertionError` if it is neither an answer nor a failure."""
    body, fault, message = case.data, case.fault, "it broke" if case.fault else ""
    if case.pieces is not None:
        streams = [AnswerStream(case.choices, _MOST_BYTES) for _ in range(2)]
        for piece in case.pieces:
            streams[0].feed(piece)
        streams[1].feed(case.data)
        assert isinstance(streams[0].is_done, bool)
        results = [stream.end() for stream in streams]
        assert results[0] == results[1] or any(stream.is_too_large for stream in streams), "the cuts made a difference"
        body, fault, message = results[0].body, results[0].fault, results[0].fault_message
    exchange = Exchange(0, 0, 0.0, case.status, body, fault=fault, fault_message=message, inputs=case.choices)
    outcome = classify(exchange, case.path)
    assert _deeper(_LEVELS, exchange, case.path) == outcome, "it is classified differently with less of the stack left"
    wait_s = wait_in_body(body, 1.8e9)
    assert wait_s is None or 0 <= wait_s < 1e6
    if isinstance(outcome, Failure):
        assert outcome.message.isprintable(), "the message can't be shown"
        assert outcome.message != UNREADABLE, "classify has raised"
        assert outcome.type.isidentifier()
        return outcome.type
    assert isinstance(outcome, Completion)
    assert 200 <= case.status < 300, "a refusal is no answer"
    for text in (outcome.response, outcome.reasoning, outcome.refusal, outcome.tool_calls, outcome.finish_reason):
        assert text is None or text.encode() is not None
    assert all(number is None or 0 <= number < 2**63 for number in msgspec.structs.astuple(outcome.usage))
    return "answer"


def _deeper(levels: int, exchange: Exchange, path: str) -> Completion | Failure:
    """Classify an exchange at a point that is `levels` deeper in the stack."""
    return _deeper(levels - 1, exchange, path) if levels else classify(exchange, path)


def _case(dice: random.Random) -> Case:
    kind = dice.choice(["bytes", "json", "answer", "mutated", "stream", "mutated stream"])
    path = dice.choice(["/chat/completions", "/chat/completions", "/completions", "/embeddings", "/responses"])
    status = dice.choice([200, 200, 200, 200, 201, 302, 400, 401, 403, 404, 429, 500, 503, 599])
    fault = dice.choice([None, None, None, "cut_off", "timeout", "too_large"])
    data = _data(dice, kind)
    if "stream" not in kind and dice.random() < 0.7:
        return Case(kind, data, status, path, fault, None, 1)
    path = dice.choice(["/chat/completions", "/completions"])
    return Case(kind, data, 200, path, None, _pieces(dice, data), dice.randint(1, 2))


def _data(dice: random.Random, kind: str) -> bytes:
    match kind:
        case "bytes":
            return noise(dice)
        case "json":
            return written(odd_value(dice, 5))
        case "answer":
            return written(dice.choice(ANSWERS))
        case "mutated":
            return mutated(dice, written(changed(dice, dice.choice(ANSWERS))))
        case "stream":
            return _stream(dice)
        case _:
            return mutated(dice, _stream(dice))


def noise(dice: random.Random) -> bytes:
    return b"".join(
        dice.choice([dice.choice(_TOKENS), dice.randbytes(dice.randint(0, 9))]) for _ in range(dice.randint(0, 12))
    )


def odd_value(dice: random.Random, depth: int) -> Any:
    """Return a random JSON value, with keys that batchmix looks for."""
    kind = dice.random() if depth else 0.0
    if kind < 0.5:
        return dice.choice(_ODD)
    if kind < 0.65:
        return [odd_value(dice, depth - 1) for _ in range(dice.randint(0, 3))]
    return {dice.choice(_NAMES): odd_value(dice, depth - 1) for _ in range(dice.randint(0, 5))}


def changed(dice: random.Random, value: Any) -> Any:
    """Return a value with one part replaced, in most cases."""
    if dice.random() < 0.15:
        return odd_value(dice, 3)
    if isinstance(value, dict) and value:
        name = dice.choice(list(value))
        return {**value, name: changed(dice, value[name])}
    if isinstance(value, list) and value:
        at = dice.randrange(len(value))
        return [*value[:at], changed(dice, value[at]), *value[at + 1 :]]
    return value


def _stream(dice: random.Random) -> bytes:
    found = [dice.choice(_CHUNKS) for _ in range(dice.randint(0, 8))] + dice.choice([PARIS, PARIS[-3:], PARIS[-2:], []])
    found = [one if isinstance(one, bytes) else written(changed(dice, one)) for one in found]
    return events(*found).replace(b"\n", dice.choice([b"\n", b"\r", b"\r\n"]))


def mutated(dice: random.Random, data: bytes) -> bytes:
    """Return the data with bytes changed, removed, repeated or inserted, or without its end."""
    for _ in range(dice.randint(1, 3)):
        first, last = sorted((dice.randint(0, len(data)), dice.randint(0, len(data))))
        last = min(last, first + 200)
        data = dice.choice([
            data[:first] + dice.choice(_TOKENS) + data[first:],
            data[:first] + dice.choice(_TOKENS) + data[first + 1 :],
            data[:first] + data[last:],
            data[:last] + data[first:],
            data[:first],
            data[:first] + b"[" * dice.choice([50, 900, 20_000]) + data[first:],
            data[:first] + _nested(dice.choice([50, 99, 101, 900]), dice.choice(_NESTS), data[first:last]) + data[last:],
        ])  # fmt: skip
    return data


def _nested(levels: int, around: tuple[bytes, bytes], inner: bytes) -> bytes:
    return around[0] * levels + (inner or b"0") + around[1] * levels


def _pieces(dice: random.Random, data: bytes) -> tuple[bytes, ...]:
    at = sorted(dice.randint(0, len(data)) for _ in range(dice.randint(0, 6)))
    return tuple(data[first:last] for first, last in zip([0, *at], [*at, len(data)], strict=True))


def written(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=True).encode()
