"""The scorer `json`, and how it compares the JSON of an answer with that of the target."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import msgspec

from batchmix.errors import JobError
from batchmix.formats.lenient_json import shallow_text
from batchmix.formats.text import EXACT
from batchmix.scorers.json_search import NoJsonFound, json_in
from batchmix.scorers.settings import Row, Score, ScoreFunction, ScorerSettings, Share, Weight, same_text, target_text

_MAX_STEPS = 500_000
"""The most pairs of items that are compared for one answer. Without their order each may be compared with each."""
_ROUNDING = 1e-9
"""The share by which two fractions may differ, since they are calculated in different ways: 0.1 + 0.2 is not 0.3."""


class Json(ScorerSettings, frozen=True, kw_only=True, tag="json"):
    """Scores the share of the target's JSON fields that have the same value in the answer's JSON."""

    takes_any_of: ClassVar[bool] = False
    fields: tuple[str, ...] = ()
    """The fields to compare, such as `total` or `seller.name`. Empty for all fields of the target."""
    casefold: bool = False
    tolerance: Share | dict[str, Share] = 0.0
    """The largest difference of numbers that counts as equal, or that of each field."""
    order: bool = True
    """Whether the order of lists counts."""
    lists: Literal["equal", "f1"] = "equal"
    """Whether a list is right or wrong as a whole, or scored by its items: F1, in any order."""
    weights: dict[str, Weight] = msgspec.field(default_factory=dict)
    """How much each field counts. 1 for a field that is not named."""
    extra: bool = True
    """Whether the answer may have fields that the target lacks. If not, each counts as a wrong field."""
    schema: str | dict[str, Any] | None = None
    """A JSON Schema that the answer must fit too: the name of a file, `module:Model`, or the schema itself.

    In a checked job it is JSON text.
    """

    def check(self) -> None:
        """Raise `JobError` for settings of fields that are not compared, and weights that leave nothing to compare."""
        tolerances = self.tolerance if isinstance(self.tolerance, dict) else {}
        for key, named in (("weights", self.weights), ("tolerance", tolerances)):
            for name in named if self.fields else ():
                if name not in self.fields:
                    raise JobError(
                        f"eval.scorers.{key}: {name!r} is none of the fields, which are {', '.join(self.fields)}"
                    )
        if self.fields and not any(self.weights.get(name, 1) for name in self.fields):
            raise JobError("eval.scorers.weights: one of the fields must have a weight above 0")

    def score_function(self) -> ScoreFunction:
        """Return the function that scores answers, once the schema is read."""
        if self.schema is None:
            return super().score_function()
        from batchmix.answers.check import AnswerCheck  # only here: its library takes 20 ms to import

        check = AnswerCheck(json.loads(self.schema) if isinstance(self.schema, str) else self.schema)

        def function(response: str, target: Any, _: Row) -> Score:
            return self._checked(response, target_text(target), check.problem_of)

        return function

    def score(self, response: str, target: str) -> Score:
        """Compare the fields of the JSON that the answer gives."""
        return self._checked(response, target, None)

    def score_cut_off(self, response: str, target: str) -> Score:
        """Score an answer that was cut off as any other: JSON of which the end is missing is none."""
        return self.score(response, target)

    def _checked(self, response: str, target: str, problem_of: Any) -> Score:
        try:
            return self._score(response, target, problem_of)
        except _TooLongError:
            return Score(None, target, None, "the lists are too long to be compared without their order")

    def _score(self, response: str, target: str, problem_of: Any) -> Score:
        try:
            wanted = json.loads(shallow_text(target))
        except ValueError:
            return Score(None, target, None, "the target is not JSON")
        found = json_in(response, wanted)
        if isinstance(found, NoJsonFound):
            return Score(None if found.unclear else 0.0, target, None, found.reason)
        value = found.value
        extracted = target_text(value)
        if problem_of is not None and (problem := problem_of(value)):
            return Score(
                0.0,
                target,
                extracted,
                f"does not fit the schema: {': '.join(filter(None, (problem.path, problem.sentence)))}",
            )
        if not isinstance(wanted, dict) or not (self.fields or wanted):
            return Score(_FieldComparison(self, "").score(value, wanted), target, extracted)
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if not isinstance(value, dict):
            return Score(0.0, target, extracted, "the answer is not an object")
        return self._by_fields(value, wanted, Score(0.0, target, extracted))

    def _by_fields(self, value: dict[str, Any], wanted: dict[str, Any], empty: Score) -> Score:
        names = self.fields or tuple(wanted)
        # An object without any field of the target is another thing, of which nothing is right.
        related = not any(at(wanted, name) is not None for name in names) or any(
            at(value, name) is not None for name in names
        )
        scores = {
            name: _FieldComparison(self, name).score(at(value, name), at(wanted, name)) if related else 0.0
            for name in names
        }
        if not self.extra and not self.fields:
            scores |= {name: 0.0 for name, inner in value.items() if name not in wanted and inner is not None}
        weights = {name: self.weights.get(name, 1.0) for name in scores}
        total = sum(weights.values())
        if not total:
            return Score(None, empty.target, empty.extracted, "all of its fields have the weight 0")
        wrong = [name for name, score in scores.items() if score < 1]
        mean = sum(scores[name] * weights[name] for name in scores) / total
        why = f"wrong: {', '.join(wrong)}" if wrong else None
        return Score(mean, empty.target, empty.extracted, why)


def at(value: Any, name: str) -> Any:
    """Return a field of an object by a name such as `seller.name`. None if it is not there, as if it were null."""
    if not isinstance(value, dict) or name in value or "." not in name:
        return value.get(name) if isinstance(value, dict) else None
    first, _, rest = name.partition(".")
    return at(value.get(first), rest)


class _TooLongError(Exception):
    """Lists are too long to be compared without their order."""


class _FieldComparison:
    """Compares the values of one field."""

    def __init__(self, config: Json, name: str) -> None:
        given = config.tolerance
        self._tolerance = given if isinstance(given, float | int) else given.get(name, 0.0)
        self._config = config
        self._steps = 0

    def score(self, found: Any, wanted: Any) -> float:
        """Return 1 if the values are equal, else 0; for lists the F1 of their items, if the scorer says so."""
        if self._config.lists == "f1" and isinstance(wanted, list) and isinstance(found, list):
            items = len(found) + len(wanted)
            return 2 * self._matches(found, wanted) / items if items else 1.0
        return float(self._equal(found, wanted))

    def _equal(self, found: Any, wanted: Any) -> bool:
        if isinstance(found, str) and isinstance(wanted, str):
            pair = [unicodedata.normalize("NFC", text.strip()) for text in (found, wanted)]
            return same_text(*pair, casefold=self._config.casefold)
        if isinstance(found, bool) or isinstance(wanted, bool):
            return found is wanted
        if isinstance(found, int | float) and isinstance(wanted, int | float):
            return self._near(found, wanted)
        if isinstance(found, dict) and isinstance(wanted, dict):
            return self._equal_objects(found, wanted)
        if isinstance(found, list) and isinstance(wanted, list):
            if len(found) != len(wanted):
                return False
            if not self._config.order:
                return self._matches(found, wanted) == len(wanted)
            return all(self._equal(a, b) for a, b in zip(found, wanted, strict=True))
        return bool(found == wanted)

    def _near(self, found: float, wanted: float) -> bool:
        exact = isinstance(found, int) and isinstance(wanted, int)
        if exact or max(abs(found), abs(wanted)) > EXACT:  # a double is too coarse to tell such numbers apart
            return found == wanted or (bool(self._tolerance) and abs(found - wanted) <= self._tolerance)
        return math.isclose(found, wanted, rel_tol=_ROUNDING, abs_tol=self._tolerance)

    def _equal_objects(self, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
        if not self._config.extra and any(found[key] is not None for key in found.keys() - wanted.keys()):
            return False
        return all(self._equal(found.get(key), wanted[key]) for key in wanted)

    def _matches(self, found: list[Any], wanted: list[Any]) -> int:
        """Return how many items of a list have an equal one in the other, each counted once."""
        left = list(found)
        matches = 0
        for item in wanted:
            place = next((number for number, other in enumerate(left) if self._equal(other, item)), None)
            self._steps += len(left) if place is None else place + 1
            if self._steps > _MAX_STEPS:
                raise _TooLongError
            if place is not None:
                del left[place]
                matches += 1
        return matches
