"""Builds small pieces of HTML in which all text is escaped."""

from __future__ import annotations

import html


class Html(str):
    """A piece of HTML. Any other text is escaped wherever it is put into one."""

    __slots__ = ()


def tag(name: str, *inside: str, style: str = "", title: str = "") -> Html:
    """Return an element. Of what is `inside` it, all that is not `Html` is escaped.

    The style is within the element: a notebook that is opened again drops style sheets and scripts, and keeps this.
    """
    given = {"style": style, "title": title}
    attributes = "".join(f' {key}="{html.escape(value)}"' for key, value in given.items() if value)
    return Html(f"<{name}{attributes}>{joined(*inside)}</{name}>")


def joined(*pieces: str) -> Html:
    """Return pieces of HTML one after another. All that is not `Html` is escaped."""
    return Html("".join(piece if isinstance(piece, Html) else html.escape(piece) for piece in pieces))
