"""Replaces the run's secrets by `***` in everything that is stored, logged or shown.

A secret is found in any spelling: each character may be escaped for JSON (`\\u0073`, `\\/`, and again for JSON within
JSON) or for a URL (`%73`). A key that a gateway has masked (`sk-ab****wxyz`, `…abc123`) is replaced too. Nearly all
texts hold no secret. Fast searches come first, for the last characters of each secret and for escapes: a text without
either holds no secret.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping

MASK = "***"
"""Replaces a secret."""
_MIN_SECRET_CHARS = 8
"""Characters. Shorter values (`x`, `EMPTY`, `none`) are not secret, and replacing them would spoil answers."""
_TAIL = 4
"""The number of last characters of a secret that are searched for first. A text without them does not hold the secret,
whole or masked."""
_BARE_TAIL = 6
"""The number of last characters of a secret that are searched for in answers. An error message may show them alone."""
_BACKSLASH, _PERCENT = b"\\%"
_UNICODE = b"\\u00"
_FEW = 16
"""So many places are looked at one by one, before a pattern searches the whole text."""
_UTF16_BYTES = 64
"""The number of first bytes that are searched for a zero byte, which reveals UTF-16 text."""
_SCHEME = re.compile(r"^(?:bearer|basic|token|key|apikey)\s+", re.IGNORECASE)
_MAX_SHOWN_CHARS = 24
"""The most characters of a key's start or end that a gateway is expected to show beside a mask."""
# Bytes are searched as Latin-1, where a bullet or an ellipsis of UTF-8 is three characters. The lookbehinds keep a
# pattern from starting anew at each character of a long run, so that a hostile body does not take quadratic time.
_STARS = (
    r"(?:(?<!\*)\*{2,}|(?<!\.)\.{3,}|(?<![•…])[•…]+|(?<!\xe2\x80[\xa2\xa6])(?:\xe2\x80[\xa2\xa6])+"
    r"|(?:\\{1,4}u20(?:22|26)){1,12})"
)
_END_OF = r"(\b(?:ends?|ending|last|suffix|tail)\b[^\n]{0,24}?)(?<![A-Za-z0-9])"
_NO_MORE = r"(?![A-Za-z0-9])"
_ESCAPE = r"\\u[0-9A-Fa-f]{4}"
"""Any escaped character. An unknown character of a mask may be one."""
_AFTER_BACKSLASH = frozenset('"\\/bfnrtu')
"""The characters that form a JSON escape if a backslash precedes them. They are then not part of a secret."""


class Secrets:
    """The API key and the header values of a run; its `repr` shows none of them.

    `headers` are sent with each request. `redacted` and `redacted_text` replace each secret by `***`. A text without a
    secret is returned as it is, without a copy. JSON is still valid JSON afterwards. With `refusal`, which is for the
    text of an error, the last characters of a key are replaced even if the rest of the key is not shown.
    """

    def __init__(self, key: str = "", headers: Mapping[str, str] | None = None) -> None:
        self.headers = dict(headers or {})
        if key:
            self.headers["Authorization"] = f"Bearer {key}"
        values = {text for value in (key, *(headers or {}).values()) for text in (value, _SCHEME.sub("", value))}
        self._values = sorted((value for value in values if len(value) >= _MIN_SECRET_CHARS), key=len, reverse=True)
        self._tails = sorted({value[-_TAIL:].replace("\\", "") for value in self._values})
        chars = set("".join(self._values))  # in a header, only quote and backslash need a backslash
        self._text_ends = sorted({value[-_BARE_TAIL:].replace("\\", "") for value in self._values})
        self._ends = [end.encode() for end in self._text_ends]
        self._escapes = (*[b"\\/"] * ("/" in chars), *[b"\\"] * bool(chars & {'"', "\\"}))
        codes = _any_hex(chars)
        self._unicode, self._percent = (
            re.compile(re.escape(start) + f"({codes})".encode()) for start in (_UNICODE, b"%")
        )

    def __repr__(self) -> str:
        return f"Secrets({MASK})"

    def redacted(self, data: bytes, *, refusal: bool = False) -> bytes:
        """Return the data with each secret replaced."""
        # In a text without what is searched for, `rfind` takes a tenth of the time of `in`, and a fifth of that of a
        # regular expression. Nothing finds one byte faster than `in`.
        if not self._values:
            return data
        for end in self._ends:
            if data.rfind(end) >= 0:
                break
        else:
            may_hold = (_BACKSLASH in data or _PERCENT in data or 0 in data[:_UTF16_BYTES]) and self._is_escaped(data)
            if not may_hold and not (refusal and any(tail.encode() in data for tail in self._tails)):
                return data
        text = data.decode("latin-1")
        clean = self._replaced(text, json=True, refusal=refusal)
        return data if clean == text else clean.encode("latin-1")

    def redacted_text(self, text: str, *, refusal: bool = False) -> str:
        """Return the text with each secret replaced."""
        if not any(tail in text for tail in self._tails) and (  # a text without the short end can't hold a longer one
            not ("\\" in text or "%" in text or "\0" in text)
            or not self._is_escaped(text.encode("utf-8", "surrogatepass"))
        ):
            return text
        clean = self._replaced(text, json=False, refusal=refusal)
        return text if clean == text else clean

    def may_occur_in(self, text: str) -> bool:
        """Return whether the last characters of a secret occur in a text, ignoring escaped forms.

        This fast check decides whether `redacted_text` is needed.
        """
        for end in self._text_ends:  # noqa: SIM110 - a generator would cost more than it saves
            if text.rfind(end) >= 0:
                return True
        return False

    def _is_escaped(self, data: bytes) -> bool:
        """Return whether the data contains the last characters of a secret, some of them escaped."""
        in_json = _BACKSLASH in data and (
            _found(self._unicode, _UNICODE, data) or any(data.rfind(escape) >= 0 for escape in self._escapes)
        )
        if not (in_json or _found(self._percent, b"%", data) or 0 in data[:_UTF16_BYTES]):
            return False
        for escaped in (self._unicode, self._percent):
            data = escaped.sub(_unescaped, data)
        data = data.replace(b"\\", b"").replace(b"\0", b"")
        return any(data.rfind(end) >= 0 for end in self._ends)

    @functools.cached_property
    def _plain_patterns(self) -> list[re.Pattern[str]]:
        return [re.compile("\0*".join(map(_character, value))) for value in self._values]

    @functools.cached_property
    def _masked_patterns(self) -> list[re.Pattern[str]]:
        return [pattern for value in self._values for pattern in _masked_forms(value)]

    @functools.cached_property
    def _tail_patterns(self) -> list[re.Pattern[str]]:
        tails = {value[-_BARE_TAIL:] for value in self._values}
        # An end without a digit may be an ordinary word.
        return [
            re.compile(f"()(?:(?<![A-Za-z0-9])|(?<={_ESCAPE})){re.escape(tail)}{_NO_MORE}")
            for tail in tails
            if re.search("[0-9]", tail) and re.search("[A-Za-z]", tail)
        ]

    def _replaced(self, text: str, *, json: bool, refusal: bool) -> str:
        for pattern in self._plain_patterns:
            text = pattern.sub(_unless_escaped if json else MASK, text)
        for pattern in (*self._masked_patterns, *(self._tail_patterns if refusal else ())):
            text = pattern.sub(rf"\g<1>{MASK}", text)
        return text


def _unless_escaped(match: re.Match[str]) -> str:
    """Return what replaces a match in JSON: a mask, or the match itself if its first character is part of an escape.

    The number of backslashes before the mask stays even, so that none of them escapes what follows.
    """
    first = match.start()
    before = first - len(match.string[:first].rstrip("\\")) if match.string[first - 1 : first] == "\\" else 0
    own = len(match[0]) - len(match[0].lstrip("\\"))
    if own:  # of an odd number, the last one starts the escape
        return "\\" * (own - 1 if (before + own) % 2 else before % 2) + MASK
    return match[0] if before % 2 and match[0][0] in _AFTER_BACKSLASH else MASK


def _found(pattern: re.Pattern[bytes], start: bytes, data: bytes) -> bool:
    """Return whether a pattern that begins with `start` matches anywhere in the data.

    `rfind` finds a few places in half the time of the pattern.
    """
    at = len(data)
    for _ in range(_FEW):
        at = data.rfind(start, 0, at)
        if at < 0:
            return False
        if pattern.match(data, at):
            return True
    return pattern.search(data) is not None


def _unescaped(match: re.Match[bytes]) -> bytes:
    return bytes.fromhex(match[1].decode())


def _hex(char: str) -> str:
    return "".join(f"[{digit}{digit.upper()}]" if digit.isalpha() else digit for digit in f"{ord(char):02x}")


def _any_hex(chars: Iterable[str]) -> str:
    """Return a pattern that matches the hexadecimal code of any of these characters.

    Codes with the same first digit share one alternative, which makes the pattern fast.
    """
    digits: dict[str, str] = {}
    for code in sorted({f"{ord(char):02x}" for char in chars}):
        digits[code[0]] = digits.get(code[0], "") + code[1] + code[1].upper()
    return "|".join(f"{first}[{second}]" for first, second in digits.items()) or "(?!)"


def _character(char: str) -> str:
    plain = re.escape(char)
    escaped = rf"|\\{{1,8}}{plain}" if char in '"\\/' else ""
    return rf"(?:{plain}|\\{{1,8}}u00{_hex(char)}|%{_hex(char)}{escaped})"


def _masked_forms(secret: str) -> Iterable[re.Pattern[str]]:
    """Yield patterns that find a secret in the forms in which gateways mask it."""
    head = tail = ""
    for char in reversed(secret[:-_TAIL][:_MAX_SHOWN_CHARS]):
        head = f"(?:{re.escape(char)}{head})?"
    for char in secret[1:-_TAIL][-_MAX_SHOWN_CHARS:]:
        tail = f"(?:{tail}{re.escape(char)})?"
    tail += re.escape(secret[-_TAIL:]) + _NO_MORE
    yield re.compile(f"(){head}{_STARS}{tail}")
    yield re.compile(f"{_END_OF}{tail}", re.IGNORECASE)
