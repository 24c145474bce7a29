"""Functions that turn a usual answer into an odd one: they replace its message, edit its body, or encode it.

Their types are `MakeMessage`, `EditBody` and `EncodeBody` in `reply_kind`. Some of the functions here return one.
"""

from __future__ import annotations

import json
import math

import msgspec

from batchmix.rehearsal.reply_kind import EditBody, MakeMessage
from batchmix.rehearsal.request import Json, RehearsalRequest

LARGE_BYTES = 5_000_000
"""The size of the content of a `large` answer."""
UNFUNDED = (
    "To prevent abuse of free resources, accounts that have not been recharged can only try 10 times."
    " Please recharge and try again."
)
_HUGE = 2**70 + 1
_encode = msgspec.json.Encoder().encode


def content(value: object, finish_reason: str | None = None) -> MakeMessage:
    """Return a function that makes a message with this content."""
    return lambda text, index: ({"content": value}, finish_reason)


def around(before: str, after: str = "") -> MakeMessage:
    """Return a function that puts text before and after the content."""
    return lambda text, index: ({"content": f"{before}{text}{after}"}, None)


def parts(text: str, index: int) -> tuple[Json, None]:
    """Send the content as a list of parts, one for each half."""
    half = len(text) // 2
    return {"content": [{"type": "text", "text": piece} for piece in (text[:half], text[half:])]}, None


def no_content(text: str, index: int) -> tuple[Json, None]:
    """Leave the content out."""
    return {}, None


def filtered(text: str, index: int) -> tuple[Json, str]:
    """Finish with the content filter."""
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
    """Add reasoning to the answer."""
    return {"content": text, "reasoning_content": f"Let me think about {text}."}, None


def reasoning_details(text: str, index: int) -> tuple[Json, None]:
    """Add reasoning in OpenRouter's format to the answer."""
    details = [{"type": "reasoning.text", "text": f"Let me think about {text}.", "index": 0}]
    return {"content": text, "reasoning_details": details}, None


def only_reasoning(text: str, index: int) -> tuple[Json, str]:
    """Send reasoning only, cut off by `max_tokens`."""
    return {"content": "", "reasoning_content": f"Let me think about {text}"}, "length"


def large(text: str, index: int) -> tuple[Json, None]:
    """Repeat the answer up to `LARGE_BYTES`."""
    return {"content": f"{text} " * -(-LARGE_BYTES // (len(text) + 1))}, None


def without(*names: str) -> EditBody:
    """Return a function that leaves fields out of the body."""
    return lambda body, request: {name: value for name, value in body.items() if name not in names}


def with_field(name: str, value: object) -> EditBody:
    """Return a function that sets a field of the body to a value."""
    return lambda body, request: {**body, name: value}


def one_choice(body: Json, request: RehearsalRequest) -> Json:
    """Send one choice, whatever `n` is."""
    return {**body, "choices": body["choices"][:1]}


def ended_by_error(body: Json, request: RehearsalRequest) -> Json:
    """Finish each choice with an error, as OpenRouter does."""
    error = {"code": 502, "message": "Upstream error"}
    return {**body, "choices": [{**choice, "finish_reason": "error", "error": error} for choice in body["choices"]]}


def incomplete(body: Json, request: RehearsalRequest) -> Json:
    """Mark a response as incomplete because of `max_output_tokens`."""
    return {**body, "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}


def reverse(name: str) -> EditBody:
    """Return a function that reverses the list in a field of the body."""
    return lambda body, request: {**body, name: body[name][::-1]}


def one_vector_missing(body: Json, request: RehearsalRequest) -> Json:
    """Drop the last embedding."""
    return {**body, "data": body["data"][:-1]}


def only(**fields: object) -> EditBody:
    """Return a function that replaces the whole body by these fields."""
    return lambda body, request: fields


def dated_model(body: Json, request: RehearsalRequest) -> Json:
    """Name a dated version of the requested model, as providers do for an alias."""
    return {**body, "model": f"{request.model}-2026-03-05"}


def zero_usage(body: Json, request: RehearsalRequest) -> Json:
    """Report zero tokens."""
    return {**body, "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}}


def deepseek_usage(body: Json, request: RehearsalRequest) -> Json:
    """Report cached tokens in DeepSeek's format instead of the usual details."""
    usage = _plain_usage(body)
    cached = usage["prompt_tokens"] // 2
    missed = usage["prompt_tokens"] - cached
    return {**body, "usage": {**usage, "prompt_cache_hit_tokens": cached, "prompt_cache_miss_tokens": missed}}


def claude_usage(body: Json, request: RehearsalRequest) -> Json:
    """Report cached tokens in Claude's format instead of the usual details."""
    usage = _plain_usage(body)
    cached = usage["prompt_tokens"] // 2
    details = {"cache_read_input_tokens": cached, "cache_creation_5_m_tokens": 0, "cache_creation_1_h_tokens": 0}
    return {**body, "usage": {**usage, "claude_cache_tokens_details": details}}


def _plain_usage(body: Json) -> Json:
    return {name: body["usage"][name] for name in ("prompt_tokens", "completion_tokens", "total_tokens")}


def streamed(body: Json) -> bytes:
    """Send the body as the only event of a stream."""
    return b"data: " + _encode(body) + b"\n\ndata: [DONE]\n\n"


def huge(body: Json) -> bytes:
    """Add an integer beyond 64 bits."""
    return json.dumps({**body, "created": _HUGE}).encode()


def nan(body: Json) -> bytes:
    """Add a NaN, which JSON does not allow."""
    return json.dumps({**body, "score": math.nan}).encode()


def float_usage(body: Json) -> bytes:
    """Send the token counts as floats, such as `150.0`."""
    usage = {name: float(value) for name, value in _plain_usage(body).items()}
    return _encode({**body, "usage": usage})


def pretty(body: Json) -> bytes:
    """Indent the JSON."""
    return b"\n" + msgspec.json.format(_encode(body), indent=4) + b"\n\n"


def with_bom(body: Json) -> bytes:
    """Put a byte order mark before the JSON."""
    return b"\xef\xbb\xbf" + _encode(body)


def escaped(body: Json) -> bytes:
    """Escape all characters that are not ASCII, including lone surrogates."""
    return json.dumps(body).encode()


def cut_off(body: Json) -> bytes:
    """Send only the first two thirds of the JSON."""
    whole = _encode(body)
    return whole[: len(whole) * 2 // 3]
