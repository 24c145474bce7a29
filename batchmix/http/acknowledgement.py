"""Detects a response that was sent before the request had arrived, and so belongs to another request."""

from __future__ import annotations

import asyncio
import fcntl
import sys
import termios

from batchmix.http.proxies import is_loopback


class Acknowledgement:
    """Shows whether the server's kernel has acknowledged the request that was last sent over a connection.

    A TCP segment with the response also acknowledges the request. So data that arrives while no byte of the request is
    acknowledged was sent before the request arrived: it is a second response to the previous request, or another
    client's response.
    """

    __slots__ = ("_descriptor", "_sent", "_transport", "_unacknowledged")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._descriptor = transport.get_extra_info("socket").fileno()
        self._unacknowledged = bytearray(4)  # a C int, which ioctl fills in
        self._sent = 0

    def sent(self, count: int) -> None:
        """Record that `count` bytes were handed to the transport."""
        self._sent = count

    def has_begun(self) -> bool:
        """Return whether any byte of the last request was acknowledged. True if the system can't tell."""
        try:
            fcntl.ioctl(self._descriptor, termios.TIOCOUTQ, self._unacknowledged)
        except OSError:
            return True
        unacknowledged = int.from_bytes(self._unacknowledged, sys.byteorder)
        return unacknowledged + self._transport.get_write_buffer_size() < self._sent


def acknowledgement_of(transport: asyncio.Transport) -> Acknowledgement | None:
    """Return an `Acknowledgement` for a connection. None on loopback, where every byte is acknowledged at once."""
    peer = transport.get_extra_info("peername")
    return None if not peer or is_loopback(str(peer[0])) else Acknowledgement(transport)
