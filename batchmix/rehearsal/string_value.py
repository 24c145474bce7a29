"""Makes up strings for the keywords of a JSON Schema: formats, patterns, lengths."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable
from random import Random
from typing import Any

from batchmix.rehearsal.pattern_text import matching_text, pick

WORDS = (
    "river", "stone", "quiet", "amber", "window", "north", "garden", "signal", "paper", "cloud", "seven",
    "harbor", "early", "copper", "meadow", "drift", "lantern", "orbit", "maple", "field", "silver", "under",
    "bright", "engine", "valley", "cotton", "winter", "letter", "bridge", "salt", "morning", "velvet", "anchor",
)  # fmt: skip
"""The words that answers are made of."""

_MAX_CHARS = 1_000_000
"""The highest `minLength` for which a string is made up."""


def one_word(random: Random) -> str:
    """Return one of the words."""
    return pick(WORDS, random)


def made_string(schema: dict[str, Any], random: Random) -> str:
    """Return a string for a schema of type `string`. It may fail to fit a pattern, or a format beside another rule."""
    form = _FORMATS.get(schema.get("format", ""))
    least, most = schema.get("minLength", 0), schema.get("maxLength")
    if least > _MAX_CHARS:
        raise OverflowError(f"minLength is over {_MAX_CHARS}")
    if "pattern" in schema and (form is None or random.random() < 0.5):
        text = matching_text(str(schema["pattern"]), random, least)
        while text is not None and len(text) < least and not schema["pattern"].endswith("$"):
            text += f" {one_word(random)}"
        if text is not None:
            return text
    elif form is not None:
        return form(random)
    text = " ".join(one_word(random) for _ in range(1 + int(random.random() * 3)))
    while len(text) < least:
        text += f" {one_word(random)}"
    if schema.get("contentEncoding") == "base64":
        return base64.b64encode(text.encode()).decode()
    return text if most is None else text[:most]


def _below(bound: int) -> Callable[[Random], int]:
    return lambda random: int(random.random() * bound)


def _date(random: Random) -> str:
    return f"20{10 + _below(20)(random)}-{1 + _below(12)(random):02}-{1 + _below(28)(random):02}"


def _time(random: Random) -> str:
    return f"{_below(24)(random):02}:{_below(60)(random):02}:{_below(60)(random):02}Z"


def _uuid(random: Random) -> str:
    return str(uuid.UUID(int=int(random.random() * 2**52) << 76 | int(random.random() * 2**52), version=4))


def _ipv6(random: Random) -> str:
    return "2001:db8::" + ":".join(f"{_below(65536)(random):x}" for _ in range(4))


_FORMATS: dict[str, Callable[[Random], str]] = {
    "date-time": lambda random: f"{_date(random)}T{_time(random)}",
    "date": _date,
    "time": _time,
    "duration": lambda random: f"P{1 + _below(30)(random)}DT{1 + _below(23)(random)}H",
    **dict.fromkeys(("email", "idn-email"), lambda random: f"{one_word(random)}@{one_word(random)}.example"),
    **dict.fromkeys(("hostname", "idn-hostname"), lambda random: f"{one_word(random)}.example"),
    **dict.fromkeys(
        ("uri", "uri-reference", "iri", "iri-reference", "url"),
        lambda random: f"https://{one_word(random)}.example/{one_word(random)}",
    ),
    "uuid": _uuid,
    "ipv4": lambda random: f"192.0.2.{_below(256)(random)}",
    "ipv6": _ipv6,
    "json-pointer": lambda random: f"/{one_word(random)}/{one_word(random)}",
    "relative-json-pointer": lambda random: f"1/{one_word(random)}",
    "regex": lambda random: f"^{one_word(random)}$",
    "uri-template": lambda random: f"https://{one_word(random)}.example/{{id}}",
}
"""The function that makes up a string of each format."""
