"""Recognizes the events of a stream that differ from an earlier one in nothing but a piece of text.

Nearly all events of a stream are such. Decoding each one, and joining it key by key, takes four times as long as
comparing the bytes around the text.
"""

from __future__ import annotations

from typing import Any

import msgspec

from batchmix.responses.deltas import PartialAnswer, TextPlace

_TEXTS = ("content", "reasoning_content", "reasoning")
_PROBE = "\x01"
_PROBE_JSON = b'"\\u0001"'
_MAX_FORMS = 4
"""The most forms of events that are looked for. There are several if choices, or text and reasoning, take turns."""
_decoder = msgspec.json.Decoder(str)


class _Form(msgspec.Struct, frozen=True, gc=False):
    """The bytes of an event around its text, and the text that it continues."""

    start: bytes
    end: bytes
    place: TextPlace


class TextEvents:
    """Adds events that only continue a text to an answer. It learns their form from the other events."""

    def __init__(self, answer: PartialAnswer) -> None:
        self._answer = answer
        self._forms: list[_Form] = []
        self._until_next = self._pause = 1
        """The number of unknown events until a form is learned again, and how long the last such pause was. It is
        doubled while no form helps, as with a stream in which each event has a number of its own."""

    def add(self, events: list[bytes], at: int) -> int:
        """Add the events from `at` on to the answer, up to the first that has no known form. Return its position."""
        before = -1
        while before < at < len(events):
            before = at
            for form in self._forms:
                at = self._add(form, events, at)
        return at

    def _add(self, form: _Form, events: list[bytes], at: int) -> int:
        """Add the events from `at` on that have one form."""
        start, end = form.start, form.end
        first, after = len(start), -len(end)
        so_far = self._answer.text_at(form.place)
        texts: list[str] = []
        if so_far is None:
            return at
        for number in range(at, len(events)):
            data = events[number]
            if not (data.startswith(start) and data.endswith(end)):
                break
            try:
                texts.append(_decoder.decode(data[first:after]))
            except (msgspec.MsgspecError, UnicodeError):
                break
        if texts:
            self._answer.add_text(so_far, "".join(texts))
            self._until_next = self._pause = 1
        return at + len(texts)

    def forget(self) -> None:
        """Forget all forms, since no event is to be added any more."""
        self._forms = []

    def learn(self, data: bytes, chunk: dict[str, Any]) -> None:
        """Learn the form of an event that was added to the answer otherwise. `chunk` is its value."""
        self._until_next -= 1
        if self._until_next > 0:
            return
        self._until_next = self._pause
        self._pause *= 2
        found = _text_in(chunk)
        around = _around(data, chunk, found[1]) if found else None
        if found and around:
            form = _Form(*around, self._answer.place_of(*found))
            self._forms = [form, *self._forms[: _MAX_FORMS - 1]]


def _text_in(chunk: dict[str, Any]) -> tuple[int, str] | None:
    """Return the index and the key of the text to which a chunk adds. None if it brings anything else."""
    choices = chunk.get("choices")
    choice = choices[0] if isinstance(choices, list) and len(choices) == 1 else None
    delta = choice.get("delta") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(delta, dict) or chunk.get("usage"):
        return None
    if any(value for name, value in choice.items() if name not in ("index", "delta")):
        return None
    key = next((name for name in _TEXTS if delta.get(name)), "")
    others = [value for name, value in delta.items() if name not in (key, "role")]
    if not isinstance(delta.get(key), str) or any(others) or not isinstance(delta.get("role"), str | None):
        return None
    index = choice.get("index")
    return (index if type(index) is int else 0), key


def _around(data: bytes, chunk: dict[str, Any], key: str) -> tuple[bytes, bytes] | None:
    """Return the bytes before and after the text in an event. None if they are not found."""
    before, name, after = data.rpartition(b'"%b":' % key.encode())
    quoted = after.lstrip()
    start = before + name + after[: len(after) - len(quoted)]
    end = _after_text(quoted)
    chunk["choices"][0]["delta"][key] = _PROBE
    try:  # whether it is this text, and not one with an equal name elsewhere
        is_right = msgspec.json.decode(start + _PROBE_JSON + end) == chunk
    except (msgspec.MsgspecError, UnicodeError):
        return None
    return (start, end) if is_right else None


def _after_text(data: bytes) -> bytes:
    """Return what follows after the JSON string at the start of the data. Empty if there is none."""
    at = data.find(b'"', 1)
    while at > 0 and (at - len(data[:at].rstrip(b"\\"))) % 2:
        at = data.find(b'"', at + 1)
    return data[at + 1 :] if at > 0 else b""
