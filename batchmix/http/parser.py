"""aiohttp's parser, held to one answer at a time: what comes behind it, or unasked, is nobody's.

The parser itself takes whatever comes: the beginning of another answer would lie in it unseen, and become the answer
to the next request; and bytes that are no HTTP, behind a whole answer in one piece, would take that answer with them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import aiohttp
import msgspec
from aiohttp import hdrs
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpProcessingError, HttpResponseParser, RawResponseMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

_MOST_HEADER_BYTES = 2**17
"""A header line above aiohttp's 8 kB must not cost an answer that was paid for."""
_READ_AHEAD_BYTES = 2**18
_BODILESS = (204, 304)
"""Statuses of answers that have no body, whatever their headers say (RFC 9112, 6.3)."""
_WORD = "between-answers"
_BETWEEN = f"HTTP/1.1 100 {_WORD}\r\n\r\n".encode()
"""It is read as what it is, by a parser that expects an answer to begin; in the middle of one it is something else."""
_GOODBYE = re.compile(rb"\s*HTTP/1\.[01] 408\b")
"""Said by HAProxy, nginx and others over an idle connection, before they close it."""
_ALERT = b"\x15\x03"
SPEAKS_TLS = "it speaks TLS"
"""Said of a server that answers plain HTTP so."""
_UP_TO_EMPTY_LINE = re.compile(rb".*?\n\r?\n|.+", re.DOTALL)
_decoder = json.JSONDecoder(strict=False, parse_int=len)

Head = tuple[RawResponseMessage, StreamReader]
"""Of an answer, with the body that is yet to come."""
Parsed = tuple[Sequence[Head], bool, bytes]
_NOTHING: Parsed = ((), False, b"")


class Parser:
    """Stands in a protocol in the place of aiohttp's parser; an answer is let in between `ask` and `rest` only.

    `on_surplus` is called when anything came that nobody asked for, after which the connection is to be closed.
    """

    __slots__ = (
        "_asked", "_before", "_feed", "_has_head", "_inner", "_is_all", "_loop", "_on_surplus", "_protocol",
        "was_paused",
    )  # fmt: skip

    def __init__(self, protocol: ResponseHandler, on_surplus: Callable[[], None]) -> None:
        self._protocol = protocol
        self._on_surplus = on_surplus
        self._loop = asyncio.get_running_loop()
        self._inner = _new_parser(protocol)
        self._feed: Callable[[bytes], Parsed] = self._inner.feed_data
        self._asked = False
        self._has_head = False  # of the answer that was asked for
        self._before = b""  # that came of its head so far, where that was cut
        self._is_all = False  # it came in one piece, which by its length ends where the answer does
        self.was_paused = False
        """Whether more came of this answer, for a while, than was read."""

    def expect(self) -> asyncio.Future[Head]:
        """Return what the head of the next answer will be given to, or what breaks the connection before."""
        head: asyncio.Future[Any] = self._loop.create_future()
        self._protocol._waiter = head
        return head

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits for a head."""
        head = self._protocol._waiter
        return head is not None and not head.done()

    def fail(self, error: Exception) -> None:
        """Give whoever waits for a head an error instead."""
        if self.is_awaited:
            head: Any = self._protocol._waiter
            head.set_exception(error)

    def ask(self) -> None:
        """Let an answer in."""
        self._asked = True
        self._has_head = self._is_all = self.was_paused = False

    def rest(self) -> bool:
        """Let nothing more in; return whether not one byte followed the answer, which was read to its end."""
        self._asked = False
        if self._protocol._buffer:
            if not all(message.code == 408 for (message, _), _ in self._protocol._buffer):
                self._on_surplus()
            return False
        if self._protocol.should_close:
            return False
        if self._is_all:  # nearly always, and it spares the parser the question
            return True
        try:
            messages = self._feed(_BETWEEN)[0]
            if len(messages) == 1 and messages[0][0].reason == _WORD:
                return True
        except Exception:  # noqa: BLE001, S110 - whatever it is, it is not what was fed
            pass
        self._on_surplus()
        return False

    def feed_data(self, data: bytes) -> Parsed:
        """Parse what has come; raise what aiohttp's parser raises where an answer can't be read."""
        if not self._asked:
            return self._unasked(data)
        try:
            found = self._feed(data)
        except Exception as error:  # noqa: BLE001 - of many kinds; it is raised again where it matters
            return self._broken(data, error)
        if self._has_head:
            self._is_all = self._is_all and not data  # nothing at all comes where reading is taken up again
            return found
        messages, upgraded, rest = found
        for number, (message, payload) in enumerate(messages, 1):
            if message.code >= 200 or message.code == 101:  # "continue" and the like go before an answer
                self._is_all = not self._before and len(messages) == 1 and _is_all(data, message)
                self._answer(message, payload)
                return messages[number:], upgraded, rest
        self._before += data
        return (), upgraded, rest

    def _answer(self, message: RawResponseMessage, payload: StreamReader) -> None:
        """Give the head of the answer to whoever waits for it, past the protocol, which would have it queued."""
        protocol = self._protocol
        self._has_head, self._before = True, b""
        protocol._payload = payload
        if message.should_close:
            protocol.force_close()
        if message.code == 101:
            self.fail(HttpProcessingError(message="it goes on in a protocol that nobody asked for"))
        elif self.is_awaited:
            head: Any = protocol._waiter
            head.set_result((message, EMPTY_PAYLOAD if message.code in _BODILESS else payload))

    def feed_eof(self) -> Any:
        """Take note that nothing more will come."""
        return self._inner.feed_eof()

    def pause_reading(self) -> None:
        """Let the rest of what has come lie until it is wanted."""
        self.was_paused = True
        self._inner.pause_reading()

    def _unasked(self, data: bytes) -> Parsed:
        if data:
            if not (self._protocol.should_close or _GOODBYE.match(data)):
                self._on_surplus()
            self._protocol.force_close()
            if self._protocol.transport is not None:
                self._protocol.transport.close()
        return _NOTHING

    def _broken(self, data: bytes, error: Exception) -> Parsed:
        """Keep an answer that was whole before something came that can't be read."""
        if self._has_head:
            self._end(self._protocol._payload)
            return _NOTHING
        self._inner = _new_parser(self._protocol)
        for piece in _UP_TO_EMPTY_LINE.findall(self._before + data):
            try:
                messages = self._inner.feed_data(piece)[0]
            except Exception:  # noqa: BLE001 - as above
                break
            for message, payload in messages:
                if message.code >= 200 and not self._has_head:
                    self._answer(message, payload)
        if not self._has_head:
            raise HttpProcessingError(message=SPEAKS_TLS) if data.startswith(_ALERT) else error
        self._end(self._protocol._payload)
        return _NOTHING

    def _end(self, payload: StreamReader | None) -> None:
        """Read nothing more; the answer is whole, or will never be."""
        self._protocol.force_close()
        self._feed = _nothing
        if payload is None or payload.is_eof():
            self._on_surplus()
        elif payload.exception() is None:
            payload.set_exception(aiohttp.ClientPayloadError("it can't be read any further"))


def first_object(body: bytes) -> bytes:
    """Return the JSON object that a body begins with; all of it where it is one, or begins with none.

    For bodies that end with their connection: whatever else was sent before that has become a part of them.
    """
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except (msgspec.MsgspecError, RecursionError):
        text = body.decode("utf-8", "surrogateescape")
        begin = len(text) - len(text.lstrip("\ufeff \t\r\n"))
        with contextlib.suppress(ValueError, RecursionError):
            found, end = _decoder.raw_decode(text, begin)
            return text[:end].encode("utf-8", "surrogateescape") if isinstance(found, dict) else body
    return body


def _is_all(data: bytes, message: RawResponseMessage) -> bool:
    """Return whether what has come is one ordinary answer and not a byte more, as its Content-Length has it."""
    if message.code != 200 or message.chunked:
        return False
    length = message.headers.get(hdrs.CONTENT_LENGTH, "")
    return length.isdigit() and len(data) - data.find(b"\r\n\r\n") - 4 == int(length)


def _nothing(_: bytes) -> Parsed:
    return _NOTHING


def _new_parser(protocol: ResponseHandler) -> HttpResponseParser:
    return HttpResponseParser(
        protocol,
        asyncio.get_running_loop(),
        _READ_AHEAD_BYTES,
        payload_exception=aiohttp.ClientPayloadError,
        read_until_eof=True,
        max_line_size=_MOST_HEADER_BYTES,
        max_field_size=_MOST_HEADER_BYTES,
    )
