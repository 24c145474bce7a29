"""Functions that make an answer odd: they replace its message, edit its body, or encode the body in an odd way.

Their types are `MakeMessage`, `EditBody` and `EncodeBody` in `reply_kind`. Some functions here return such a function.
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
    """Return a function that makes a message with this content, whatever its type."""
    return lambda text, index: ({"content": value}, finish_reason)


def around(before: str, after: str = "") -> MakeMessage:
    """Return a function that makes a message with text added before and after the content."""
    return lambda text, index: ({"content": f"{before}{text}{after}"}, None)


def parts(text: str, index: int) -> tuple[Json, None]:
    """Return a message whose content is a list of two parts, each with half of the text."""
    half = len(text) // 2
    return {"content": [{"type": "text", "text": piece} for piece in (text[:half], text[half:])]}, None


def no_content(text: str, index: int) -> tuple[Json, None]:
    """Return a message without content."""
    return {}, None


def filtered(text: str, index: int) -> tuple[Json, str]:
    """Return a message with the finish reason `content_filter`."""
    return {"content": text}, "content_filter"


def tools(text: str, index: int) -> tuple[Json, str]:
    """Return a message that calls a tool."""
    function = {"name": "look_up", "arguments": json.dumps({"word": text})}
    call = {"id": f"call_{index}", "type": "function", "function": function}
    return {"content": None, "tool_calls": [call]}, "tool_calls"


def refusal(text: str, index: int) -> tuple[Json, None]:
    """Return a message with a refusal instead of content."""
    return {"content": None, "refusal": "I can't help with that."}, None


def reasoning(text: str, index: int) -> tuple[Json, None]:
    """Return a message with content and `reasoning_content`."""
    return {"content": text, "reasoning_content": f"Let me think about {text}."}, None


def reasoning_details(text: str, index: int) -> tuple[Json, None]:
    """Return a message with content and with reasoning in OpenRouter's format."""
    details = [{"type": "reasoning.text", "text": f"Let me think about {text}.", "index": 0}]
    return {"content": text, "reasoning_details": details}, None


def only_reasoning(text: str, index: int) -> tuple[Json, str]:
    """Return a message that `max_tokens` cut off during the reasoning."""
    return {"content": "", "reasoning_content": f"Let me think about {text}"}, "length"


def large(text: str, index: int) -> tuple[Json, None]:
    """Return a message that repeats the text up to `LARGE_BYTES`."""
    return {"content": f"{text} " * -(-LARGE_BYTES // (len(text) + 1))}, None


def without(*names: str) -> EditBody:
    """Return a function that removes these top-level fields from a body."""
    return lambda body, request: {name: value for name, value in body.items() if name not in names}


def with_field(name: str, value: object) -> EditBody:
    """Return a function that sets a top-level field of a body to a value."""
    return lambda body, request: {**body, name: value}


def one_choice(body: Json, request: RehearsalRequest) -> Json:
    """Drop all choices but the first, whatever `n` is."""
    return {**body, "choices": body["choices"][:1]}


def ended_by_error(body: Json, request: RehearsalRequest) -> Json:
    """Give each choice the finish reason `error` and an error, as OpenRouter does."""
    error = {"code": 502, "message": "Upstream error"}
    return {**body, "choices": [{**choice, "finish_reason": "error", "error": error} for choice in body["choices"]]}


def incomplete(body: Json, request: RehearsalRequest) -> Json:
    """Mark a body of the Responses API as incomplete because of `max_output_tokens`."""
    return {**body, "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}


def reverse(name: str) -> EditBody:
    """Return a function that reverses the list in a field of a body."""
    return lambda body, request: {**body, name: body[name][::-1]}


def one_vector_missing(body: Json, request: RehearsalRequest) -> Json:
    """Drop the last embedding."""
    return {**body, "data": body["data"][:-1]}


def only(**fields: object) -> EditBody:
    """Return a function that replaces a body by one with these fields."""
    return lambda body, request: fields


def dated_model(body: Json, request: RehearsalRequest) -> Json:
    """Report a dated version of the requested model, as providers do when an alias is requested."""
    return {**body, "model": f"{request.model}-2026-03-05"}


def zero_usage(body: Json, request: RehearsalRequest) -> Json:
    """Report a usage of zero tokens."""
    return {**body, "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}}


def deepseek_usage(body: Json, request: RehearsalRequest) -> Json:
    """Replace the usual token details with DeepSeek's counts of cache hits and misses."""
    usage = _plain_usage(body)
    cached = usage["prompt_tokens"] // 2
    missed = usage["prompt_tokens"] - cached
    return {**body, "usage": {**usage, "prompt_cache_hit_tokens": cached, "prompt_cache_miss_tokens": missed}}


def claude_usage(body: Json, request: RehearsalRequest) -> Json:
    """Replace the usual token details with Claude's counts of cached tokens."""
    usage = _plain_usage(body)
    cached = usage["prompt_tokens"] // 2
    details = {"cache_read_input_tokens": cached, "cache_creation_5_m_tokens": 0, "cache_creation_1_h_tokens": 0}
    return {**body, "usage": {**usage, "claude_cache_tokens_details": details}}


def _plain_usage(body: Json) -> Json:
    return {name: body["usage"][name] for name in ("prompt_tokens", "completion_tokens", "total_tokens")}


def streamed(body: Json) -> bytes:
    """Encode a body as a stream with a single event."""
    return b"data: " + _encode(body) + b"\n\ndata: [DONE]\n\n"


def huge(body: Json) -> bytes:
    """Encode a body, with an integer added that does not fit into 64 bits."""
    return json.dumps({**body, "created": _HUGE}).encode()


def nan(body: Json) -> bytes:
    """Encode a body, with a NaN added, which JSON does not allow."""
    return json.dumps({**body, "score": math.nan}).encode()


def float_usage(body: Json) -> bytes:
    """Encode a body with token counts that are floats, such as `150.0`."""
    usage = {name: float(value) for name, value in _plain_usage(body).items()}
    return _encode({**body, "usage": usage})


def pretty(body: Json) -> bytes:
    """Encode a body as indented JSON between empty lines."""
    return b"\n" + msgspec.json.format(_encode(body), indent=4) + b"\n\n"


def with_bom(body: Json) -> bytes:
    """Encode a body as JSON after a byte order mark."""
    return b"\xef\xbb\xbf" + _encode(body)


def escaped(body: Json) -> bytes:
    """Encode a body as JSON that escapes all characters beyond ASCII, including lone surrogates."""
    return json.dumps(body).encode()


def cut_off(body: Json) -> bytes:
    """Encode a body, and return only the first two thirds of the JSON."""
    whole = _encode(body)
    return whole[: len(whole) * 2 // 3]
