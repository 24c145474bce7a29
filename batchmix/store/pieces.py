"""Journals in object storage: each is a row of small objects, its pieces, beside which the next ones are put.

    journal/00042-000/000007-000-000001.base.jsonl    all that the journal had when this copy of it began
    journal/00042-000/000007-000-000002.jsonl         what came then, up to a second later

A name has the epoch of the lock, a copy's number within it, and the piece's number within the copy. The newest copy
counts whose pieces are there up to its base, and from the older ones nothing. So what a process puts after its lock was
taken over, with an older epoch, is read by nobody.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

import msgspec

_PIECE = re.compile(r"([0-9]{6})-([0-9]{3})-([0-9]{6})(\.base)?\.jsonl")


class Piece(msgspec.Struct, frozen=True, order=True):
    """The name of a piece."""

    epoch: int
    copy: int
    number: int
    is_base: bool = False
    """Whether the copy is complete with this piece: it has all that the journal had when the copy began."""

    @property
    def name(self) -> str:
        """The name of its object."""
        return f"{self.epoch:06}-{self.copy:03}-{self.number:06}{'.base' * self.is_base}.jsonl"


def pieces_folder(journal: str) -> str:
    """Return the folder for the pieces of a journal, both relative to the run."""
    return journal.removesuffix(".jsonl")


def journal_and_piece(key: str) -> tuple[str, Piece] | None:
    """Return the path of the journal to which an object belongs, and its piece. None if it is no piece."""
    path = PurePosixPath(key)
    match = _PIECE.fullmatch(path.name)
    if match is None or ".." in path.parts or path.parts[-3:-2] != ("journal",):
        return None
    piece = Piece(int(match[1]), int(match[2]), int(match[3]), is_base=bool(match[4]))
    return f"{path.parent}.jsonl", piece


def counting(pieces: Iterable[Piece]) -> list[Piece]:
    """Return the pieces that make up a journal, in order."""
    copies: dict[tuple[int, int], dict[int, Piece]] = {}
    for piece in pieces:
        copies.setdefault((piece.epoch, piece.copy), {})[piece.number] = piece
    for _, copy in sorted(copies.items(), reverse=True):
        whole: list[Piece] = []
        while (following := copy.get(len(whole) + 1)) is not None:
            whole.append(following)
        if any(piece.is_base for piece in whole):
            return whole
    return []
