"""What all kinds of scorers share: their settings in the job file, and the score that they give.

If an answer can't be scored, its score is None, and no error is raised. A kind is a subclass of `ScorerSettings` with
the method `score`; its `tag` is the `kind` in the job file. `kinds.py` lists them all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar

import msgspec

from batchmix.formats.text import text_of
from batchmix.scorers.text_forms import plain_form

Share = Annotated[float, msgspec.Meta(ge=0)]
MAX_SCORE = 1e12
"""The largest size of a score, a label or a weight. Sums of the squares of larger ones would not be finite."""
Weight = Annotated[float, msgspec.Meta(ge=0, le=MAX_SCORE)]
A_WEIGHT = f"a number from 0 to {MAX_SCORE:g}"
"""What a weight is, in words."""
CUT_OFF = "the answer was cut off"
MAX_CHARS = 200_000
"""The most characters of an answer that are searched for what it says."""


_QUOTED = re.compile(r'"(?:[^"\\\n]|\\.)*"')
"""A text as JSON writes it."""


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
    takes_target: ClassVar[bool] = True
    """Whether a scorer of this kind compares answers with `eval.target` if it names no column of its own."""
    takes_failures: ClassVar[bool] = False
    """Whether results without an answer are scored by the function too, rather than as wrong."""
    takes_any_of: ClassVar[bool] = True
    """Whether a list as the target means that any of its values is right."""
    takes_list_as_text: ClassVar[bool] = False
    """Whether the list's JSON is right too, since a field of an answer may be a list."""
    takes_empty_target: ClassVar[bool] = False
    """Whether an empty target means something. If not, the row has no target."""
    beside_the_score: ClassVar[frozenset[str]] = frozenset()
    """The settings that do not change what a score means, such as limits."""
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

    @property
    def brings_targets(self) -> bool:
        """Whether it has targets that do not come from a column. A row without one is not scored."""
        return False

    @property
    def worst(self) -> float | None:
        """The lowest score it can give. None if that is not known."""
        return 0.0

    @property
    def compares(self) -> bool:
        """Whether its scores themselves compare with another run, and are not compared with those of that run."""
        return False

    def check(self) -> None:
        """Raise `JobError` if the settings do not fit together."""

    def is_empty(self, target: Any) -> bool:
        """Return whether a target, which is not null, is empty, so that its row has none."""
        if self.takes_empty_target:
            return False
        several = listed_targets(target) if self.takes_any_of or _is_quoted(target) else None
        return all(map(self.is_blank, [target_text(target)] if several is None else several))

    def is_blank(self, text: str) -> bool:
        """Return whether nothing of a target is left to compare. Overridden where more of it is ignored."""
        return not plain_form(text)

    def score(self, response: str, target: str) -> Score:
        """Score one answer, given its text and its target. Overridden by each kind that needs no more than these."""
        raise NotImplementedError

    def score_cut_off(self, response: str, target: str) -> Score:
        """Score the beginning of an answer, of which the rest was cut off. Overridden where more can be told.

        It is right if the beginning is. Otherwise it has no score, since the rest might have been right.
        """
        score = self.score(response, target)
        return score if score.score in {None, 1.0} else Score(None, target, score.extracted, CUT_OFF)

    def score_function(self) -> ScoreFunction:
        """Return the function that scores answers with `score`. Overridden where something is prepared for all answers.

        Raises `JobError` if that fails.
        """

        def function(response: str, target: Any, row: Row) -> Score:
            score = self.score_cut_off if is_cut_off(row) else self.score
            listed = listed_targets(target) if self.takes_any_of else None
            several = [one for one in listed or () if not self.is_blank(one)]
            if not several:
                return score(response, target_text(target))
            whole = [target_text(target)] if self.takes_list_as_text else []
            scores = [score(response, one) for one in (*several, *whole)]
            none = 0.5 if is_cut_off(row) else -1.0  # the rest of the answer might have been right
            best = max(scores, key=lambda each: none if each.score is None else each.score)
            return msgspec.structs.replace(best, target=target_text(target))

        return function


def is_cut_off(row: Row) -> bool:
    """Return whether an answer ended because it reached its greatest length."""
    return row.get("finish_reason") == "length"


def listed_targets(target: Any) -> list[str] | None:
    """Return the right answers in a list, as texts without the empty ones. None if the target is not a list.

    A list in a column may also be JSON text: of texts, or of several numbers. (`[1]` may be a footnote.) In a column
    that has lists in other rows, a text is JSON text too: it may mean what is in its quotation marks.
    """
    values = target
    if _is_quoted(target):
        try:
            inner = json.loads(target)
        except ValueError:
            return None
        return [inner, target] if plain_form(inner) else []
    if isinstance(target, str) and target.lstrip()[:1] == "[":
        try:
            values = json.loads(target[:MAX_CHARS])
        except (ValueError, RecursionError):
            return None
        is_list = isinstance(values, list) and all(isinstance(value, str | int | float | None) for value in values)
        if not is_list or (len(values) == 1 and not isinstance(values[0], str)):
            return None
    if not isinstance(values, list):
        return None
    return [text for value in values if value is not None and plain_form(text := target_text(value))]


def _is_quoted(target: Any) -> bool:
    return isinstance(target, str) and _QUOTED.fullmatch(target) is not None


def target_texts(target: Any) -> list[str]:
    """Return the right answers in a target, as texts. Empty ones are none."""
    several = listed_targets(target)
    if several is not None:
        return several
    text = target_text(target)
    return [text] if plain_form(text) else []


def same_text(left: str, right: str, *, casefold: bool) -> bool:
    """Return whether two texts are the same, in any case if `casefold`."""
    return left.casefold() == right.casefold() if casefold else left == right
