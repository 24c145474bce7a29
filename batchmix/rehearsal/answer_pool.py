"""Keeps the answers that are made up for a schema, since making one up takes ten times as long as sending it."""

from __future__ import annotations

import functools
from random import Random

import msgspec

from batchmix.rehearsal.asked_schema import Schema
from batchmix.rehearsal.fitting_value import NoFittingValueError, fitting_value
from batchmix.rehearsal.misfits import as_json
from batchmix.rehearsal.old_drafts import modern

_ANSWERS = 1024
"""The number of answers of one schema. Further requests get the same ones again."""
_MAX_CHARS = 4_000_000
"""The most characters of a schema's answers that are kept. Others are made up each time."""
_encode = msgspec.json.Encoder().encode


class PooledAnswer(msgspec.Struct, frozen=True):
    """An answer that fits a schema."""

    text: str
    """JSON. `null` if no value was found that fits."""
    words: int
    schema: Schema
    """The schema that it fits: any value fits it if no value was found for the schema that was asked for."""


class AnswerPool:
    """The answers that fit one schema. Each number stands for one of them, always the same."""

    def __init__(self, schema: Schema) -> None:
        self._schema = modern(schema)
        self._answers: dict[int, PooledAnswer] = {}
        self._chars = 0

    def answer(self, number: int) -> PooledAnswer:
        """Return the answer for a number, such as the digest of a request."""
        place = number % _ANSWERS
        found = self._answers.get(place)
        if found is None:
            found = self._made(place)
            if self._chars < _MAX_CHARS:
                self._answers[place] = found
                self._chars += len(found.text)
        return found

    def _made(self, place: int) -> PooledAnswer:
        schema = self._schema
        try:
            value = fitting_value(schema, Random(place))
        except NoFittingValueError:
            value, schema = None, True
        text = as_json(value)
        return PooledAnswer(text, len(text.split()), schema)


def pool_of(schema: Schema) -> AnswerPool:
    """Return the pool of a schema. Those of the last schemas are kept."""
    return _pool(_encode(schema))


@functools.lru_cache(maxsize=32)
def _pool(schema: bytes) -> AnswerPool:
    return AnswerPool(msgspec.json.decode(schema))
