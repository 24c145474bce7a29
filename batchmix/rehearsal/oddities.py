"""How answers come to be odd: message shapes, bodies, and bytes."""

from __future__ import annotations

import json
import math

import msgspec

from batchmix.rehearsal.reply_kind import Reshape, Shape
from batchmix.rehearsal.request import Asked, Json

LARGE_BYTES = 5_000_000
UNFUNDED = (
    "To prevent abuse of free resources, accounts that have not been recharged can only try 10 times."
    " Please recharge and try again."
)
_HUGE = 2**70 + 1
_encode = msgspec.json.Encoder().encode


def content(value: object, finish_reason: str | None = None) -> Shape:
    """Return a shape whose content is always the same."""
    return lambda text, index: ({"content": value}, finish_reason)


def around(before: str, after: str = "") -> Shape:
    """Return a shape whose content has something before and after it."""
    return lambda text, index: ({"content": f"{before}{text}{after}"}, None)


def parts(text: str, index: int) -> tuple[Json, None]:
    """Say the content as a list of parts, one for each half."""
    half = len(text) // 2
    return {"content": [{"type": "text", "text": piece} for piece in (text[:half], text[half:])]}, None


def no_content(text: str, index: int) -> tuple[Json, None]:
    """Leave the content out."""
    return {}, None


def filtered(text: str, index: int) -> tuple[Json, str]:
    """End by the content filter."""
    return {"content": text}, "content_filter"


def tools(text: str, index: int) -> tuple[Json, str]:
    """Call a tool."""
    function = {"name": "look_up", "arguments": json.dumps({"word": text})}
    call = {"id": f"call_{index}", "type": "function", "function": function}
    return {"content": None, "tool_calls": [call]}, "tool_calls"


def refusal(text: str, index: int) -> tuple[Json, None]:
    """Refuse politely."""
    return {"content": None, "refusal": "I can't help with that."}, None


def reasoning(text: str, index: int) -> tuple[Json, None]:
    """Think aloud, then answer."""
    return {"content": text, "reasoning_content": f"Let me think about {text}."}, None


def reasoning_details(text: str, index: int) -> tuple[Json, None]:
    """Think aloud in OpenRouter's shape, then answer."""
    details = [{"type": "reasoning.text", "text": f"Let me think about {text}.", "index": 0}]
    return {"content": text, "reasoning_details": details}, None


def only_reasoning(text: str, index: int) -> tuple[Json, str]:
    """Think until the cap is reached."""
    return {"content": "", "reasoning_content": f"Let me think about {text}"}, "length"


def large(text: str, index: int) -> tuple[Json, None]:
    """Repeat the answer up to its size."""
    return {"content": f"{text} " * -(-LARGE_BYTES // (len(text) + 1))}, None


def without(*names: str) -> Reshape:
    """Return a reshape that leaves fields out."""
    return lambda body, asked: {name: value for name, value in body.items() if name not in names}


def with_field(name: str, value: object) -> Reshape:
    """Return a reshape that gives a field a value."""
    return lambda body, asked: {**body, name: value}


def one_choice(body: Json, asked: Asked) -> Json:
    """Give one choice whatever `n` says."""
    return {**body, "choices": body["choices"][:1]}


def ended_by_error(body: Json, asked: Asked) -> Json:
    """End each choice with an error, as OpenRouter does."""
    error = {"code": 502, "message": "Upstream error"}
    return {**body, "choices": [{**choice, "finish_reason": "error", "error": error} for choice in body["choices"]]}


def incomplete(body: Json, asked: Asked) -> Json:
    """Say of a response that its cap was reached."""
    return {**body, "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}


def turned(name: str) -> Reshape:
    """Return a reshape that turns a list round."""
    return lambda body, asked: {**body, name: body[name][::-1]}


def shorter(name: str) -> Reshape:
    """Return a reshape that takes the last item from a list."""
    return lambda body, asked: {**body, name: body[name][:-1]}


def only(**fields: object) -> Reshape:
    """Return a reshape that puts other fields in the place of all."""
    return lambda body, asked: fields


def dated_model(body: Json, asked: Asked) -> Json:
    """Name another model than was asked for."""
    return {**body, "model": f"{asked.model}-2026-03-05"}


def zero_usage(body: Json, asked: Asked) -> Json:
    """Count nothing."""
    return {**body, "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}}


def deepseek_usage(body: Json, asked: Asked) -> Json:
    """Leave the details out and count the cache DeepSeek's way."""
    usage = _plain_usage(body)
    cached = usage["prompt_tokens"] // 2
    missed = usage["prompt_tokens"] - cached
    return {**body, "usage": {**usage, "prompt_cache_hit_tokens": cached, "prompt_cache_miss_tokens": missed}}


def claude_usage(body: Json, asked: Asked) -> Json:
    """Have Claude's cache tokens for all details."""
    usage = _plain_usage(body)
    cached = usage["prompt_tokens"] // 2
    details = {"cache_read_input_tokens": cached, "cache_creation_5_m_tokens": 0, "cache_creation_1_h_tokens": 0}
    return {**body, "usage": {**usage, "claude_cache_tokens_details": details}}


def _plain_usage(body: Json) -> Json:
    return {name: body["usage"][name] for name in ("prompt_tokens", "completion_tokens", "total_tokens")}


def streamed(body: Json) -> bytes:
    """Write it as the one event of a stream."""
    return b"data: " + _encode(body) + b"\n\ndata: [DONE]\n\n"


def huge(body: Json) -> bytes:
    """Write an integer beyond 64 bits."""
    return json.dumps({**body, "created": _HUGE}).encode()


def nan(body: Json) -> bytes:
    """Write NaN, which no JSON has."""
    return json.dumps({**body, "score": math.nan}).encode()


def float_usage(body: Json) -> bytes:
    """Write the token counts as floats, such as `150.0`."""
    usage = {name: float(value) for name, value in _plain_usage(body).items()}
    return _encode({**body, "usage": usage})


def pretty(body: Json) -> bytes:
    """Indent it."""
    return b"\n" + msgspec.json.format(_encode(body), indent=4) + b"\n\n"


def marked(body: Json) -> bytes:
    """Begin with a byte order mark."""
    return b"\xef\xbb\xbf" + _encode(body)


def escaped(body: Json) -> bytes:
    """Write all that is not ASCII as escapes, lone surrogates too."""
    return json.dumps(body).encode()


def cut_off(body: Json) -> bytes:
    """End in the middle."""
    whole = _encode(body)
    return whole[: len(whole) * 2 // 3]
