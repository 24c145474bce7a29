"""Random JSON Schemas with any keyword of any draft, most of which can be fulfilled."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from tests.rehearsal.test_fitting_value import FORMATS, PATTERNS

NAMES = ["a", "b", "c d", "", "é", "x1", "x2", "type", "properties", "$ref", "enum", "a/b", "~", "%20"]
VALUES = [
    None, True, False, 0, 1, 1.0, -3, 2.5, "", "a", "é", "long text", 10**20, 1e300, [], [1], {}, {"a": 1}, "\0", [None],
]  # fmt: skip
SCALARS = ["string", "integer", "number", "boolean", "null", "enum", "const"]
ODD_PATTERNS = [
    r"^\p{L}+$", r"(?!x)", r"\d+(?=x)", "^x", "^[\\u00e4-\\u00f6]+$", r"^\S+$", "a|b|", r"^\d{4}-\d{2}-\d{2}$",
    r"\bword\b", "^(?<name>a)$", r"^\x41$", "^(?i)abc$", r"^\/a\.b$", r"^[\w-]+$", r"^\cA$",
]  # fmt: skip
DRAFTS = [f"http://json-schema.org/draft-0{number}/schema#" for number in (6, 7)] + [
    f"https://json-schema.org/draft/{year}/schema" for year in ("2019-09", "2020-12")
]


def any_schema(random: Random) -> dict[str, Any]:
    """Return a schema whose root is an object most of the time."""
    return _Maker(random).root()


def with_wrong_keyword(schema: Any, random: Random) -> Any:
    """Return a schema in which one value somewhere, if it has any, is of a type that it may not have."""
    if isinstance(schema, dict) and schema:
        key = random.choice([*schema])
        return {**schema, key: with_wrong_keyword(schema[key], random)}
    if isinstance(schema, list) and schema and random.random() < 0.7:
        place = random.randrange(len(schema))
        return [*schema[:place], with_wrong_keyword(schema[place], random), *schema[place + 1 :]]
    return random.choice([value for value in [*VALUES, float("inf"), "#/$defs/none"] if value != schema])


class _Maker:
    def __init__(self, random: Random) -> None:
        self._random = random
        self._definitions: list[str] = []
        self._of_type: dict[str, Callable[[int], dict[str, Any]]] = {
            "string": self._string, "integer": self._number, "number": self._number, "array": self._array,
            "object": self._object,
        }  # fmt: skip

    def _maybe(self, share: float = 0.3) -> bool:
        return self._random.random() < share

    def _some(self, **keywords: tuple[float, Callable[[], Any]]) -> dict[str, Any]:
        return {name: make() for name, (share, make) in keywords.items() if self._maybe(share)}

    def _one(self, *values: Any) -> Callable[[], Any]:
        return lambda: self._random.choice(values)

    def root(self) -> dict[str, Any]:
        self._definitions = ["d0", "d1"] if self._maybe() else []
        schema = self._typed("object", 0) if self._maybe(0.6) else self.schema(0)
        found = schema if isinstance(schema, dict) else {}
        names, self._definitions = self._definitions, []
        return (
            found
            | ({"$defs": {name: self.schema(2) for name in names}} if names else {})
            | self._some(**{"$schema": (0.2, self._one(*DRAFTS))})
        )

    def schema(self, depth: int) -> Any:
        if self._maybe(0.05):
            return self._random.choice([True, {}, {}, False])
        if self._definitions and self._maybe(0.15):
            beside = self._typed(self._random.choice(SCALARS[:2]), depth) if self._maybe(0.1) else {}
            return {"$ref": f"#/$defs/{self._random.choice(self._definitions)}"} | beside
        kinds = [*SCALARS, "object", "object", "array", "anyOf", "oneOf", "allOf", "types", "untyped", "not", "if"]
        kind = self._random.choice(SCALARS if depth >= 4 else kinds)
        if kind in {"anyOf", "oneOf", "allOf"}:
            schemas = [self.schema(depth + 1) for _ in range(self._random.randint(1, 3))]
            return {kind: schemas} | (
                self._typed(self._random.choice([*self._of_type]), depth) if self._maybe() else {}
            )
        match kind:
            case "enum":
                values = [self._random.choice(VALUES) for _ in range(self._random.randint(1, 4))]
                return {"enum": [value for at, value in enumerate(values) if value not in values[:at]]}
            case "const":
                return {"const": self._random.choice(VALUES)}
            case "types":
                types = self._random.sample([*self._of_type, "null", "boolean"], self._random.randint(1, 3))
                return {key: value for one in types for key, value in self._typed(one, depth).items()} | {"type": types}
            case "untyped" | "not" | "if":
                found = self._typed(self._random.choice([*self._of_type]), depth)
                if kind == "untyped":
                    del found["type"]
                elif kind == "not":
                    found["not"] = self.schema(depth + 1)
                else:
                    found |= {
                        name: self.schema(depth + 1)
                        for name in ("if", "then", "else")
                        if name == "if" or self._maybe(0.6)
                    }
                return found
        return self._typed(kind, depth)

    def _typed(self, kind: str, depth: int) -> dict[str, Any]:
        make = self._of_type.get(kind)
        odd = {"x-odd": {"type": 7}, "default": self._random.choice(VALUES)} if self._maybe(0.05) else {}
        return {"type": kind} | (make(depth) if make else {}) | odd

    def _string(self, depth: int) -> dict[str, Any]:
        found = self._some(
            minLength=(0.3, self._one(0, 1, 3, 12, 40)),
            format=(0.3, self._one(*FORMATS, "decimal")),
            pattern=(0.3, self._one(*PATTERNS, *ODD_PATTERNS)),
        )
        return found | self._some(
            maxLength=(0.3, self._one(*(found.get("minLength", 0) + more for more in (0, 1, 50))))
        )

    def _number(self, depth: int) -> dict[str, Any]:
        found = self._some(
            minimum=(0.3, self._one(0, 1, -5, 2.5, 10**6, -1e9, 0.1)),
            multipleOf=(0.15, self._one(1, 2, 5, 0.5, 0.01, 0.1, 3, 1e-3, 2.5)),
        )
        return found | self._some(
            maximum=(0.3, self._one(*(found.get("minimum", 0) + more for more in (0, 1, 100, 1e9))))
        )

    def _array(self, depth: int) -> dict[str, Any]:
        def inner() -> Any:
            return self.schema(depth + 1)

        found = self._some(
            items=(0.7, inner),
            prefixItems=(0.2, lambda: [inner() for _ in range(self._random.randint(1, 3))]),
            minItems=(0.3, self._one(0, 1, 2, 3)),
            uniqueItems=(0.2, self._one(True, False)),
            contains=(0.15, inner),
            minContains=(0.05, self._one(0, 1, 2)),
            unevaluatedItems=(0.05, self._one(False)),
        )
        return found | self._some(maxItems=(0.3, self._one(*(found.get("minItems", 0) + more for more in (0, 1, 3)))))

    def _object(self, depth: int) -> dict[str, Any]:
        def inner() -> Any:
            return self.schema(depth + 1)

        names = self._random.sample(NAMES, self._random.randint(0, 4))
        found: dict[str, Any] = {"properties": {name: inner() for name in names}} if names else {}
        return found | self._some(
            required=(0.6, lambda: [name for name in names if self._maybe(0.5)]),
            additionalProperties=(0.4, self._one(True, False, inner())),
            minProperties=(0.1, self._one(0, 1, 2)),
            maxProperties=(0.1, self._one(2, 5)),
            patternProperties=(0.1, lambda: {self._random.choice([*PATTERNS, *ODD_PATTERNS]): inner()}),
            propertyNames=(0.1, self._one({"pattern": "^x"}, {"maxLength": 3}, {"enum": ["a", "b", "x1"]})),
            dependentRequired=(0.07, lambda: {self._random.choice(NAMES): [self._random.choice(NAMES)]}),
            dependentSchemas=(0.07, lambda: {self._random.choice(NAMES): inner()}),
            unevaluatedProperties=(0.05, self._one(False)),
        )
