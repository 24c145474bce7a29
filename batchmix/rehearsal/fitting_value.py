"""Makes up JSON values that fit a JSON Schema."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from random import Random
from typing import Any

from batchmix.rehearsal.asked_schema import Schema
from batchmix.rehearsal.pattern_text import pick
from batchmix.rehearsal.schema_check import MALFORMED, fits, property_rules, same, types
from batchmix.rehearsal.schema_merge import both, flat_schema
from batchmix.rehearsal.string_value import made_string, one_word

_TRIES = 8
"""How often a value is made up anew, because it does not fit a rule that can only be checked afterwards."""
_DEEP = 4
"""From this depth on, only what must be there is made up, so that the values of recursive schemas end."""
_MAX_DEPTH = 30
_MAX_VALUES = 20_000
"""The most values that are made up for one answer."""
_OPTIONAL_SHARE = 0.8
"""The share of optional properties that are present."""
_NULL_BIAS = 0.5
"""How much later than its order by lot a branch that is only null is tried."""
_CHECKED = frozenset(
    (
        "oneOf", "not", "if", "pattern", "contains", "patternProperties", "propertyNames", "dependentRequired",
        "dependentSchemas", "multipleOf",
    )
)  # fmt: skip
"""Keywords that the making of a value does not assure, so that the value is checked."""
_LENGTHS = frozenset(("minLength", "maxLength"))
"""Keywords that the making of a value does not assure beside a `format`."""
_TYPE_SIGNS = {
    "object": ("properties", "required", "additionalProperties", "minProperties", "patternProperties"),
    "array": ("items", "prefixItems", "minItems", "maxItems", "contains", "uniqueItems"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}
"""The type of a schema without `type`, by the keywords it has. Without any, it is a string."""


class NoFittingValueError(ValueError):
    """No value was found that fits a schema."""


def fitting_value(schema: Schema, random: Random) -> Any:
    """Return a JSON value that fits a schema, with random words and numbers. Raises `NoFittingValueError`."""
    try:
        for _ in range(_TRIES):
            value = _ValueMaker(schema, random).make(schema, 0)
            if fits(value, schema, schema):
                return value
    except MALFORMED as error:
        raise NoFittingValueError(f"this is not a schema, or a rule in it is not known: {error}") from error
    raise NoFittingValueError("all values that were made up break a rule")


class _ValueMaker:
    """Makes up values for the parts of one schema."""

    def __init__(self, root: Schema, random: Random) -> None:
        self._root = root
        self._random = random
        self._made = 0
        self._makers: dict[str, Callable[[dict[str, Any], int], Any]] = {
            "null": lambda schema, depth: None,
            "boolean": lambda schema, depth: self._random.random() < 0.5,
            "integer": lambda schema, depth: self._integer(schema),
            "number": lambda schema, depth: self._number(schema),
            "string": lambda schema, depth: made_string(schema, self._random),
            "array": self._array,
            "object": self._object,
        }

    def make(self, schema: object, depth: int) -> Any:
        """Return a value that fits a part of the schema. Raises `NoFittingValueError`."""
        self._made += 1
        if depth > _MAX_DEPTH or self._made > _MAX_VALUES:
            raise NoFittingValueError("the schema is too deep or too large")
        whole = flat_schema(schema, self._root)
        if whole is False:
            raise NoFittingValueError("the schema allows no value")
        if whole is True:
            return made_string({}, self._random)
        for branch in self._branches(whole):
            try:
                return self._fitting(branch, whole, depth)
            except NoFittingValueError:
                continue
        raise NoFittingValueError("no branch of the schema allows a value")

    def _fitting(self, branch: dict[str, Any], whole: dict[str, Any], depth: int) -> Any:
        checked = not _CHECKED.isdisjoint(whole) or not _CHECKED.isdisjoint(branch)
        checked = checked or ("format" in branch and not _LENGTHS.isdisjoint(branch))
        for _ in range(_TRIES if checked else 1):
            value = self._of_type(branch, depth)
            if not checked or (fits(value, whole, self._root) and fits(value, branch, self._root)):
                return value
        raise NoFittingValueError("no value of the schema's types was found")

    def _branches(self, schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the schemas without `anyOf`, `oneOf` and `if` that a value may fit, in random order."""
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                rest = {name: value for name, value in schema.items() if name != keyword}
                for branch in sorted(schema[keyword], key=self._place):
                    joined = both(rest, flat_schema(branch, self._root))
                    yield from self._branches(joined) if isinstance(joined, dict) else ()
                return
        if "if" in schema:
            rest = {name: value for name, value in schema.items() if name not in {"if", "then", "else"}}
            then = {"allOf": [rest, schema["if"], schema.get("then", True)]}
            for branch in (then, {"allOf": [rest, schema.get("else", True)]}):
                joined = flat_schema(branch, self._root)
                yield from self._branches(joined) if isinstance(joined, dict) else ()
            return
        yield schema

    def _place(self, branch: object) -> float:
        is_null = isinstance(branch, dict) and branch.get("type") == "null"
        return self._random.random() + (_NULL_BIAS if is_null else 0.0)

    def _of_type(self, schema: dict[str, Any], depth: int) -> Any:
        if "const" in schema or "enum" in schema:
            allowed = [schema["const"]] if "const" in schema else schema["enum"]
            fitting = [value for value in allowed if fits(value, schema, self._root)]
            if not fitting:
                raise NoFittingValueError("none of the values that are listed fits")
            return pick(fitting, self._random)
        kinds = types(schema) or [
            next((kind for kind, signs in _TYPE_SIGNS.items() if schema.keys() & signs), "string")
        ]
        for kind in sorted(kinds, key=lambda kind: self._place({"type": kind})):
            try:
                return self._makers[kind](schema, depth)
            except NoFittingValueError:
                continue
        raise NoFittingValueError(f"no value of type {kinds} fits")

    def _bounds(self, schema: dict[str, Any]) -> tuple[float, float]:
        """Return the least and the greatest number, of which an exclusive one may be excluded."""
        lows = [schema[name] for name in ("minimum", "exclusiveMinimum") if name in schema]
        highs = [schema[name] for name in ("maximum", "exclusiveMaximum") if name in schema]
        low = max(lows) if lows else min(0, *highs, max(highs) - 100) if highs else 0
        return low, min(highs) if highs else low + 100

    def _integer(self, schema: dict[str, Any]) -> int:
        low, high = self._bounds(schema)
        step = Fraction(str(schema.get("multipleOf", 1))).numerator  # the least multiple that is an integer
        least, most = math.ceil(low / step), math.floor(high / step)
        least += least * step == schema.get("exclusiveMinimum")
        most -= most * step == schema.get("exclusiveMaximum")
        if least > most:
            raise NoFittingValueError("there is no integer between the bounds")
        return (least + int(self._random.random() * (most - least + 1))) * step

    def _number(self, schema: dict[str, Any]) -> float:
        low, high = self._bounds(schema)
        step = schema.get("multipleOf")
        if step is not None:
            least, most = math.ceil(low / step), math.floor(high / step)
            return float((least + int(self._random.random() * (most - least + 1))) * Decimal(str(step)))
        if low > high:
            raise NoFittingValueError("there is no number between the bounds")
        found = low + (high - low) * self._random.random()
        for value in (round(found, 2), found, (low + high) / 2):
            if fits(value, {**schema, "type": "number"}, self._root):
                return float(value)
        raise NoFittingValueError("there is no number between the bounds")

    def _array(self, schema: dict[str, Any], depth: int) -> list[Any]:
        least, first = schema.get("minItems", 0), schema.get("prefixItems", [])
        wanted = max(least, min(schema.get("maxItems", math.inf), len(first) + 1 + int(self._random.random() * 3)))
        if depth >= _DEEP:
            wanted = max(least, int("contains" in schema))
        found: list[Any] = []
        try:
            while len(found) < wanted:
                found.append(self._item(schema, found, depth))
        except NoFittingValueError:
            if len(found) < least:
                raise
        return found

    def _item(self, schema: dict[str, Any], before: list[Any], depth: int) -> Any:
        place, first = len(before), schema.get("prefixItems", [])
        rest = schema.get("items", schema.get("unevaluatedItems", True))
        rule = first[place] if place < len(first) else rest
        if "contains" in schema and place < max(schema.get("minContains", 1), len(first)):
            rule = {"allOf": [rule, schema["contains"]]}
        for _ in range(4 * _TRIES):
            value = self.make(rule, depth + 1)
            if not schema.get("uniqueItems") or not any(same(value, other) for other in before):
                return value
        raise NoFittingValueError("no further item differs from all others")

    def _object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        named, required = schema.get("properties", {}), schema.get("required", [])
        most = schema.get("maxProperties", math.inf)
        found: dict[str, Any] = {}
        spare, names = most - len(set(required)), schema.get("propertyNames", True)
        for name in named:
            if name in required:
                found[name] = self._property(name, schema, depth)
            elif (
                spare > 0
                and depth < _DEEP
                and self._random.random() < _OPTIONAL_SHARE
                and fits(name, names, self._root)
            ):
                spare -= self._add(found, name, schema, depth)
        for name in required:
            if name not in found:
                found[name] = self._property(name, schema, depth)
        for name in (present := [*found]):
            for needed in _needed_beside(name, schema):
                if needed not in found:
                    found[needed] = self._property(needed, schema, depth)
                    present.append(needed)
        self._fill(found, schema, depth)
        return found

    def _property(self, name: str, schema: dict[str, Any], depth: int) -> Any:
        rules = property_rules(name, schema)
        return self.make(rules[0] if len(rules) == 1 else {"allOf": rules}, depth + 1)

    def _add(self, found: dict[str, Any], name: str, schema: dict[str, Any], depth: int) -> bool:
        """Add a property that need not be there. Return whether a value was found for it."""
        try:
            found[name] = self._property(name, schema, depth)
        except NoFittingValueError:
            return False
        return True

    def _fill(self, found: dict[str, Any], schema: dict[str, Any], depth: int) -> None:
        """Add properties that the schema does not name: as many as it needs, or some to an object of such ones only."""
        least, most = schema.get("minProperties", 0), schema.get("maxProperties", math.inf)
        rest, wanted = schema.get("additionalProperties", True), least
        if isinstance(rest, dict) and not schema.get("properties") and depth < _DEEP:
            wanted = max(least, min(most, 1 + int(self._random.random() * 3)))
        for name in schema.get("properties", {}):
            if len(found) < least and name not in found:
                self._add(found, name, schema, depth)
        for _ in range(10 * _TRIES if least > len(found) else _TRIES):
            if len(found) >= wanted:
                return
            name = self._new_name(schema, depth)
            if name not in found:
                self._add(found, name, schema, depth)
        if len(found) < least:
            raise NoFittingValueError("too few properties were found")

    def _new_name(self, schema: dict[str, Any], depth: int) -> str:
        """Return a name for a property that the schema does not name."""
        rules = schema.get("propertyNames")
        if isinstance(rules, dict):
            return str(self.make({"allOf": [{"type": "string"}, rules]}, depth + 1))
        patterns = list(schema.get("patternProperties", ()))
        if patterns and schema.get("additionalProperties") is False:
            return made_string({"pattern": pick(patterns, self._random)}, self._random)
        return one_word(self._random)


def _needed_beside(name: str, schema: dict[str, Any]) -> list[str]:
    """Return the names of the properties that must be there if the one called `name` is."""
    other = schema.get("dependentSchemas", {}).get(name)
    listed = other.get("required", []) if isinstance(other, dict) else []
    return [*schema.get("dependentRequired", {}).get(name, []), *listed]
