"""Turns an answer into a stream of server-sent events, which may have the faults of real gateways' streams.

The format is OpenAI's: https://platform.openai.com/docs/api-reference/chat-streaming.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from batchmix.rehearsal.reply_kind import Event, ReplyKind
from batchmix.rehearsal.request import Json, RehearsalRequest

CONTENT_TYPE = "text/event-stream"
DONE = "data: [DONE]"
_BROKEN: Json = {"error": {"message": "The upstream broke off", "type": "server_error", "param": None, "code": None}}
_NO_USAGE = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
_WORD = re.compile(r"\s*\S+\s*")
_MAX_CHUNKS = 1000
"""The most chunks for one text. A longer text is sent in larger chunks."""
_encode = msgspec.json.Encoder().encode


def pieces(body: Json, request: RehearsalRequest, kind: ReplyKind) -> list[bytes]:
    """Return an answer as the events of a stream, in bytes. The kind of reply may edit the events."""
    events: list[Event] = [*_chunks(body, request), DONE]
    if kind.edit_events is not None:
        events = kind.edit_events(events)
    return [
        event.encode() + b"\n\n" if isinstance(event, str) else b"data: " + _encode(event) + b"\n\n" for event in events
    ]


def _chunks(body: Json, request: RehearsalRequest) -> Iterator[Json]:
    chat = request.endpoint == "/v1/chat/completions"
    frame = {name: value for name, value in body.items() if name not in {"choices", "usage"}}
    if chat:
        frame["object"] = "chat.completion.chunk"
    if request.wants_usage:
        frame["usage"] = None
    for choice in body.get("choices", ()):
        deltas = _deltas(choice["message"]) if chat else [{"text": text} for text in _cut(choice["text"])]
        for delta in deltas:
            content = {"delta": delta} if chat else delta
            yield {**frame, "choices": [{"index": choice["index"], **content, "finish_reason": None}]}
        content = {"delta": {}} if chat else {"text": ""}
        yield {**frame, "choices": [{"index": choice["index"], **content, "finish_reason": choice["finish_reason"]}]}
    if request.wants_usage and "usage" in body:
        yield {**frame, "choices": [], "usage": body["usage"]}


def _deltas(message: Json) -> Iterator[Json]:
    """Yield the deltas of a message: its role, then each text word by word, and other values whole."""
    yield {"role": message["role"], "content": "" if message.get("content") is not None else None}
    for name in ("reasoning_content", "content", "refusal"):
        value = message.get(name)
        yield from ({name: text} for text in (_cut(value) if isinstance(value, str) else filter(None, [value])))
    if "reasoning_details" in message:
        yield {"reasoning_details": message["reasoning_details"]}
    if "tool_calls" in message:
        yield {"tool_calls": [{"index": at, **call} for at, call in enumerate(message["tool_calls"])]}


def _cut(text: str) -> list[str]:
    """Cut a text into words, or a long text into larger pieces."""
    words = _WORD.findall(text) or [text]
    step = -(-len(words) // _MAX_CHUNKS)
    return ["".join(words[at : at + step]) for at in range(0, len(words), step)]


def cut_short(events: list[Event]) -> list[Event]:
    """Drop the second half of the events. The stream is closed properly."""
    return events[: len(events) // 2]


def no_finish(events: list[Event]) -> list[Event]:
    """Leave out the events with a `finish_reason`."""
    return [event for event in events if isinstance(event, str) or not _finishes(event)]


def _finishes(event: Json) -> bool:
    return any(choice["finish_reason"] for choice in event["choices"])


def no_done(events: list[Event]) -> list[Event]:
    """Leave out `[DONE]`."""
    return [event for event in events if event != DONE]


def add_zero_usage(events: list[Event]) -> list[Event]:
    """Add a usage of zeros to each event with a choice, as Gemini does."""
    return [
        {**event, "usage": _NO_USAGE} if isinstance(event, dict) and event["choices"] else event for event in events
    ]


def changing_ids(events: list[Event]) -> list[Event]:
    """Give each chunk a different id."""
    return [
        {**event, "id": f"{event['id']}-{at}"} if isinstance(event, dict) else event for at, event in enumerate(events)
    ]


def comments(events: list[Event]) -> list[Event]:
    """Add a comment before each event, as gateways do to keep the connection open."""
    return [line for event in events for line in (": keep-alive", event)]


def error_first(events: list[Event]) -> list[Event]:
    """Send an error instead of an answer."""
    return [_BROKEN, DONE]


def error_later(events: list[Event]) -> list[Event]:
    """Send the first half of the events, and then an error."""
    return [*cut_short(events), _BROKEN, DONE]
