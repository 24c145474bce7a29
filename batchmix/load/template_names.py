"""Finds the columns that a template uses: `{{ text }}`, or `{{ row["Review Text"] }}` if a name has several words."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterable

import minijinja
import msgspec

from batchmix.formats.display import clean
from batchmix.job import closest

ROW = "row"
"""The name that stands for the whole row in a template, unless a column has this name."""
TAG = re.compile(r"\{\{(.*?)\}\}|\{%(.*?)%\}", re.DOTALL)
TEXT = r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')"""
_LOOK = re.compile(
    rf"""(\bin\s+)?(?<![\w.])row\b(?:
    \s*\[\s*{TEXT}\s*\]                # row["x"]
    |\s*\.\s*get\s*\(\s*{TEXT}\s*[,)]  # row.get("x")
    |\s*\.\s*(\w+)(?!\w|\s*\()          # row.x
    |(\s*[\[.])?)                       # the row itself, a field named by a variable, or a method
    """,
    re.VERBOSE,
)
_WORD = re.compile(r"[^\W\d]\w*")
NO_COLUMNS = frozenset({"true", "false", "none", "True", "False", "None", "self"})
"""Names that can't mean a column in a template."""
_NO_NAMES = NO_COLUMNS | {"not", "in", "is", "and", "or", "if", "else"}
_EXPRESSION = re.compile(r"""["{}]|(?<!\w)'|'(?!\w)|\w[\[(]""")
"""Characters that a mistyped expression often contains, but a column's name seldom."""
_PIECES = re.compile(rf"{TEXT[1:-1]}|[^\"']|[\"']", re.DOTALL)
"""Matches a text literal, or a single character outside of literals."""
_OPENING, _CLOSING = frozenset("[({"), frozenset("])}")
_SLICE = "[:"
_SETTING = re.compile(r"(\{%[-+]?\s*(?:set|with)\s+)(\w+)(\s*=(?!=).*)", re.DOTALL)
_ANALYSED = "batchmix.analysed"


class RowAccess(msgspec.Struct, frozen=True):
    """The columns that a template uses through `row`."""

    names: frozenset[str] = frozenset()
    """The columns that are named explicitly, as in `row["x"]` or `row.x`."""
    gets: frozenset[str] = frozenset()
    """The columns among `names` that are used as in `row.get("x")`."""
    whole: bool = False
    """Whether the template may use any column, as in `row[name]`."""
    bare: bool = False
    """Whether the template uses `row` by itself, as in `{{ row }}`."""

    def __or__(self, other: RowAccess) -> RowAccess:
        return RowAccess(
            self.names | other.names, self.gets | other.gets, self.whole or other.whole, self.bare or other.bare
        )


def columns_in(environment: minijinja.Environment, text: str) -> set[str]:
    """Return the variable names that a template takes from its row.

    minijinja's own analysis misses names that are sliced, as in `{{ text[:99] }}`, or set from their own value, as in
    `{% set text = text|trim %}`.
    """
    plain = TAG.sub(lambda hole: _SETTING.sub(_set_otherwise, _without_slices(hole[0])), text)
    names: set[str] = set()
    for version in dict.fromkeys((text, plain)):
        with contextlib.suppress(minijinja.TemplateError):
            environment.add_template(_ANALYSED, version)
            names |= environment.undeclared_variables_in_template(_ANALYSED)
    return names


def _without_slices(hole: str) -> str:
    """Return a template's tag with `x[a:b]` rewritten as `x[[0, a]+[0, b]]`, which names the same variables."""
    pieces = _PIECES.findall(hole)
    opened: list[int] = []
    for at, piece in enumerate(pieces):
        if piece in _OPENING:
            opened.append(at)
        elif piece in _CLOSING and opened:
            start = opened.pop()
            if pieces[start] == _SLICE:
                pieces[start], pieces[at] = "[[0, ", "]]"
        elif piece == ":" and opened and pieces[opened[-1]] in ("[", _SLICE):
            pieces[opened[-1]], pieces[at] = _SLICE, "]+[0, "
    return "".join(pieces).replace(_SLICE, "[")


def _set_otherwise(match: re.Match[str]) -> str:
    """Return an assignment with a new name if its value uses the assigned name. Otherwise return it unchanged."""
    start, name, value = match.groups()
    return f"{start}{name}__anew{value}" if re.search(rf"(?<![\w.]){re.escape(name)}\b", value) else match[0]


def row_access(text: str) -> RowAccess:
    """Return the columns that a template uses through `row`. Matches inside text literals count too."""
    names, gets = set(), set()
    whole = bare = False
    for hole in TAG.finditer(text):
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
        unquoted: str = json.loads('"' + inner.replace('\\"', '"').replace("\\'", "'").replace('"', '\\"') + '"')
    except ValueError:
        return inner
    return unquoted


def spelt(column: str) -> str:
    """Return the tag that prints a column in a template."""
    if _WORD.fullmatch(column) and column not in _NO_NAMES:
        return f"{{{{ {column} }}}}"
    return f"{{{{ row[{json.dumps(column, ensure_ascii=False)}] }}}}"


def unquoted_column(text: str, is_right: Callable[[str], bool]) -> str:
    """Return a hint for the first `{{ … }}` that is not a valid expression but may be a column's name.

    Empty if none is.
    """
    for hole in TAG.finditer(text):
        name = (hole[1] or "").strip("-+ \t\n").partition("|")[0].strip()
        if name and not _EXPRESSION.search(name) and not is_right(f"{{{{ {name} }}}}"):
            return _hint(name)
    return ""


def unknown_call(text: str, function: str) -> str:
    """Return a hint for a column that looks like a call of `function`, as in `{{ Price (EUR) }}`.

    Empty if there is none.
    """
    match = re.search(rf"\{{\{{[-+]?\s*({re.escape(function)} \([^\"'{{}}()]*\))\s*[-+]?\}}\}}", text)
    return _hint(match[1]) if match else ""


def _hint(name: str) -> str:
    return f"; a column whose name is not a single word is written {clean(spelt(name), 100)}"


def nearest(name: str, columns: Iterable[str]) -> str | None:
    """Return the column that an unknown name may mean: equal but for case and punctuation, or else the most similar."""
    by_name = {_folded(column): column for column in columns}
    return by_name.get(_folded(name)) or by_name.get(closest(_folded(name), by_name))


def _folded(name: str) -> str:
    return "".join(filter(str.isalnum, name)).lower()


def misspelt(texts: Iterable[str], columns: Iterable[str]) -> str | None:
    """Return a column that the texts name as if it were a word, as in `{{ first-name }}` or `{{ a.b }}`, or None."""
    odd = [column for column in columns if not _WORD.fullmatch(column)]
    holes = [hole[1].strip("-+ \t\n") for text in texts for hole in TAG.finditer(text) if hole[1]]
    return next((column for column in odd if any(_stands_in(column, hole) for hole in holes)), None)


def _stands_in(column: str, hole: str) -> bool:
    return re.search(rf"(?<![\w.\"']){re.escape(column)}(?![\w\"'])", hole) is not None
