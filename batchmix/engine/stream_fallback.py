"""Turning streaming off for a model whose streams break off before their end."""

from __future__ import annotations

import json
from collections.abc import Callable

import msgspec

from batchmix.formats.lenient_json import read_json
from batchmix.records import Failure, Request

_STREAMING = ("stream", "stream_options")


class StreamFallback:
    """Decides whether a lane may stream answers for which the job does not ask for a stream."""

    def __init__(self, on_off: Callable[[], None], *, is_off: bool) -> None:
        """`on_off` is called when streaming is turned off."""
        self._on_off = on_off
        self.is_off = is_off
        """Whether answers are streamed only where the job asks for it."""
        self._was_unfinished = False

    def leaving(self, request: Request) -> Request:
        """Return a request as it is sent: without a stream where these are off, unless the job asks for it."""
        return unstreamed(request) if self.is_off and request.streams_unasked else request

    def unfinished(self, request: Request, failure: Failure) -> Request:
        """Record a stream that had no end; return the request as it is sent again.

        Without its usage the stream may have broken behind the gateway, which is forgiven once.
        """
        self.is_off |= self._was_unfinished or failure.usage is not None
        self._was_unfinished = True
        if self.is_off:
            self._on_off()
        return unstreamed(request)


def unstreamed(request: Request) -> Request:
    """Return the same request without a stream; its hash stays, since that leaves streaming out."""
    body = read_json(request.body)
    plain = {key: value for key, value in body.items() if key not in _STREAMING}
    try:
        encoded = msgspec.json.encode(plain)
    except (ValueError, OverflowError):  # lone surrogates, whole numbers of any size
        encoded = json.dumps(plain, separators=(",", ":")).encode()
    return msgspec.structs.replace(request, body=encoded, streamed_choices=0, streams_unasked=False)
