"""Tells a JSON value amid other text from brackets that are mere punctuation there."""

from __future__ import annotations

import re
from typing import Any

_NAME_BEFORE = re.compile(r"[A-Za-z0-9_)\]]")
"""What stands directly before the brackets of an index or a type, as in `data["name"]`."""
_LEADING_UP_TO, _LEADING_AWAY = re.compile(r"(?:\A|[\n:：>])[ \t*_`]*+\Z"), re.compile(r"[ \t*_`.;。]*+(?:\Z|[\r\n<])")
"""What is around a value that stands by itself in its line, or after a colon."""
_NEAR = 20
"""The characters before and behind a value that are looked at."""


def may_be_punctuation(value: Any, text: str, start: int, end: int) -> bool:
    """Return whether brackets amid text may be an index (`x[0]`), a citation, a check box, an interval and the like.

    `value` is what they are as JSON; they stand in the text from `start` to `end`.
    """
    before, after = text[max(0, start - _NEAR) : start], text[end : end + _NEAR]
    if isinstance(value, list) and not holds_object(value) and _NAME_BEFORE.fullmatch(before[-1:]):
        return True
    return not _holds_text(value) and not (_LEADING_UP_TO.search(before) and _LEADING_AWAY.match(after))


def holds_object(value: Any) -> bool:
    """Return whether a JSON value is an object, or a list that has one in it."""
    return isinstance(value, dict) or (isinstance(value, list) and any(map(holds_object, value)))


def _holds_text(value: Any) -> bool:
    """Return whether there is a text in a value, be it a key."""
    return isinstance(value, str) or (isinstance(value, dict | list) and any(map(_holds_text, value)))
