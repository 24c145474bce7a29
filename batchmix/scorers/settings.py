"""What all kinds of scorers share: their settings in the job file, and the score that they give.

If an answer can't be scored, its score is None, and no error is raised. A kind is a subclass of `ScorerSettings` with
the method `score`; its `tag` is the `kind` in the job file. `kinds.py` lists them all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar

import msgspec

from batchmix.formats.text import text_of

Share = Annotated[float, msgspec.Meta(ge=0)]
MAX_CHARS = 200_000
"""The most characters of an answer that are searched for what it says."""


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
    brings_targets: ClassVar[bool] = False
    """Whether a scorer of this kind has targets that do not come from a column. A row without one is not scored."""
    takes_target: ClassVar[bool] = True
    """Whether a scorer of this kind compares answers with `eval.target` if it names no column of its own."""
    takes_failures: ClassVar[bool] = False
    """Whether results without an answer are scored by the function too, rather than as wrong."""
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


def same_text(left: str, right: str, *, casefold: bool) -> bool:
    """Return whether two texts are the same, in any case if `casefold`."""
    return left.casefold() == right.casefold() if casefold else left == right
