"""Streams as providers send them, for tests of the code that reads them."""

from __future__ import annotations

import json
from typing import Any

USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
DONE = b"[DONE]"


def events(*chunks: object) -> bytes:
    """Return chunks (JSON values, or data as it is) as server-sent events."""
    data = (chunk if isinstance(chunk, bytes) else json.dumps(chunk).encode() for chunk in chunks)
    return b"".join(b"data: %b\n\n" % one for one in data)


def chunk(delta: object = None, finish: object = None, index: object = 0, **more: Any) -> dict[str, Any]:
    """Return a chunk with one choice."""
    choice = {"index": index, "delta": {} if delta is None else delta, "finish_reason": finish}
    head = {"id": "c-1", "object": "chat.completion.chunk", "created": 17, "model": "gpt-4o-mini-2024"}
    return {**head, "choices": [choice], **more}


def content_chunks(*pieces: str, index: int = 0) -> list[dict[str, Any]]:
    """Return the chunks of a choice with this content, without its last chunk."""
    return [
        chunk({"role": "assistant", "content": ""}, index=index),
        *(chunk({"content": one}, index=index) for one in pieces),
    ]


def usage(found: object = None) -> dict[str, Any]:
    """Return a chunk with the usage, which ends a stream."""
    return {**chunk(), "choices": [], "usage": USAGE if found is None else found}


PARIS = [*content_chunks("Par", "is"), chunk(finish="stop"), usage(), DONE]
"""An ordinary stream."""
WHOLE = {
    "id": "c-1",
    "object": "chat.completion",
    "created": 17,
    "model": "gpt-4o-mini-2024",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Paris"}, "finish_reason": "stop"}],
    "usage": USAGE,
}
"""The body that the stream PARIS adds up to."""
