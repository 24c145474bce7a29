"""Turns a streamed answer into the body that the same answer has without streaming.

It also reads streams that were not requested.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from batchmix.formats.lenient_json import nonempty_json, read_json
from batchmix.responses.choices import has_content
from batchmix.responses.deltas import PartialAnswer
from batchmix.responses.error_body import BLOCKED, find_error
from batchmix.responses.sse import EventDecoder
from batchmix.responses.text_events import TextEvents

_DONE = b"[DONE]"
_FIELDS = (b"data", b"event", b"id", b"retry")
_BLANK = b"\xef\xbb\xbf \t\r\n"
_START_BYTES = 16
"""The number of bytes that show whether a body is a stream: its first field name and a colon."""
UNFINISHED = "unfinished"
"""The fault of a stream that ended properly but without a finish reason. A new stream would lack it too."""
_UNFINISHED = "the stream came to its end without a finish_reason for every choice; the next request is not streamed"
_CUT_OFF = "the stream ended without a finish_reason for every choice"
_UNREADABLE = "the stream held an event that is no JSON"
_EVENTS = re.compile(rb"[\xef\xbb\xbf\s]*(?:(?:data|event|id|retry)\s?:|:)")
_COMMENTS = re.compile(rb"(?:\xef\xbb\xbf)?+(?:\s*+:[^\r\n]*+)++\s*+(?=\{)")
_LINE = re.compile(rb"^(data:.*)$", re.MULTILINE)
_LAST_EVENTS = ("response.completed", "response.incomplete", "response.failed", "response.done")


class StreamResult(msgspec.Struct, frozen=True):
    """The result of a stream."""

    body: bytes
    """The body of the result: a complete answer as an ordinary body; an incomplete answer as a list with one joined
    chunk, which no reader takes for an answer; an error event, or a body that was not a stream, unchanged.
    """
    fault: str | None = None
    """The fault as in `Exchange`: `cut_off`, `unfinished`, `timeout`, `bad_answer` or `too_large`."""
    fault_message: str = ""
    is_settled: bool = False
    """Whether the result is final. If it is, a connection that breaks afterwards does not change it."""
    maybe_billed: bool = False
    """Whether an error arrived after a part of the answer, which may have been billed."""


class AnswerStream:
    """Joins the pieces of a stream, which may be split anywhere. It keeps the joined answer in memory, not the events.

    `choices` is the number of choices requested. The answer is complete when every requested choice has a finish
    reason. Not every provider honours `n`, so the answer is also complete if `[DONE]` arrives and every choice that has
    begun has a finish reason. An answer without a finish reason counts as cut off. `max_bytes` bounds the memory.
    """

    def __init__(self, choices: int, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._start = b""
        self._plain: bytearray | None = bytearray()
        """Everything that arrived, as long as the body may be an ordinary one. None once it is known to be a stream."""
        self._events = EventDecoder()
        self._deltas = PartialAnswer(choices)
        self._texts = TextEvents(self._deltas)
        self._error: bytes | None = None
        self._unreadable = False
        self._is_over = False
        self.silent_s: float | None = None
        """The number of silent seconds after which the stream was given up. None if it was not given up."""
        self.is_too_large = False
        """Whether the answer is larger than `max_bytes`. If so, all of it is dropped."""

    @property
    def is_done(self) -> bool:
        """Whether nothing more is expected, after `[DONE]`, an error, or all finish reasons and the usage."""
        return self._is_over or self._error is not None or (self._deltas.has_usage and self._deltas.is_whole)

    def feed(self, piece: bytes) -> None:
        """Add the next bytes. Never raises."""
        if self.is_too_large:
            return
        if self._plain is not None:
            self._plain += piece
            piece = self._undecided(piece)
        events = self._events.feed(piece)
        at = 0
        while (at := self._texts.add(events, at)) < len(events):
            self._add(events[at])
            at += 1
        size = len(self._plain or b"") + self._events.size + self._deltas.size
        if size > self._max_bytes:
            self.is_too_large = True
            self._plain, self._events, self._deltas = None, EventDecoder(), PartialAnswer(1)
            self._texts = TextEvents(self._deltas)

    def give_up(self, silent_s: float) -> None:
        """Record that nothing came for `silent_s` seconds, and that nothing more is waited for."""
        self.silent_s = silent_s

    def end(self) -> StreamResult:
        """Return the result. No bytes may be added afterwards. Never raises."""
        if self.is_too_large:
            return StreamResult(b"", "too_large", f"the answer is larger than {self._max_bytes} bytes")
        if self._plain is not None:
            if self.silent_s is not None:
                return StreamResult(bytes(self._plain), "timeout", _silent(self.silent_s))
            return StreamResult(bytes(self._plain))
        rest = self._events.rest()
        if isinstance(read_json(rest), dict) or rest.strip() == _DONE:
            self._add(rest)
        if self._error is not None:
            return StreamResult(self._error, is_settled=True, maybe_billed=self._deltas.has_text)
        is_whole = self._deltas.is_whole or (self._is_over and self._deltas.is_finished)
        if is_whole and not self._unreadable and (answer := self._deltas.answer()) is not None:
            return StreamResult(answer, is_settled=True)
        chunk = self._deltas.chunk()
        so_far = b"[%b]" % chunk if chunk else b""
        if is_whole or self._unreadable:
            return StreamResult(so_far, "bad_answer", _UNREADABLE)
        if self._is_over and self._deltas.has_begun:
            return StreamResult(so_far, UNFINISHED, _UNFINISHED, is_settled=True)
        if self._deltas.is_closed:
            return StreamResult(so_far, UNFINISHED, _UNFINISHED)
        if self.silent_s is not None:
            return StreamResult(so_far, "timeout", _silent(self.silent_s))
        return StreamResult(so_far, "cut_off", _CUT_OFF)

    def _undecided(self, piece: bytes) -> bytes:
        """Return all bytes so far if they begin a stream. Empty if they do not, or if it is too early to say."""
        self._start = (self._start + piece).lstrip(_BLANK)[:_START_BYTES]
        field, colon, _ = self._start.replace(b"\r", b":").replace(b"\n", b":").partition(b":")
        if not colon or (field and field not in _FIELDS):
            return b""
        assert self._plain is not None
        prefix, self._plain = bytes(self._plain), None
        return prefix

    def _add(self, data: bytes) -> None:
        """Add the data of one event to the answer, or record that the event ends the stream, is an error or is
        unreadable.
        """
        if self._is_over or self._error is not None:
            return
        data = data.strip()
        if data == _DONE:
            self._is_over = True
            self._texts.forget()
            return
        chunk = read_json(data) if data.startswith(b"{") else None
        if not isinstance(chunk, dict):  # plain text keeps the connection alive, but an unreadable chunk is a gap
            self._unreadable |= data.startswith(b"{") and not self._deltas.is_whole
        elif has_content(chunk.get("error")) or _is_error(chunk, data):
            if not self._deltas.is_whole:  # a complete answer was billed, so it counts despite a later error
                self._error = data
                self._texts.forget()
        else:
            try:
                self._deltas.add(chunk, len(data))
            except RecursionError:
                self._unreadable = True
            else:
                self._texts.learn(data, chunk)


def _is_error(chunk: dict[str, Any], data: bytes) -> bool:
    """Return whether an event reports an error or a blocked prompt instead of any choices."""
    if chunk.get("choices"):
        return False
    error = find_error(data)
    return error is not None and ("choices" not in chunk or error.code == BLOCKED)


def _silent(silent_s: float) -> str:
    return f"nothing more came of the answer for {silent_s:g} s"


def ordinary_body(body: bytes, join_stream: Callable[[bytes], bytes | None]) -> bytes:
    """Return the body that a complete stream has without streaming. Any other body is returned unchanged.

    Events are also read if the empty lines that end them are missing. Comments before an ordinary body are dropped.
    """
    if not _EVENTS.match(body):
        return body
    comments = _COMMENTS.match(body)
    if comments:
        return body[comments.end() :]
    return join_stream(body) or join_stream(_LINE.sub(rb"\1\n", body)) or body


def join_chunks(body: bytes) -> bytes | None:
    """Return the completion that a stream of chunks adds up to. None if the stream is incomplete."""
    stream = AnswerStream(1, 4 * len(body) + 1024)
    stream.feed(body)
    result = stream.end()
    return result.body if result.fault is None else None


def last_response(body: bytes) -> bytes | None:
    """Return the response in the last event of a Responses API stream, or else its error. None if it has neither."""
    events = EventDecoder()
    decoded = [read_json(data) for data in (*events.feed(body), events.rest())]
    responses = [
        event.get("response") for event in decoded if isinstance(event, dict) and event.get("type") in _LAST_EVENTS
    ]
    errors = [event for event in decoded if isinstance(event, dict) and event.get("type") == "error"]
    text = nonempty_json((responses or errors)[-1]) if responses or errors else None
    return text.encode() if text else None
