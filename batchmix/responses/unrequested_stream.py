"""An event stream that nobody asked for, put together into the ordinary body that it amounts to."""

from __future__ import annotations

import re

from batchmix.formats.lenient_json import json_text, read_json
from batchmix.responses.endpoints import RESPONSES, endpoint_of
from batchmix.responses.sse import Events
from batchmix.responses.stream import AnswerStream

_EVENTS = re.compile(rb"[\xef\xbb\xbf\s]*(?:(?:data|event|id|retry)\s?:|:)")
_COMMENTS = re.compile(rb"(?:\xef\xbb\xbf)?+(?:\s*+:[^\r\n]*+)++\s*+(?=\{)")
_LINE = re.compile(rb"^(data:.*)$", re.MULTILINE)
_ENDS = ("response.completed", "response.incomplete", "response.failed", "response.done")


def ordinary_body(body: bytes, path: str) -> bytes:
    """Return the body that would have come without streaming, where all of it came; any other body as it is.

    Some servers leave out the empty lines that end the events, or send comments before an ordinary body.
    """
    if not _EVENTS.match(body):
        return body
    joined = _response if endpoint_of(path) == RESPONSES else _completion
    comments = _COMMENTS.match(body)
    if comments:
        return body[comments.end() :]
    return joined(body) or joined(_LINE.sub(rb"\1\n", body)) or body


def _completion(body: bytes) -> bytes | None:
    stream = AnswerStream(1, 4 * len(body) + 1024)
    stream.feed(body)
    came = stream.end()
    return came.body if came.fault is None else None


def _response(body: bytes) -> bytes | None:
    """Return the response that the last event of a Responses stream holds whole, or the error that it ended with."""
    events = Events()
    came = [read_json(data) for data in (*events.feed(body), events.rest())]
    ends = [event.get("response") for event in came if isinstance(event, dict) and event.get("type") in _ENDS]
    errors = [event for event in came if isinstance(event, dict) and event.get("type") == "error"]
    text = json_text((ends or errors)[-1]) if ends or errors else None
    return text.encode() if text else None
