"""Requests whose answers are not to be streamed: the same ones, with the answer to come as one body."""

from __future__ import annotations

import json
from collections.abc import Callable

import msgspec

from batchmix.formats.lenient_json import read_json
from batchmix.records import Failure, Request

_STREAMING = ("stream", "stream_options")


class StreamFallback:
    """Knows whether a lane may stream what nobody asks it to; a model whose streams lack their end is better not."""

    def __init__(self, *, is_off: bool) -> None:
        self.is_off = is_off
        """Whether answers are streamed only where the job asks for it."""
        self.on_off: Callable[[], None] = lambda: None
        """Called when that is found."""
        self._was_unfinished = False

    def leaving(self, request: Request) -> Request:
        """Return a request as it is to leave."""
        return unstreamed(request) if self.is_off and request.streams_unasked else request

    def unfinished(self, request: Request, failure: Failure) -> Request:
        """Take note of a stream that lacked its end; return the request as it is to be asked again.

        Where its usage is not told it may have broken behind the gateway, which may happen once.
        """
        self.is_off |= self._was_unfinished or failure.usage is not None
        self._was_unfinished = True
        if self.is_off:
            self.on_off()
        return unstreamed(request)


def unstreamed(request: Request) -> Request:
    """Return a request that asks the same without a stream; its hash knows nothing of streams."""
    body = read_json(request.body)
    plain = {key: value for key, value in body.items() if key not in _STREAMING}
    try:
        encoded = msgspec.json.encode(plain)
    except (ValueError, OverflowError):  # lone surrogates, whole numbers of any size
        encoded = json.dumps(plain, separators=(",", ":")).encode()
    return msgspec.structs.replace(request, body=encoded, streamed_choices=0, streams_unasked=False)
