"""Whether the other end can have got a request, as far as the kernel knows: what comes before is no answer to it."""

from __future__ import annotations

import asyncio
import fcntl
import sys
import termios

from batchmix.http.proxies import is_loopback


class Arrival:
    """Watches what one connection sends.

    A segment that carries an answer acknowledges the request. So where one comes while not a byte of the request was
    acknowledged, it had left before: it is a second answer to the request before, or somebody else's.
    """

    __slots__ = ("_left", "_sent", "_socket", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._socket = transport.get_extra_info("socket").fileno()
        self._left = bytearray(4)
        self._sent = 0

    def sent(self, count: int) -> None:
        """Take note that so many bytes were handed to the transport."""
        self._sent = count

    def has_begun(self) -> bool:
        """Return whether any of what was sent last has been acknowledged, or the system does not tell."""
        try:
            fcntl.ioctl(self._socket, termios.TIOCOUTQ, self._left)
        except OSError:
            return True
        left = int.from_bytes(self._left, sys.byteorder)
        return left + self._transport.get_write_buffer_size() < self._sent


def arrival_over(transport: asyncio.Transport) -> Arrival | None:
    """Return what watches a connection; None within this machine, where all is acknowledged at once."""
    peer = transport.get_extra_info("peername")
    return None if not peer or is_loopback(str(peer[0])) else Arrival(transport)
