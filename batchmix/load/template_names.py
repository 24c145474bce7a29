"""How a template names columns: by their names, or as `row["Review Text"]` where those are no single words."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable

import msgspec

from batchmix.formats.display import clean
from batchmix.job import closest

ROW = "row"
"""What a template calls the whole row, unless a column is called so."""
HOLE = re.compile(r"\{\{(.*?)\}\}|\{%(.*?)%\}", re.DOTALL)
TEXT = r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')"""
_LOOK = re.compile(
    rf"""(\bin\s+)?(?<![\w.])row\b(?:
    \s*\[\s*{TEXT}\s*\]                # row["x"]
    |\s*\.\s*get\s*\(\s*{TEXT}\s*[,)]  # row.get("x")
    |\s*\.\s*(\w+)(?!\w|\s*\()          # row.x
    |(\s*[\[.])?)                       # the row itself, what a variable says of it, or a method of it
    """,
    re.VERBOSE,
)
_WORD = re.compile(r"[^\W\d]\w*")
NO_COLUMNS = frozenset({"true", "false", "none", "True", "False", "None", "self"})
"""Words that mean something else in a template, whatever columns there are."""
_NO_NAMES = NO_COLUMNS | {"not", "in", "is", "and", "or", "if", "else"}
_EXPRESSION = re.compile(r"""["{}]|(?<!\w)'|'(?!\w)|\w[\[(]""")
"""What a column's name seldom has, and what is written wrongly for a value of one often has."""


class RowAccess(msgspec.Struct, frozen=True):
    """What a template looks for in `row`."""

    names: frozenset[str] = frozenset()
    """Columns that are named as text, as in `row["x"]`."""
    gets: frozenset[str] = frozenset()
    """Those among them that are named as in `row.get("x")`."""
    whole: bool = False
    """It may look for any column."""
    bare: bool = False
    """It uses `row` by itself too, as in `{{ row }}`."""

    def __or__(self, other: RowAccess) -> RowAccess:
        return RowAccess(
            self.names | other.names, self.gets | other.gets, self.whole or other.whole, self.bare or other.bare
        )


def row_access(text: str) -> RowAccess:
    """Return what a template's text looks for in `row`; names that stand in a text of it are taken along."""
    names, gets = set(), set()
    whole = bare = False
    for hole in HOLE.finditer(text):
        for looped, named, got, attribute, looked in _LOOK.findall(hole[1] or hole[2] or ""):
            if named or got:
                names.add(_unquoted(named or got))
                gets |= {_unquoted(got)} if got else set()
            elif attribute:
                names.add(attribute)
            else:
                whole, bare = True, bare or not (looked or looped)
    return RowAccess(frozenset(names), frozenset(gets), whole, bare)


def _unquoted(literal: str) -> str:
    inner = literal[1:-1]
    try:
        found: str = json.loads('"' + inner.replace('\\"', '"').replace("\\'", "'").replace('"', '\\"') + '"')
    except ValueError:
        return inner
    return found


def spelt(column: str) -> str:
    """Return how a template shows a column."""
    if _WORD.fullmatch(column) and column not in _NO_NAMES:
        return f"{{{{ {column} }}}}"
    return f"{{{{ row[{json.dumps(column, ensure_ascii=False)}] }}}}"


def wrong_hole(text: str, is_right: Callable[[str], bool]) -> str:
    """Return how the first hole in a text is written that is no expression but may be a column's name."""
    for hole in HOLE.finditer(text):
        name = (hole[1] or "").strip("-+ \t\n").partition("|")[0].strip()
        if name and not _EXPRESSION.search(name) and not is_right(f"{{{{ {name} }}}}"):
            return _written(name)
    return ""


def called(text: str, function: str) -> str:
    """Return how the column is written that a text seems to call as a function, as in `{{ Price (EUR) }}`."""
    found = re.search(rf"\{{\{{[-+]?\s*({re.escape(function)} \([^\"'{{}}()]*\))\s*[-+]?\}}\}}", text)
    return _written(found[1]) if found else ""


def _written(name: str) -> str:
    return f"; a column whose name is no single word is written {clean(spelt(name), 100)}"


def nearest(name: str, columns: Iterable[str]) -> str | None:
    """Return which column may be meant by a name that none has: one that says the same, or the most like it."""
    known = {_folded(column): column for column in columns}
    return known.get(_folded(name)) or known.get(closest(_folded(name), known))


def _folded(name: str) -> str:
    return "".join(filter(str.isalnum, name)).lower()


def misspelt(texts: Iterable[str], columns: Iterable[str]) -> str | None:
    """Return which column the texts name as if it were a word, as in `{{ first-name }}` or `{{ a.b }}`."""
    odd = [column for column in columns if not _WORD.fullmatch(column)]
    holes = [hole[1].strip("-+ \t\n") for text in texts for hole in HOLE.finditer(text) if hole[1]]
    return next((column for column in odd if any(_stands_in(column, hole) for hole in holes)), None)


def _stands_in(column: str, hole: str) -> bool:
    return re.search(rf"(?<![\w.\"']){re.escape(column)}(?![\w\"'])", hole) is not None
