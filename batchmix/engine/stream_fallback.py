"""Turns streaming off for a model whose streams break off before their end."""

from __future__ import annotations

import json
from collections.abc import Callable

import msgspec

from batchmix.formats.lenient_json import read_json
from batchmix.records import Failure, Request

_STREAMING = ("stream", "stream_options")


class StreamFallback:
    """Decides whether a lane streams answers although the job does not ask for streaming."""

    def __init__(self, on_off: Callable[[], None], *, is_off: bool) -> None:
        """`on_off` is called when streaming is turned off."""
        self._on_off = on_off
        self.is_off = is_off
        """Whether streaming is off, except where the job asks for it."""
        self._was_unfinished = False

    def leaving(self, request: Request) -> Request:
        """Return a request as it must be sent: without streaming if that is off and the job does not ask for it."""
        return unstreamed(request) if self.is_off and request.streams_by_default else request

    def unfinished(self, request: Request, failure: Failure) -> Request:
        """Record a stream that broke off, and return the request for the retry, without streaming.

        Streaming is turned off at the first such stream that reported its usage. Without usage it may have broken off
        behind the gateway, so it is only turned off at the second one.
        """
        self.is_off |= self._was_unfinished or failure.usage is not None
        self._was_unfinished = True
        if self.is_off:
            self._on_off()
        return unstreamed(request)


def unstreamed(request: Request) -> Request:
    """Return the same request without streaming. Its hash stays the same, since it does not cover streaming."""
    body = read_json(request.body)
    plain = {key: value for key, value in body.items() if key not in _STREAMING}
    try:
        encoded = msgspec.json.encode(plain)
    except (ValueError, OverflowError):  # lone surrogates, whole numbers of any size
        encoded = json.dumps(plain, separators=(",", ":")).encode()
    return msgspec.structs.replace(request, body=encoded, streamed_choices=0, streams_by_default=False)
