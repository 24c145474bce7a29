"""The checksum at the end of a line of JSON, by which damage to it is seen.

It is the XXH3 (64 bits) of all bytes before `,"xxh3"`. Lines of earlier versions have a CRC-32 (zlib's) of all bytes
before `,"crc"`, which takes ten times as long.
"""

from __future__ import annotations

import re
import zlib

import xxhash

_KEY, _TRAILER_BYTES = b',"xxh3":"', len(b',"xxh3":"0123456789abcdef"}')
_OLD_KEY, _OLD_TRAILER_BYTES = b',"crc":"', len(b',"crc":"01234567"}')
# Inside a JSON string each quote is escaped, so the pattern does not match there, even if an answer quotes a journal.
TRAILER = re.compile(rb',"(?:xxh3":"[0-9a-f]{16}|crc":"[0-9a-f]{8})"\}')
"""Matches the end of a line."""


def add_checksum(line: bytearray) -> None:
    """Add the checksum to a JSON object, as its last key, and a newline."""
    line.pop()
    line += b'%b%016x"}\n' % (_KEY, xxhash.xxh3_64_intdigest(line))


def checksum_holds(line: bytes) -> bool:
    """Return whether a line without its newline is undamaged."""
    with memoryview(line) as view:  # a long answer is not copied
        if line.startswith(_OLD_KEY, len(line) - _OLD_TRAILER_BYTES):
            return line.endswith(b'%b%08x"}' % (_OLD_KEY, zlib.crc32(view[:-_OLD_TRAILER_BYTES])))
        return line.endswith(b'%b%016x"}' % (_KEY, xxhash.xxh3_64_intdigest(view[:-_TRAILER_BYTES])))


def has_checksum(line: bytes) -> bool:
    """Return whether a line without its newline ends with a checksum, which may be a damaged one."""
    forms = (_KEY, _TRAILER_BYTES), (_OLD_KEY, _OLD_TRAILER_BYTES)
    return line[-2:] == b'"}' and any(line[-length:].startswith(key) for key, length in forms)
