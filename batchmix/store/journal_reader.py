"""Reads journals, even after a kill or from a bad disk. Each line is JSON with a checksum at the end.

A kill leaves at most one incomplete line, at the end. A damaged line does not affect the others. The first line is the
header of the journal. Lines after the header of another shard or lane are skipped.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec

from batchmix.store.events import Event, JournalHeader
from batchmix.store.filesystem import open_plain
from batchmix.store.line_checksum import TRAILER, checksum_holds, has_checksum

# Inside a JSON string each quote is escaped, so the pattern does not match there, even if an answer quotes a journal.
_START = re.compile(rb'\{"e":"(?:begun|sent|heard|ended)",')
_NO_ANSWERS = (b'{"e":"begun",', b'{"e":"sent",', b'{"e":"ended",')
Decoded = TypeVar("Decoded", bound=msgspec.Struct)
_decoder: msgspec.json.Decoder[Event | JournalHeader] = msgspec.json.Decoder(Event | JournalHeader)


def decode_line(line: bytes) -> Event | JournalHeader | None:
    """Return the event on a line, with or without its newline. None if the line is damaged."""
    return decode_with(_decoder, line)


def decode_with(decoder: msgspec.json.Decoder[Decoded], line: bytes) -> Decoded | None:
    """Decode a line that `journal.encode_line` returned. None if the line is damaged or written by another version."""
    line = line.rstrip(b"\n")
    if not checksum_holds(line):
        return None
    try:
        return decoder.decode(line)
    except msgspec.DecodeError:  # an undamaged line of another version
        return None


def was_whole(line: bytes) -> bool:
    """Return whether a line that can't be decoded is complete. If so, it was damaged later, not cut off by a kill."""
    line = line.rstrip(b"\n")
    return line[:1] == b"{" and has_checksum(line) and b"\0" not in line


class Line(msgspec.Struct, frozen=True, gc=False):
    """An event and its position in a journal."""

    offset: int
    length: int
    event: Event | JournalHeader


class Damage(msgspec.Struct, frozen=True, gc=False):
    """Bytes in a journal that are not an event, or that belong to another journal."""

    offset: int
    length: int
    answer: bool = True
    """Whether the bytes may have contained an answer."""
    whole: bool = False
    """Whether the bytes are a complete line."""
    other: bool = False
    """Whether the bytes belong to another shard or lane, whose journal was copied over this one."""

    def message(self, name: str) -> str:
        """Return a message for the user. `name` is the name of the journal."""
        what = "another shard's" if self.other else "damaged"
        return f"{name}: {self.length} bytes at {self.offset} are {what} and were skipped"


def read_events(file: BinaryIO) -> Iterator[Line | Damage]:
    """Yield the events and the damage in a journal in order.

    An incomplete last line is left out, since any kill may leave one. A complete last line that can't be decoded is
    damage.
    """
    offset = 0
    damage: list[Damage] = []  # reported only when an undamaged event follows
    for line in file:
        event = decode_line(line) if line != b"\n" else None
        if event is not None:
            yield from damage
            damage = []
            yield Line(offset, len(line.rstrip(b"\n")), event)
        elif line != b"\n":
            for entry in salvaged(line, offset):
                if isinstance(entry, Damage):
                    damage.append(entry)
                else:
                    yield from damage
                    damage = []
                    yield entry
        offset += len(line)
    yield from (entry for entry in damage if entry.whole)


def salvaged(line: bytes, offset: int) -> Iterator[Line | Damage]:
    """Yield the events that can still be read in damaged bytes, and the damage around them.

    For example, only the newline between two lines may be damaged.
    """
    end = 0
    for start in _START.finditer(line):
        trailer = TRAILER.search(line, start.end())
        if start.start() < end or trailer is None:
            continue
        event = decode_line(line[start.start() : trailer.end()])
        if event is None:
            continue
        if start.start() > end:
            yield _damage(line[end : start.start()], offset + end)
        end = trailer.end()
        yield Line(offset + start.start(), end - start.start(), event)
    if len(line.rstrip(b"\n\0")) > end:
        yield _damage(line[end:], offset + end)


def _damage(raw: bytes, offset: int) -> Damage:
    # A power loss leaves zeros where a page was not written to the disk.
    answer = b"\0" not in raw and not raw.startswith(_NO_ANSWERS)
    return Damage(offset, len(raw), answer=answer, whole=was_whole(raw))


def read_own_lines(file: BinaryIO, shard: int, lane: int) -> Iterator[Line | Damage]:
    """Yield the events and the damage in the journal of a shard and lane.

    Lines after the header of another journal are damage.
    """
    other: int | None = None
    for entry in read_events(file):
        if isinstance(entry, Line) and isinstance(entry.event, JournalHeader):
            is_own = (entry.event.shard, entry.event.lane) == (shard, lane)
            if other is not None and is_own:
                yield Damage(other, entry.offset - other, other=True)
            other = None if is_own else entry.offset if other is None else other
        elif other is None:
            yield entry
    if other is not None:
        yield Damage(other, file.tell() - other, other=True)


def has_event(path: Path) -> bool:
    """Return whether a file is a journal with at least one event. Raises `RunError` for a link."""
    try:
        with open_journal(path) as file:
            return any(isinstance(entry, Line) for entry in read_events(file))
    except FileNotFoundError:
        return False


def is_foreign(path: Path) -> bool:
    """Return whether a file has content but holds neither an event nor the beginning of one. Raises `RunError`."""
    begin = b'{"e":"'
    try:
        with open_journal(path) as file:
            head = next((line for line in file if line.strip(b"\0\n")), b"").strip(b"\0\n")[: len(begin)]
    except FileNotFoundError:
        return False
    return not begin.startswith(head) and not has_event(path)


def open_journal(path: Path) -> BinaryIO:
    """Open a journal for reading. Raises `RunError` if it is a link or not a regular file."""
    return open(open_plain(path, os.O_RDONLY), "rb")  # noqa: PTH123 - no link is followed
