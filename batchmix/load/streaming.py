"""Which requests are answered as a stream: those that say so, and long ones that do not say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

STREAMING = ("stream", "stream_options")
"""The keys of a body that say how an answer comes, and nothing of what is asked."""
STREAMED_ABOVE_TOKENS = 8192
"""Above this cap an answer may take minutes; gateways and proxies drop silent connections, and bill all the same."""
_PATHS = ("/chat/completions", "/completions")
_CAPS = ("max_completion_tokens", "max_tokens")


def streamed_choices(path: str, body: Mapping[str, Any]) -> int:
    """Return how many choices a body asks to be streamed; 0 where the answer is to come as one body."""
    stream = body.get("stream")
    if path not in _PATHS or not (_is_long(body) if stream is None else stream):
        return 0
    prompt, most = body.get("prompt"), body.get("n")
    prompts = len(prompt) if isinstance(prompt, list) and not any(type(one) is int for one in prompt[:1]) else 1
    return max(1, prompts) * (most if type(most) is int and most > 0 else 1)


def streaming_problem(path: str, body: Mapping[str, Any]) -> str | None:
    """Return why a body's `stream` can't be had."""
    stream = body.get("stream")
    if not isinstance(stream, bool | None):
        return "can't be sent: stream must be true or false"
    if stream and path not in _PATHS:
        return f"asks {path} for a stream, which is read of {' and '.join(_PATHS)} only; take stream out of its body"
    return None


def as_stream(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a body that asks for a stream, and for the usage at its end unless it says otherwise."""
    given = body.get("stream_options")
    options = {"include_usage": True, **(given if isinstance(given, dict) else {})}
    return {**body, "stream": True, "stream_options": options}


def _is_long(body: Mapping[str, Any]) -> bool:
    # Not what can't be streamed, as OpenAI has it: the best of several is known at the end only.
    return "best_of" not in body and any(
        type(most) is int and most > STREAMED_ABOVE_TOKENS for most in map(body.get, _CAPS)
    )
