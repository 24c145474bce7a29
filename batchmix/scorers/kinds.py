"""The kinds of scorers: the settings of each in the job file, and how it scores an answer.

If an answer can't be scored, its score is None, and no error is raised. To add a kind, add a subclass of
`ScorerSettings` with the method `score`; its `tag` is the `kind` in the job file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from batchmix.errors import JobError
from batchmix.formats.text import text_of
from batchmix.scorers.extract import NOTHING, choice, find_json, numbers

Share = Annotated[float, msgspec.Meta(ge=0)]

_MAX_CHARS = 50_000
"""The most characters of each text that `similarity` compares. Its time grows with the product of both lengths."""
_REGEX_S = 0.5
"""Seconds of processor time that a pattern may take for one answer."""
_LATE_REGEX_S = 0.01
"""Seconds of processor time for one answer, once the pattern has timed out `_SLOW_MATCHES` times."""
_SLOW_MATCHES = 10
"""The number of time-outs after which a pattern gets less time."""


class Score(msgspec.Struct, frozen=True, gc=False):
    """The result of one scorer for one answer."""

    score: float | None
    """A number from 0 to 1, or any number from a custom scorer. None if there is none; `explanation` then says why."""
    target: str | None = None
    extracted: str | None = None
    """The part of the answer that was compared with the target."""
    explanation: str | None = None


Row = Mapping[str, Any]
"""The carried columns of a result."""
ScoreFunction = Callable[[str, Any, Row], Score]
"""Scores one answer, given its text, its target (None if the scorer has no target column) and its row."""


def target_text(value: Any) -> str:
    """Return a target, or what is compared with it, as text. A whole number stored as a double gets no `.0`."""
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return text_of(value)


class ScorerSettings(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    """The keys that every table of `[[eval.scorers]]` may have. Each subclass adds the keys of one kind of scorer."""

    needs_target: ClassVar[bool] = True
    """Whether a scorer of this kind must have a target column."""
    name: str = ""
    """The name under which the scores are reported. It is unique in the job. Default: the kind of scorer."""
    target: str | None = None
    """The carried column with the right answers. Default: `eval.target`."""
    field: str | None = None
    """The field of a typed answer that is scored, such as `address.city`. None for the text of the answer."""

    @property
    def kind(self) -> str:
        """The kind of scorer, which is the value of the key `kind` in the job file."""
        return str(self.__struct_config__.tag)

    @property
    def title(self) -> str:
        """The scorer's name, or its kind if no name was given."""
        return self.name or self.kind

    def check(self) -> None:
        """Raise `JobError` if the settings do not fit together."""

    def score(self, response: str, target: str) -> Score:
        """Score one answer, given its text and its target. Overridden by each kind that needs no more than these."""
        raise NotImplementedError

    def score_function(self) -> ScoreFunction:
        """Return the function that scores answers with `score`. Overridden where something is prepared for all answers.

        Raises `JobError` if that fails.
        """

        def function(response: str, target: Any, _: Row) -> Score:
            return self.score(response, target_text(target))

        return function


class Exact(ScorerSettings, frozen=True, kw_only=True, tag="exact"):
    """Scores 1 if the answer equals the target, otherwise 0."""

    strip: bool = True
    casefold: bool = False

    def score(self, response: str, target: str) -> Score:
        """Compare the whole answer."""
        extracted = response.strip() if self.strip else response
        wanted = target.strip() if self.strip else target
        return Score(float(_same(extracted, wanted, casefold=self.casefold)), target, extracted)


class Includes(ScorerSettings, frozen=True, kw_only=True, tag="includes"):
    """Scores 1 if the answer contains the target, otherwise 0."""

    casefold: bool = True

    def score(self, response: str, target: str) -> Score:
        """Look for the target in the answer."""
        is_included = target.casefold() in response.casefold() if self.casefold else target in response
        return Score(float(is_included), target)


class Regex(ScorerSettings, frozen=True, kw_only=True, tag="regex"):
    """Scores 1 if the pattern matches, otherwise 0.

    With a target, the first group (or the whole match) must also equal it.
    """

    needs_target: ClassVar[bool] = False
    pattern: str
    casefold: bool = False

    def score_function(self) -> ScoreFunction:
        """Compile the pattern, and return the function that looks for it. A slow pattern soon gets less time."""
        import regex  # the standard library's `re` has no time-out, and some patterns never finish

        try:
            pattern = regex.compile(self.pattern, regex.IGNORECASE if self.casefold else 0)
        except regex.error as error:
            raise JobError(f"eval.scorers: {self.name}: the pattern has an error: {error}") from None
        slow = 0

        def score(response: str, target: Any, _: Row) -> Score:
            nonlocal slow
            limit_s = _REGEX_S if slow < _SLOW_MATCHES else _LATE_REGEX_S
            wanted = None if target is None else target_text(target)
            try:
                match = pattern.search(response, timeout=limit_s)
            except TimeoutError:
                slow += 1
                return Score(None, wanted, None, f"the pattern took longer than {limit_s} s")
            if match is None:
                return Score(0.0, wanted, None, "the pattern is not in the answer")
            extracted = match[1] if pattern.groups and match[1] is not None else match[0]
            right = wanted is None or _same(extracted.strip(), wanted.strip(), casefold=self.casefold)
            return Score(float(right), wanted, extracted)

        return score


class Number(ScorerSettings, frozen=True, kw_only=True, tag="number"):
    """Scores 1 if the first or last number in the answer equals the number in the target, otherwise 0."""

    take: Literal["first", "last"] = "last"
    tolerance: Share = 0.0
    """The largest difference that counts as equal."""
    relative: Share = 0.0
    """The largest difference that counts as equal, as a share of the larger number. Either bound is enough."""

    def score(self, response: str, target: str) -> Score:
        """Compare a number in the answer with the only number in the target."""
        wanted, found = numbers(target), numbers(response)
        if len(wanted) != 1:
            return Score(None, target, None, "the target is not one number")
        if not found:
            return Score(0.0, target, None, "no number in the answer")
        value = found[-1 if self.take == "last" else 0]
        near = math.isclose(value, wanted[0], rel_tol=self.relative, abs_tol=self.tolerance)
        return Score(float(near), target, target_text(value))


class Choice(ScorerSettings, frozen=True, kw_only=True, tag="choice"):
    """Scores 1 if the answer chooses the same letter as the target, otherwise 0."""

    letters: str = "ABCD"

    def score(self, response: str, target: str) -> Score:
        """Compare the letters that answer and target choose."""
        wanted = choice(target, self.letters)
        if wanted is None:
            return Score(None, target, None, f"the target is none of {self.letters}")
        found = choice(response, self.letters)
        return Score(float(found == wanted), target, found, None if found else "no clear choice in the answer")


class Json(ScorerSettings, frozen=True, kw_only=True, tag="json"):
    """Scores the share of the target's JSON fields that have the same value in the answer's JSON."""

    fields: tuple[str, ...] = ()
    """The fields to compare. Empty for all fields of the target."""
    casefold: bool = False

    def score(self, response: str, target: str) -> Score:
        """Compare the fields of the first JSON in the answer."""
        wanted = find_json(target)
        if wanted is NOTHING:
            return Score(None, target, None, "the target is not JSON")
        found = find_json(response)
        if found is NOTHING:
            return Score(0.0, target, None, "no JSON in the answer")
        extracted = target_text(found)
        if not isinstance(wanted, dict):
            return Score(float(_equal(found, wanted, self)), target, extracted)
        fields = self.fields or tuple(wanted)
        if not isinstance(found, dict) or not fields:
            return Score(float(found == wanted), target, extracted, "the answer is not an object")
        wrong = [name for name in fields if name not in found or not _equal(found[name], wanted.get(name), self)]
        return Score(
            (len(fields) - len(wrong)) / len(fields), target, extracted, f"wrong: {', '.join(wrong)}" if wrong else None
        )


class Similarity(ScorerSettings, frozen=True, kw_only=True, tag="similarity"):
    """Scores how similar the answer's text is to the target, from 0 to 1."""

    casefold: bool = False

    def score(self, response: str, target: str) -> Score:
        """Compare the beginnings of both texts, up to `_MAX_CHARS`."""
        from rapidfuzz import fuzz

        pair = [text.casefold() if self.casefold else text for text in (response[:_MAX_CHARS], target[:_MAX_CHARS])]
        return Score(fuzz.ratio(*pair) / 100, target)


class Custom(ScorerSettings, frozen=True, kw_only=True, tag="own"):
    """Scores with the user's own Python function, from a module beside the job file or an installed one.

    The function runs in a process of its own, which `evaluation.custom_scorer` starts.
    """

    needs_target: ClassVar[bool] = False
    python: str
    """`module:function`, called as `function(response, target, row)`."""
    timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 10.0
    """The maximum time, in seconds, that the function may take for one answer."""


class Judge(ScorerSettings, frozen=True, kw_only=True, tag="judge"):
    """Scores with another model, which grades the answer on a scale. The grade is converted to a score from 0 to 1.

    `evaluation.judge` runs it as a job.
    """

    needs_target: ClassVar[bool] = False
    model: str
    rubric: str
    """A template over the carried columns, `response` and `target`."""
    scale: tuple[float, float] = (0.0, 1.0)
    """The worst and the best number."""
    params: dict[str, Any] = {}
    requests_per_minute: Annotated[float, msgspec.Meta(gt=0)] | None = None
    tokens_per_minute: Annotated[float, msgspec.Meta(gt=0)] | None = None
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=100_000)] | None = None
    """If one of these three limits is None, the job's limit applies."""
    max_usd: Annotated[float, msgspec.Meta(gt=0)] | None = None
    """The maximum cost of judging a run. None for the part of the job's budget that the run did not use."""

    def check(self) -> None:
        """Raise `JobError` for an impossible scale, or for a rubric or model that is missing."""
        if not self.scale[0] < self.scale[1]:
            raise JobError("eval.scorers.scale: the worst number comes first, then the best")
        if "response" not in self.rubric:
            raise JobError("eval.scorers.rubric: must show the answer, {{ response }}")
        if not self.model.strip():
            raise JobError("eval.scorers.model: is empty; give the judge's id, such as gpt-4o")


def _equal(found: Any, wanted: Any, config: Json) -> bool:
    if isinstance(found, str) and isinstance(wanted, str):
        return _same(found.strip(), wanted.strip(), casefold=config.casefold)
    if isinstance(found, bool) or isinstance(wanted, bool):
        return found is wanted
    if isinstance(found, dict) and isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(_equal(found[key], wanted[key], config) for key in wanted)
    if isinstance(found, list) and isinstance(wanted, list):
        return len(found) == len(wanted) and all(_equal(a, b, config) for a, b in zip(found, wanted, strict=True))
    return bool(found == wanted)


def _same(left: str, right: str, *, casefold: bool) -> bool:
    return left.casefold() == right.casefold() if casefold else left == right
