"""A late pattern is compiled once, when it is first used."""

from __future__ import annotations

import re

import pytest

from batchmix.scorers.late_pattern import late_pattern


def test_a_late_pattern_is_compiled_once_when_it_is_first_used(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []
    compiling = re.compile
    monkeypatch.setattr(re, "compile", lambda text, flags: compiled.append(text) or compiling(text, flags))
    pattern = late_pattern("a(b)", re.IGNORECASE)
    assert compiled == []
    assert [match[1] for text in ("xAb", "AB") if (match := pattern.search(text))] == ["b", "B"]
    assert compiled == ["a(b)"]


def test_a_late_pattern_that_is_wrong_says_so_when_it_is_first_used() -> None:
    pattern = late_pattern("(")
    with pytest.raises(re.error, match="unterminated"):
        pattern.search("")
