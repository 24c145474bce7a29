"""Which requests are streamed, and the keys of their bodies that say so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from batchmix.formats.lenient_json import json_bytes, read_json
from batchmix.records import Request
from batchmix.responses.endpoints import endpoint_of

STREAMING = ("stream", "stream_options")
"""The keys of a body that decide how the response is transferred. They don't change the response itself."""
STREAMED_ABOVE_TOKENS = 8192
"""A request with a higher cap on tokens is streamed. Its response may take minutes, and gateways drop connections that
are silent for so long, but bill the response."""
_CAPS = ("max_tokens", "max_completion_tokens")


def streamed_choices(path: str, body: Mapping[str, Any]) -> int:
    """Return how many choices of a request are streamed. 0 if the response is not requested as a stream."""
    stream = body.get("stream")
    if not endpoint_of(path).can_stream or not (_is_long(body) if stream is None else stream):
        return 0
    prompt, choices = body.get("prompt"), body.get("n")
    prompts = len(prompt) if isinstance(prompt, list) and not any(type(item) is int for item in prompt[:1]) else 1
    return max(1, prompts) * (choices if type(choices) is int and choices > 0 else 1)


def as_stream(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body with the keys that request a stream, which ends with the usage unless the body refuses it."""
    given = body.get("stream_options")
    options = {"include_usage": True, **(given if isinstance(given, dict) else {})}
    return {**body, "stream": True, "stream_options": options}


def streamed_if_long(request: Request) -> Request:
    """Return a request as a stream if its answer may be long, unless its body says whether it is streamed."""
    body = read_json(request.body)
    choices = 0 if body.get("stream") is not None else streamed_choices(request.path, body)
    if not choices:
        return request
    body = json_bytes(as_stream(body))
    return msgspec.structs.replace(request, body=body, streamed_choices=choices, streams_by_default=True)


def unstreamed(request: Request) -> Request:
    """Return the same request without streaming. The hash stays the same, because it does not cover streaming."""
    body = read_json(request.body)
    plain = {key: value for key, value in body.items() if key not in STREAMING}
    return msgspec.structs.replace(request, body=json_bytes(plain), streamed_choices=0, streams_by_default=False)


def _is_long(body: Mapping[str, Any]) -> bool:
    # OpenAI can't stream `best_of`: the best of several is known only at the end.
    return "best_of" not in body and any(
        type(most) is int and most > STREAMED_ABOVE_TOKENS for most in map(body.get, _CAPS)
    )
