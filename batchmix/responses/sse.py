"""Decodes server-sent events from bytes that were cut anywhere: WHATWG HTML, 9.2.5 and 9.2.6.

Only an event's data counts here; names, ids and retry times are for browsers.
"""

from __future__ import annotations

_BOM = b"\xef\xbb\xbf"


class EventDecoder:
    """Holds only the event that has not come whole yet."""

    def __init__(self) -> None:
        self._line = bytearray()
        """The beginning of a line whose end has not come."""
        self._data = bytearray()
        """Each line of data, with a line feed after it."""
        self._after_cr = False
        self._is_first = True

    @property
    def size(self) -> int:
        """How many bytes are held."""
        return len(self._line) + len(self._data)

    def feed(self, piece: bytes) -> list[bytes]:
        """Return the data of the events that end in this piece; events without data are left out."""
        if self._after_cr and piece:
            self._after_cr = False
            piece = piece.removeprefix(b"\n")
        if not piece:
            return []
        lines = piece.splitlines()
        if self._line:
            self._line += lines[0]
            lines[0] = b""
        rest = b"" if piece.endswith((b"\r", b"\n")) else lines.pop()
        if lines and self._line:
            lines[0] = bytes(self._line)
            self._line.clear()
        self._line += rest
        self._after_cr = piece.endswith(b"\r")
        return [data for line in lines if (data := self._take_line(line)) is not None]

    def rest(self) -> bytes:
        """Return the data of an event whose end never came.

        The standard drops it. Here it may be the end of an answer, from a server that leaves out the last empty line;
        its JSON shows whether it is complete.
        """
        self._take_line(bytes(self._line))
        self._line.clear()
        return bytes(self._data[:-1])

    def _take_line(self, line: bytes) -> bytes | None:
        """Take a line; return the data of the event that it ends."""
        if self._is_first:
            self._is_first = False
            line = line.removeprefix(_BOM)
        if not line:
            data = bytes(self._data[:-1])
            self._data.clear()
            return data or None
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data += value.removeprefix(b" ") + b"\n"
        return None
