"""Digests of input bytes, which tell a later start, or the end of the run, which shards have changed.

They are made by XXH3, which takes a tenth of the time of SHA-256. It sees every change but one: by somebody who looks
for two inputs with the same digest, to deceive their own run. Which request an answer belongs to is a SHA-256 hash
(`requests.py`).
"""

from __future__ import annotations

import hashlib
from typing import Protocol

import xxhash

_MARK = "x"
"""Begins the digests that are made by XXH3. Run folders of earlier versions have SHA-256 digests, without a mark."""
_HEX_DIGITS = 32


class Digest(Protocol):
    """A digest that is being computed."""

    @property
    def name(self) -> str:
        """The algorithm."""

    def update(self, data: bytes, /) -> None:
        """Add bytes to it."""

    def hexdigest(self) -> str:
        """Return it as hex digits."""


def new_digest(like: str = "") -> Digest:
    """Return an empty digest, which will be compared with the text `like` of an earlier one if there is one."""
    return hashlib.sha256() if like and not like.startswith(_MARK) else xxhash.xxh3_128()


def digest_text(digest: Digest) -> str:
    """Return a digest as text, in the form in which the digests of shards are stored."""
    text = digest.hexdigest()[:_HEX_DIGITS]
    return text if digest.name == "sha256" else _MARK + text
