"""Decodes server-sent events (WHATWG HTML, 9.2.5 and 9.2.6) from pieces that may be cut anywhere.

Only the data of an event is returned: names, ids and retry times are for browsers.
"""

from __future__ import annotations

_BOM = b"\xef\xbb\xbf"
_NAME_CHARS = len("data: ")


class EventDecoder:
    """Decodes pieces as they arrive. Only the incomplete event at the end is kept in memory."""

    def __init__(self) -> None:
        self._line = bytearray()
        """The beginning of a line whose end has not arrived."""
        self._data = bytearray()
        """The data lines of the current event, each with a line feed after it."""
        self._after_cr = False
        self._is_first = True

    @property
    def size(self) -> int:
        """The number of bytes in memory."""
        return len(self._line) + len(self._data)

    def feed(self, piece: bytes) -> list[bytes]:
        """Decode a piece, and return the data of each event that ends in it. Events without data are left out."""
        if self._after_cr and piece:
            self._after_cr = False
            piece = piece.removeprefix(b"\n")
        if not piece:
            return []
        if self._is_first and not self._line and not _BOM.startswith(piece[:1]):
            self._is_first = False
        if not (self._is_first or self._data or b"\r" in piece):
            return self._whole_events(piece)
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

    def _whole_events(self, piece: bytes) -> list[bytes]:
        """Decode a piece without carriage returns, as `feed` does, but event by event, which takes a third of the time.

        No data of an event is in memory.
        """
        if b"\n" not in piece:
            self._line += piece
            return []
        *events, rest = (bytes(self._line) + piece if self._line else piece).split(b"\n\n")
        found = []
        for event in events:
            if event.startswith(b"data: ") and len(event) > _NAME_CHARS and b"\n" not in event and not self._data:
                found.append(event[_NAME_CHARS:])
            else:
                found += filter(None, map(self._take_line, [*event.split(b"\n"), b""]))
        *lines, self._line[:] = rest.split(b"\n")
        found += filter(None, map(self._take_line, lines))
        return found

    def rest(self) -> bytes:
        """Return the data of an event whose end never arrived.

        The standard drops such an event. Here it may be the end of an answer, if a server leaves out the last empty
        line. The caller can see that from whether the data is complete JSON.
        """
        self._take_line(bytes(self._line))
        self._line.clear()
        return bytes(self._data[:-1])

    def _take_line(self, line: bytes) -> bytes | None:
        """Add a line to the current event. If the line ends an event that has data, return the data, otherwise None."""
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
