"""Checks answers by a JSON Schema: the value of each, or what is wrong and where."""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import msgspec

from batchmix.answers.dates import days_since_1970, microseconds_since_1970
from batchmix.answers.healing import NoJson, json_of
from batchmix.answers.schema import resolved, subschemas
from batchmix.formats.display import clean

_INT64 = (-(2**63), 2**63 - 1)
_MAX_BACKTRACKS = 10_000
"""The steps after which a pattern gives up on a text, which then doesn't match."""
_MAX_ERRORS = 50
"""The most errors of one answer that are looked at."""
_MAX_SENTENCE_CHARS = 240
_MAX_PATH_CHARS = 300
_EVERY_TYPE = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})
_TYPE_NAMES = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer", float: "number"}
_REVERSING = ("not", "if")
"""Keywords whose schemas stay as they are, since a bound in them might let more pass."""
_IN_COLUMN = {"date-time": "date-time of the years 1 to 9999", "date": "date of the years 1 to 9999"}
"""The formats of texts that become numbers in the column, and the names of what the column can hold of them."""


class Checked(msgspec.Struct, frozen=True, gc=False):
    """The value of an answer that the schema accepts."""

    value: Any
    healed: bool = False
    """Whether the JSON had to be freed of what is around it, such as a code fence."""


class Problem(msgspec.Struct, frozen=True, gc=False):
    """Why an answer is invalid."""

    path: str
    """JSON pointer, such as "/items/3/name". "" for the whole answer."""
    sentence: str
    """On one line, without control characters."""

    @property
    def place(self) -> str:
        """The path with `*` for positions in lists: the same for all answers that fail there."""
        return re.sub(r"/\d+(?=/|\Z)", "/*", self.path)


class AnswerCheck:
    """Checks answers by a schema that `read_schema` returned.

    What it accepts also fits into the schema's `AnswerColumn`: whole numbers of 64 bits, dates of the years 1 to 9999.
    Nothing is ever fetched.
    """

    def __init__(self, schema: dict[str, Any]) -> None:
        self._validator = jsonschema_rs.validator_for(
            _bounded(schema),
            validate_formats=True,
            formats={
                _IN_COLUMN["date-time"]: lambda text: microseconds_since_1970(text) is not None,
                _IN_COLUMN["date"]: lambda text: days_since_1970(text) is not None,
            },
            offline=True,
            pattern_options=jsonschema_rs.FancyRegexOptions(backtrack_limit=_MAX_BACKTRACKS),
        )
        self._root_types = _root_types(schema, schema)

    def check(self, text: str | None) -> Checked | Problem:
        """Return the value of an answer's text, or what is wrong. Never raises."""
        if text is None:
            return Problem("", "there is no text")
        found = json_of(text, self._root_types)
        if isinstance(found, NoJson):
            return Problem("", found.sentence)
        return self.problem_of(found.value) or Checked(found.value, found.healed)

    def problem_of(self, value: Any) -> Problem | None:
        """Return what is wrong with a JSON value. None if it fits."""
        if self._validator.is_valid(value):
            return None
        errors = list(itertools.islice(self._validator.iter_errors(value), _MAX_ERRORS))
        path, sentence = min(map(_told, errors), key=_rank)
        more = f" (and {len(errors) - 1}{' or' * (len(errors) == _MAX_ERRORS)} more)" if len(errors) > 1 else ""
        return Problem(path, sentence + more)


def _bounded(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of a schema that accepts only what fits into a column."""
    bounded = copy.deepcopy(schema)
    waiting: list[Any] = [bounded]
    while waiting:
        node = waiting.pop()
        waiting += [inner for place, inner in subschemas(node) if place[0] not in _REVERSING]
        if isinstance(node, dict):
            _bound(node)
    return bounded


def _bound(node: dict[str, Any]) -> None:
    types = node.get("type", [])
    if types == "integer" or ("integer" in types and "number" not in types):
        least, most = _INT64
        node["minimum"] = max(least, node.get("minimum", least))
        node["maximum"] = min(most, node.get("maximum", most))
    if node.get("format") in _IN_COLUMN:
        narrower = {"if": {"format": node["format"]}, "then": {"format": _IN_COLUMN[node["format"]]}}
        node["allOf"] = [*node.get("allOf", ()), narrower]


def _root_types(schema: dict[str, Any], given: Any) -> frozenset[str]:
    """Return the JSON types that a schema may accept. Too many are harmless: less text around a value is healed."""
    node = resolved(schema, given)
    if "type" in node:
        types = node["type"]
        return frozenset(types if isinstance(types, list) else [types])
    if "const" in node or "enum" in node:
        values = [node["const"]] if "const" in node else node["enum"]
        return frozenset(_TYPE_NAMES.get(type(value), "null") for value in values)
    options = node.get("anyOf") or node.get("oneOf") or []
    return frozenset().union(*(_root_types(schema, option) for option in options)) or _EVERY_TYPE


def _told(error: jsonschema_rs.ValidationError) -> tuple[str, str]:
    """Return path and sentence of an error: of the closest alternative where there are several."""
    kind = error.kind
    if isinstance(kind, jsonschema_rs.ValidationErrorKind.AnyOf | jsonschema_rs.ValidationErrorKind.OneOfNotValid):
        wrong_types = [types for branch in kind.context if (types := _types_at(branch, error.instance_path))]
        close = [branch for branch in kind.context if branch and not _types_at(branch, error.instance_path)]
        if close:
            fewest: list[jsonschema_rs.ValidationError] = min(close, key=len)
            return min(map(_told, fewest), key=_rank)
        if wrong_types:
            names = " or ".join(f'"{name}"' for name in dict.fromkeys(itertools.chain(*wrong_types)))
            shown, _, _ = kind.context[0][0].message.partition(" is not of type")
            return _pointer(error.instance_path), _short(f"{shown} is not of type {names}")
    return _pointer(error.instance_path), _short(error.message)


def _rank(told: tuple[str, str]) -> tuple[int, tuple[str, str]]:
    """Return what puts the deepest error first, since it says most; the others follow by path and sentence."""
    return -told[0].count("/"), told


def _types_at(branch: list[jsonschema_rs.ValidationError], path: list[str | int]) -> list[str]:
    """Return the types that an alternative wants, if the value as a whole has another one."""
    return [
        name
        for error in branch
        if error.instance_path == path and isinstance(error.kind, jsonschema_rs.ValidationErrorKind.Type)
        for name in error.kind.types
    ]


def _pointer(path: list[str | int]) -> str:
    parts: Iterator[str] = (str(part).replace("~", "~0").replace("/", "~1") for part in path)
    return clean("".join(f"/{part}" for part in parts), _MAX_PATH_CHARS)


def _short(message: str) -> str:
    """Return a message on one line, without its middle if it is long: there it has the value, which may be huge."""
    if len(message) > _MAX_SENTENCE_CHARS:
        half = _MAX_SENTENCE_CHARS // 2
        message = f"{message[:half]} … {message[-half:]}"
    return clean(message, 2 * _MAX_SENTENCE_CHARS)
