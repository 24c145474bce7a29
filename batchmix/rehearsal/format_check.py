"""Decides whether a text has a format of JSON Schema, as far as made-up texts need it.

It is stricter than the standards, so that other validators take every text that it takes.
"""

from __future__ import annotations

import datetime
import ipaddress
import re
from collections.abc import Callable

_DAY = r"\d{4}-\d{2}-\d{2}"
_TIME = r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?(z|[+-]([01]\d|2[0-3]):[0-5]\d)"
_LABEL = r"(?!..--)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_MAILBOX = r"[\w!#$&'*+/=?^`{|}~-]+"
_ESCAPED = "%[0-9a-f]{2}"
_IN_URI = rf"([\w.~!$&'()*+,;=:@/?-]|{_ESCAPED})"
_IN_IRI = rf"([^\x00-\x20\x7f-\x9f<>\"{{}}|\\^`\[\]%#\u2000-\u200f]|{_ESCAPED})"
_SCHEME = r"[a-z][a-z0-9+.-]*:"
_NO_SCHEME = r"(?![^/?#]*:)"
_HOST = r"(?!//(?![\w.~-]+(:\d{1,4})?([/?#]|\Z)))"
"""After two slashes comes a plain host, perhaps with a port."""
_DAYS = r"(\d+Y(\d+M(\d+D)?)?|\d+M(\d+D)?|\d+D)"
_HOURS = r"T(\d+H(\d+M(\d+S)?)?|\d+M(\d+S)?|\d+S)"
_POINTER = r"(/([^~/]|~[01])*)*"


def has_format(text: str, name: object) -> bool:
    """Return whether a text has a format. Any text has one that is not known."""
    check = _CHECKS.get(name) if isinstance(name, str) else None
    return check is None or check(text)


def _like(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern, re.IGNORECASE | re.ASCII)
    return lambda text: compiled.fullmatch(text) is not None


def _raises_nothing(read: Callable[[str], object]) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        try:
            read(text)
        except (ValueError, re.error, RecursionError, OverflowError):
            return False
        return True

    return check


def _both(one: Callable[[str], bool], other: Callable[[str], bool]) -> Callable[[str], bool]:
    return lambda text: one(text) and other(text)


_is_day = _raises_nothing(lambda text: datetime.date.fromisoformat(text[:10]))
_CHECKS: dict[str, Callable[[str], bool]] = {
    "date-time": _both(_like(f"{_DAY}t{_TIME}"), _is_day),
    "date": _both(_like(_DAY), _is_day),
    "time": _like(_TIME),
    "duration": _like(rf"(?-i:P(\d+W|{_DAYS}({_HOURS})?|{_HOURS}))"),
    **dict.fromkeys(("email", "idn-email"), _like(rf"{_MAILBOX}(\.{_MAILBOX})*@{_LABEL}(\.{_LABEL})*")),
    **dict.fromkeys(("hostname", "idn-hostname"), _like(rf"{_LABEL}(\.{_LABEL})*")),
    "uri": _like(rf"{_SCHEME}{_HOST}{_IN_URI}*(#{_IN_URI}*)?"),
    "iri": _like(rf"{_SCHEME}{_HOST}{_IN_IRI}*(#{_IN_IRI}*)?"),
    "uri-reference": _like(rf"({_SCHEME}|{_NO_SCHEME}){_HOST}{_IN_URI}*(#{_IN_URI}*)?"),
    "iri-reference": _like(rf"({_SCHEME}|{_NO_SCHEME}){_HOST}{_IN_IRI}*(#{_IN_IRI}*)?"),
    "uri-template": _like(rf"({_IN_URI}|\{{\w+\}})*"),
    "uuid": _like(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
    "ipv4": _raises_nothing(ipaddress.IPv4Address),
    "ipv6": _both(_like(r"[0-9a-f:.]+"), _raises_nothing(ipaddress.IPv6Address)),
    "json-pointer": _like(_POINTER),
    "relative-json-pointer": _like(rf"(0|[1-9]\d*)(#|{_POINTER})"),
    # Simple ones, which are alike in all languages.
    "regex": _both(_like(r"(?!.*[*+?]\+)[\w ^$.|()*+?-]*"), _raises_nothing(re.compile)),
}
