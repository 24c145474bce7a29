"""Decides whether a text has a format of JSON Schema, as far as made-up texts need it."""

from __future__ import annotations

import datetime
import ipaddress
import re
from collections.abc import Callable

_DAY = r"\d{4}-\d{2}-\d{2}"
_TIME = r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?(z|[+-]([01]\d|2[0-3]):[0-5]\d)"
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_NO_SPACE = r"[^\x00-\x20\x7f<>\"{}|\\^`\[\]]"
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
    "duration": _like(r"p(?=.)(\d+w|(\d+y)?(\d+m)?(\d+d)?(t(?=.)(\d+h)?(\d+m)?(\d+s)?)?)"),
    **dict.fromkeys(("email", "idn-email"), _like(rf"[^\s@]+@{_LABEL}(\.{_LABEL})*")),
    **dict.fromkeys(("hostname", "idn-hostname"), _like(rf"{_LABEL}(\.{_LABEL})*")),
    **dict.fromkeys(("uri", "iri"), _like(rf"[a-z][a-z0-9+.-]*:{_NO_SPACE}*")),
    **dict.fromkeys(("uri-reference", "iri-reference"), _like(rf"([a-z][a-z0-9+.-]*:|(?![^/?#]*:)){_NO_SPACE}*")),
    "uri-template": _like(rf"({_NO_SPACE}|\{{\w+\}})*"),
    "uuid": _like(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
    "ipv4": _raises_nothing(ipaddress.IPv4Address),
    "ipv6": _raises_nothing(ipaddress.IPv6Address),
    "json-pointer": _like(_POINTER),
    "relative-json-pointer": _like(rf"(0|[1-9]\d*)(#|{_POINTER})"),
    "regex": _both(_like(r"[\w ^$.|()*+?-]*"), _raises_nothing(re.compile)),  # simple ones, alike in all languages
}
