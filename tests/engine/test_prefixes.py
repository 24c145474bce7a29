"""The tree finds the prefixes that requests share, at any depth, and forgets those that none shares."""

from __future__ import annotations

import random

import pytest

from batchmix.engine import prefixes
from batchmix.engine.prefixes import PrefixTree, common_size, least_tokens

SYSTEM = bytes(random.Random(0).choices(b"abcdefgh ", k=6000))
DOCUMENTS = [bytes(random.Random(number).choices(b"abcdefgh ", k=9000)) for number in range(1, 4)]


def test_requests_share_the_longest_prefix_and_those_above_it() -> None:
    tree = PrefixTree("m")
    found = [tree.add(SYSTEM + DOCUMENTS[row % 3] + b"Question %d" % row) for row in range(9)]
    last = tree.add(SYSTEM + b"something else")
    assert last is not None
    assert last.text == SYSTEM
    for row, prefix in enumerate(found):
        assert prefix is not None
        assert prefix.text == SYSTEM + DOCUMENTS[row % 3] + b"Question "
        assert prefix.parent is last


def test_a_short_request_has_no_prefix() -> None:
    tree = PrefixTree("m")
    assert tree.add(SYSTEM[:4095]) is None
    assert tree.add(SYSTEM[:4096]) is not None


def test_requests_that_differ_early_share_nothing() -> None:
    tree = PrefixTree("m")
    first, second = (tree.add(text + SYSTEM) for text in (b"a", b"b"))
    assert first is not second


def test_a_little_more_in_common_is_no_prefix_of_its_own() -> None:
    tree = PrefixTree("m")
    texts = [b"What is 1?", b"What is 2?", b"Who is 1?", b"Name 1"]
    found = {tree.add(SYSTEM + text) for text in texts}
    (prefix,) = found
    assert prefix is not None
    assert prefix.text == SYSTEM


def test_what_no_request_shares_is_forgotten_and_what_many_share_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefixes, "_MAX_BYTES", 100_000)
    tree = PrefixTree("m")
    shared = [tree.add(SYSTEM + b"%d" % row) for row in range(2)][1]
    alone = random.Random(5)
    for _ in range(50):
        tree.add(alone.randbytes(8000))
        assert tree.add(SYSTEM + b"again") is shared
    assert sum(len(prefix.text) for prefix in tree._root.children.values()) < 120_000


def test_the_common_size_of_two_texts() -> None:
    for one, other in ((b"", b"a"), (b"ab", b"ac"), (b"abc", b"abcd"), (b"abc", b"abc")):
        assert common_size(one, other) == next(
            (at for at in range(min(len(one), len(other))) if one[at] != other[at]), min(len(one), len(other))
        )


def test_models_that_cache_only_longer_prompts() -> None:
    assert least_tokens("gpt-4o-mini") == 1024
    assert least_tokens("claude-sonnet-4-5") == 1024
    assert least_tokens("anthropic/claude-opus-4.5") == 4096
    assert least_tokens("gemini-2.5-flash") == 2048
