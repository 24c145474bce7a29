"""Checks answers by a JSON Schema: the value of each, or what is wrong and where."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import msgspec

from batchmix.answers.healing import NoJson, json_of
from batchmix.formats.display import clean

_INT64 = (-(2**63), 2**63 - 1)
_FLOAT64 = (-sys.float_info.max, sys.float_info.max)
_MAX_BACKTRACKS = 10_000
"""The steps after which a pattern gives up on a text, which then doesn't match."""
_MAX_ERRORS = 50
"""The most errors of one answer that are looked at."""
_MAX_SENTENCE_CHARS = 240
_MAX_PATH_CHARS = 300
_EVERY_TYPE = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})
_TYPE_NAMES = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer", float: "number"}
_ONE_INSIDE = ("items", "additionalItems", "additionalProperties", "contains", "then", "else")
"""Keywords with one schema, or with a list of them. Not `not`, where a bound would let more pass, nor `if`."""
_LISTED_INSIDE = ("items", "prefixItems", "allOf", "anyOf", "oneOf")
_NAMED_INSIDE = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")


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
    """Checks answers by a JSON Schema, which must be a valid one and refer only to itself.

    Whole numbers must fit into 64 bits, as they do in the column of results. Nothing is ever fetched.
    """

    def __init__(self, schema: dict[str, Any]) -> None:
        self._validator = jsonschema_rs.validator_for(
            _bounded(schema),
            validate_formats=True,
            offline=True,
            pattern_options=jsonschema_rs.FancyRegexOptions(backtrack_limit=_MAX_BACKTRACKS),
        )
        self._root_types = _root_types(schema, schema, 0)

    def check(self, text: str | None) -> Checked | Problem:
        """Return the value of an answer's text, or what is wrong. Never raises."""
        if text is None:
            return Problem("", "there is no text")
        found = json_of(text, self._root_types)
        if isinstance(found, NoJson):
            return Problem("", found.sentence)
        if self._validator.is_valid(found.value):
            return Checked(found.value, found.healed)
        return self._problem(found.value)

    def _problem(self, value: Any) -> Problem:
        errors = list(itertools.islice(self._validator.iter_errors(value), _MAX_ERRORS))
        path, sentence = min(map(_told, errors), key=_rank)
        more = f" (and {len(errors) - 1}{' or' * (len(errors) == _MAX_ERRORS)} more)" if len(errors) > 1 else ""
        return Problem(path, sentence + more)


def _bounded(schema: Any) -> Any:
    """Return a copy of a schema that accepts only numbers which fit into a column."""
    if not isinstance(schema, dict):
        return schema
    bounded = dict(schema)
    types = schema.get("type")
    types = types if isinstance(types, list) else [types]
    if "number" in types or "integer" in types:
        least, most = _FLOAT64 if "number" in types else _INT64
        bounded["minimum"] = max(least, schema.get("minimum", least))
        bounded["maximum"] = min(most, schema.get("maximum", most))
    for keyword in _ONE_INSIDE:
        if isinstance(schema.get(keyword), dict):
            bounded[keyword] = _bounded(schema[keyword])
    for keyword in _LISTED_INSIDE:
        if isinstance(schema.get(keyword), list):
            bounded[keyword] = [_bounded(part) for part in schema[keyword]]
    for keyword in _NAMED_INSIDE:
        if isinstance(schema.get(keyword), dict):
            bounded[keyword] = {name: _bounded(part) for name, part in schema[keyword].items()}
    return bounded


def _root_types(schema: Any, root: dict[str, Any], depth: int) -> frozenset[str]:
    """Return the JSON types that a schema may accept. Too many are harmless: less text around a value is healed."""
    if not isinstance(schema, dict) or depth > 20:
        return _EVERY_TYPE
    if "type" in schema:
        types = schema["type"]
        return frozenset(types if isinstance(types, list) else [types])
    if "const" in schema or "enum" in schema:
        values = [schema["const"]] if "const" in schema else schema["enum"]
        return frozenset(_TYPE_NAMES.get(type(value), "null") for value in values)
    if "$ref" in schema:
        return _root_types(_referred(root, schema["$ref"]), root, depth + 1)
    branches = schema.get("anyOf") or schema.get("oneOf")
    if branches:
        return frozenset().union(*(_root_types(branch, root, depth + 1) for branch in branches))
    return _EVERY_TYPE


def _referred(root: dict[str, Any], ref: str) -> Any:
    part: Any = root
    for name in ref.removeprefix("#").split("/")[1:]:
        part = part.get(name.replace("~1", "/").replace("~0", "~")) if isinstance(part, dict) else None
    return part


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
