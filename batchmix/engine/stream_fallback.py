"""Turns streaming off for a model whose streams break off before their end."""

from __future__ import annotations

from collections.abc import Callable

from batchmix.records import Failure, Request
from batchmix.responses.streaming import unstreamed


class StreamFallback:
    """Decides whether a lane streams the answers to requests for which the job does not set streaming."""

    def __init__(self, on_off: Callable[[], None], *, is_off: bool) -> None:
        """`on_off` is called when streaming is turned off."""
        self._on_off = on_off
        self.is_off = is_off
        """Whether streaming is off. Requests for which the job sets streaming are not affected."""
        self._was_unfinished = False

    def as_sent(self, request: Request) -> Request:
        """Return a request as it must be sent: without streaming if streaming is off and the job does not set it."""
        return unstreamed(request) if self.is_off and request.streams_by_default else request

    def unfinished(self, request: Request, failure: Failure) -> Request:
        """Record that a request's stream broke off; return the request to retry, without streaming.

        This turns streaming off if the stream had reported its usage, or if an earlier stream broke off too. A single
        stream without usage may have broken off between the gateway and the provider behind it.
        """
        self.is_off |= self._was_unfinished or failure.usage is not None
        self._was_unfinished = True
        if self.is_off:
            self._on_off()
        return unstreamed(request)
