"""Which pieces make up a journal in object storage."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchmix.store.pieces import Piece, counting, journal_and_piece, pieces_folder


def pieces(*names: str) -> list[Piece]:
    found = [journal_and_piece(f"journal/00000-000/{name}.jsonl") for name in names]
    return [named[1] for named in found if named]


@given(st.integers(1, 999_999), st.integers(0, 999), st.integers(1, 999_999), st.booleans())
def test_a_name_says_what_it_stands_for(epoch: int, copy: int, number: int, is_base: bool) -> None:
    piece = Piece(epoch, copy, number, is_base=is_base)
    journal = "draft/journal/00042-000.jsonl"
    assert journal_and_piece(f"{pieces_folder(journal)}/{piece.name}") == (journal, piece)


@pytest.mark.parametrize(
    "key",
    [
        "journal/00042-000.jsonl",
        "data/part-00000.parquet",
        "journal/x/y.jsonl",
        "run.json",
        "../journal/00000-000/000001-000-000001.base.jsonl",
        "00000-000/000001-000-000001.base.jsonl",
    ],
)
def test_other_names_are_no_pieces(key: str) -> None:
    assert journal_and_piece(key) is None


@pytest.mark.parametrize(
    ("there", "counts"),
    [
        ([], []),
        (["000001-000-000001.base", "000001-000-000002"], ["000001-000-000001.base", "000001-000-000002"]),
        # A later start has copied it anew.
        (["000001-000-000001.base", "000002-000-000001.base"], ["000002-000-000001.base"]),
        # It was killed before its copy was complete.
        (["000001-000-000001.base", "000002-000-000001"], ["000001-000-000001.base"]),
        # What a process puts after its lock was taken over, too late.
        (["000001-000-000007", "000002-000-000001.base"], ["000002-000-000001.base"]),
        (["000001-000-000007"], []),
        # A gap: one piece was put, and the one before it was not.
        (["000001-000-000001.base", "000001-000-000003"], ["000001-000-000001.base"]),
        # A copy within one start.
        (["000003-000-000001.base", "000003-001-000001", "000003-001-000002.base"],
         ["000003-001-000001", "000003-001-000002.base"]),
    ],
)  # fmt: skip
def test_the_newest_whole_copy_counts(there: list[str], counts: list[str]) -> None:
    assert counting(pieces(*there)) == pieces(*counts)
    assert counting(pieces(*reversed(there))) == pieces(*counts)
