"""Which columns a template takes: what minijinja says of it, and what that passes over."""

from __future__ import annotations

import contextlib
import re

import minijinja

from batchmix.load.template_names import HOLE, TEXT

_PIECES = re.compile(rf"{TEXT[1:-1]}|[^\"']|[\"']", re.DOTALL)
"""Texts, and each character outside of them."""
_OPENING, _CLOSING = frozenset("[({"), frozenset("])}")
_SLICE = "[:"
_SETTING = re.compile(r"(\{%[-+]?\s*(?:set|with)\s+)(\w+)(\s*=(?!=).*)", re.DOTALL)
_ANALYSED = "batchmix.analysed"


def columns_in(environment: minijinja.Environment, text: str) -> set[str]:
    """Return the names that a template takes from its row, with those that minijinja passes over by itself.

    Those are what is sliced, as in `{{ text[:99] }}`, and what is set anew from itself: `{% set text = text|trim %}`.
    """
    plain = HOLE.sub(lambda hole: _SETTING.sub(_set_otherwise, _without_slices(hole[0])), text)
    found: set[str] = set()
    for one in dict.fromkeys((text, plain)):
        with contextlib.suppress(minijinja.TemplateError):
            environment.add_template(_ANALYSED, one)
            found |= environment.undeclared_variables_in_template(_ANALYSED)
    return found


def _without_slices(hole: str) -> str:
    """Return a template's tag with `x[a:b]` as `x[[0, a]+[0, b]]`, which names the same."""
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


def _set_otherwise(found: re.Match[str]) -> str:
    """Return an assignment under another name where what is assigned is made of its old value."""
    start, name, value = found.groups()
    return f"{start}{name}__anew{value}" if re.search(rf"(?<![\w.]){re.escape(name)}\b", value) else found[0]
