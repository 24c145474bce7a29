"""Functions that make a fitting answer one that does not fit its schema as it stands. Their type is `Misfit`.

Some leave the right JSON in the text, so that a client can still find it. The others give a value that does not fit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import msgspec

from batchmix.rehearsal.asked_schema import Schema
from batchmix.rehearsal.pattern_text import pick
from batchmix.rehearsal.schema_check import MALFORMED, fits, property_rules
from batchmix.rehearsal.schema_merge import flat_schema
from batchmix.rehearsal.string_value import one_word

Place = tuple[tuple[str | int, ...], Any, dict[str, Any]]
"""A value in an answer: the keys that lead to it, the value, and a schema that it must fit."""
_LOOP_WORDS = 2000
"""Words in a repetition without `max_tokens`, as if the model itself had stopped there."""


class FittingAnswer(msgspec.Struct, frozen=True):
    """An answer that fits, before a kind of reply changes it."""

    text: str
    """JSON."""
    schema: Schema
    random: Random
    """A source of random numbers. The same request gets the same ones."""
    max_tokens: int | None
    needs_tokens: int
    """The option of the same name."""

    @property
    def value(self) -> Any:
        """The JSON value."""
        return json.loads(self.text)

    @property
    def is_allowed(self) -> bool:
        """Whether `max_tokens` allows as many tokens as the option `needs_tokens` asks for."""
        return self.max_tokens is not None and self.max_tokens >= self.needs_tokens


Misfit = Callable[[FittingAnswer], tuple[str, str | None]]
"""A function that returns the text to send, and its `finish_reason`, or None for the usual one."""


def as_json(value: object) -> str:
    """Return a value as JSON with a space after each comma and colon, so that it has words to count."""
    return json.dumps(value, ensure_ascii=False)


def fenced(answer: FittingAnswer) -> tuple[str, None]:
    """Put a code fence around the JSON."""
    return f"```json\n{answer.text}\n```", None


def chatty(answer: FittingAnswer) -> tuple[str, None]:
    """Put friendly words around the JSON."""
    return f"Sure! Here is the answer:\n\n{answer.text}\n\nLet me know if you need anything else.", None


def thinking(answer: FittingAnswer) -> tuple[str, None]:
    """Put thoughts in front of the JSON, with a draft of another answer among them."""
    draft, _ = wrong_type(answer)
    return f"<think>\nPerhaps {draft}? No, wait.\n</think>\n\n{answer.text}", None


def trailing_comma(answer: FittingAnswer) -> tuple[str, None]:
    """Add a comma after the last item or property, or after the whole answer if it has none."""
    text = answer.text
    if isinstance(answer.value, list | dict) and answer.value:
        return f"{text[:-1]},{text[-1]}", None
    return f"{text},", None


def cut_off_answer(answer: FittingAnswer) -> tuple[str, str | None]:
    """Stop halfway, unless `max_tokens` is high enough."""
    return (answer.text, None) if answer.is_allowed else (_first_half(answer), "length")


def repetition(answer: FittingAnswer) -> tuple[str, str]:
    """Start rightly, then repeat a word until `max_tokens`."""
    loop = f" {one_word(answer.random)}" * (answer.max_tokens or _LOOP_WORDS)
    return _first_half(answer) + loop, "length"


def _first_half(answer: FittingAnswer) -> str:
    text = answer.text
    return "" if isinstance(answer.value, int | float) else text[: len(text) // 2]  # half a number is a number too


def wrong_enum(answer: FittingAnswer) -> tuple[str, None]:
    """Replace a value that is listed in the schema by one that is not."""
    words = [one_word(answer.random) for _ in range(3)]
    listed = (keys for keys, _, schema in _places(answer) if schema.keys() & {"enum", "const"})
    return _misfitting(answer, (_set(answer.value, keys, word) for keys in listed for word in words))


def extra_key(answer: FittingAnswer) -> tuple[str, None]:
    """Add a property that the schema does not allow."""
    objects = ((keys, found) for keys, found, _ in _places(answer) if isinstance(found, dict))
    word = one_word(answer.random)
    added = (_set(answer.value, keys, {**found, name: word}) for keys, found in objects for name in _new_keys(found))
    return _misfitting(answer, added)


def missing_key(answer: FittingAnswer) -> tuple[str, None]:
    """Leave out a property that the schema requires."""
    objects = ((keys, found) for keys, found, _ in _places(answer) if isinstance(found, dict))
    return _misfitting(
        answer,
        (
            _set(answer.value, keys, {key: found[key] for key in found if key != missing})
            for keys, found in objects
            for missing in found
        ),
    )


def wrong_type(answer: FittingAnswer) -> tuple[str, None]:
    """Replace a value by one of another type."""
    return _misfitting(answer, iter(()))


def _misfitting(answer: FittingAnswer, candidates: Iterator[Any]) -> tuple[str, None]:
    """Return one of the candidates that does not fit the schema, or else a value with a wrong type somewhere.

    If any value fits the schema, or if it can't be told which do, the text is not JSON.
    """
    try:
        wrong = [value for value in candidates if not fits(value, answer.schema, answer.schema)]
        if not wrong:
            retyped = ((keys, other) for keys, found, _ in _places(answer) for other in _other_types(found))
            values = (_set(answer.value, keys, other) for keys, other in retyped)
            wrong = [value for value in values if not fits(value, answer.schema, answer.schema)]
    except MALFORMED:
        wrong = []
    return (as_json(pick(wrong, answer.random)) if wrong else f"It is {one_word(answer.random)}.", None)


def _new_keys(found: dict[str, Any]) -> list[str]:
    return [name for name in ("confidence", "comment") if name not in found]


def _other_types(value: Any) -> list[Any]:
    """Return values that are easily mistaken for this one, but have another type."""
    return [
        {"value": value} if isinstance(value, str) else as_json(value),
        {"items": value} if isinstance(value, list) else [value],
    ]


def _places(answer: FittingAnswer) -> Iterator[Place]:
    """Yield all values in an answer, inner ones first."""
    yield from sorted(_walk((), answer.value, answer.schema, answer.schema), key=lambda place: -len(place[0]))


def _walk(keys: tuple[str | int, ...], value: Any, schema: object, root: Schema) -> Iterator[Place]:
    flat = flat_schema(schema, root)
    if not isinstance(flat, dict):
        return
    yield keys, value, flat
    for branch in (*flat.get("anyOf", ()), *flat.get("oneOf", ())):
        if fits(value, branch, root):
            yield from _walk(keys, value, branch, root)
    for name, inner in value.items() if isinstance(value, dict) else ():
        for rule in property_rules(name, flat):
            yield from _walk((*keys, name), inner, rule, root)
    first, rest = flat.get("prefixItems", []), flat.get("items", True)
    for place, inner in enumerate(value) if isinstance(value, list) else ():
        yield from _walk((*keys, place), inner, first[place] if place < len(first) else rest, root)


def _set(value: Any, keys: tuple[str | int, ...], new: Any) -> Any:
    """Return a copy of a value in which the part that the keys lead to is replaced."""
    if not keys:
        return new
    copy = value.copy()
    copy[keys[0]] = _set(value[keys[0]], keys[1:], new)
    return copy
