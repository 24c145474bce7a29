"""Marks for Claude's prompt cache: a request's body with `cache_control` at the end of each prefix that it shares.

Claude caches only what is marked (docs.anthropic.com, "Prompt caching"), and AiHubMix accepts the marks in OpenAI's
form of requests, in the parts of a message. Like streaming, they don't change the answer. So a request is marked only
when it is sent: its hash and the requests that follow on it are the same without marks.
"""

from __future__ import annotations

from typing import Any

import msgspec

from batchmix.engine.prefixes import Prefix, has_marks
from batchmix.formats.lenient_json import json_bytes, read_json

_MOST_MARKS = 4
"""The most marks that Claude accepts in a request."""
_MOST_CUT_BACK = 512
"""A text is cut at the end of a line or word up to so many characters before the end of the prefix. What rows have in
common by chance, such as `What `, may be less with the next rows, and the mark must stay where it is."""
_MOST_ESCAPE_BYTES = 12
"""The bytes of the longest character in JSON: two escapes of UTF-16."""
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class _Place(msgspec.Struct):
    """A part of a message, or a text that is its whole content, and the bytes of the body in which it is."""

    message: dict[str, Any]
    part: dict[str, Any]
    start: int
    end: int


def with_cache_marks(body: bytes, prefix: Prefix | None, life: str) -> bytes:
    """Return a body with marks for its prefixes, to be cached for a `life` of `5m` or `1h`.

    It is returned as it is if it shares no prefix, if it has marks of its own, or if its form is not known.
    """
    sizes: list[int] = []
    shared = prefix.shared if prefix is not None else None
    while shared is not None and shared.text and len(sizes) < _MOST_MARKS:
        if body.startswith(shared.text):
            sizes.append(len(shared.text))
        shared = shared.parent
    if not sizes or has_marks(body):
        return body
    parsed = read_json(body)
    places = _places(parsed, body)
    mark = {"type": "ephemeral", "ttl": life} if life != "5m" else {"type": "ephemeral"}
    for size in sizes:
        _mark(places, body, size, mark)
    contents: dict[int, list[dict[str, Any]]] = {}
    for place in places:
        contents.setdefault(id(place.message), []).append(place.part)
    for place in places:
        if "cache_control" in place.part:
            place.message["content"] = contents[id(place.message)]
    return json_bytes(parsed)


def _places(parsed: Any, body: bytes) -> list[_Place]:
    """Return the parts of all messages in order, where they are in the body. Empty if one of them is not found."""
    places: list[_Place] = []
    at = 0
    messages = parsed.get("messages") if isinstance(parsed, dict) else None
    for message in messages if isinstance(messages, list) else ():
        content = message.get("content") if isinstance(message, dict) else None
        for part in content if isinstance(content, list) else [content] if content else []:
            encoded = _encode(part)
            start = body.find(encoded, at)
            if start < 0 or not isinstance(part, dict | str):
                return []
            at = start + len(encoded)
            places.append(_Place(message, {"type": "text", "text": part} if isinstance(part, str) else part, start, at))
    return places


def _mark(places: list[_Place], body: bytes, size: int, mark: dict[str, str]) -> None:
    """Mark the end of a prefix of `size` bytes: a whole part, or the beginning of a text, which becomes two parts."""
    number = sum(place.start < size for place in places) - 1
    if number < 0:
        return
    place = places[number]
    if place.end > size:
        text = place.part.get("text")
        cut = _cut(_common_text(body[place.start : size], text)) if isinstance(text, str) else 0
        if cut:
            assert isinstance(text, str)
            rest = _Place(place.message, {**place.part, "text": text[cut:]}, size, place.end)
            first = _Place(place.message, {**place.part, "text": text[:cut]}, place.start, size)
            places[number : number + 1] = [first, rest]
        elif number:
            number -= 1
        else:
            return
    places[number].part = {**places[number].part, "cache_control": mark}


def _cut(common: str) -> int:
    """Return after how many characters to cut a text that has this beginning in common with others. 0: not at all."""
    ends = (common.rfind("\n") + 1, common.rfind(" ") + 1)
    return next((end for end in ends if end > max(0, len(common) - _MOST_CUT_BACK)), 0)


def _common_text(piece: bytes, text: str) -> str:
    """Return the beginning of a text whose JSON is in `piece`, perhaps after the keys of its part. Empty if none is."""
    start = piece.find(_encode(text)[:64])
    inner = piece[start + 1 :] if start >= 0 else b""
    for end in range(len(inner), max(0, len(inner) - _MOST_ESCAPE_BYTES), -1):  # the last character may be cut in two
        try:
            decoded = _decode(b'"' + inner[:end] + b'"')
        except ValueError:
            continue
        return decoded if isinstance(decoded, str) and text.startswith(decoded) else ""
    return ""
