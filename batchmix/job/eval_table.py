"""The job file's `[eval]`: the scorers, the targets they compare answers with, and the thresholds on the metrics."""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import msgspec

from batchmix.errors import JobError

Share = Annotated[float, msgspec.Meta(ge=0)]


class ScorerSettings(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    """The keys that every table of `[[eval.scorers]]` may have. Each subclass adds the keys of one kind of scorer."""

    needs_target: ClassVar[bool] = True
    """Whether a scorer of this kind must have a target column."""
    name: str = ""
    """The name under which the scores are reported. It is unique in the job. Default: the kind of scorer."""
    target: str | None = None
    """The carried column with the right answers. Default: `eval.target`."""

    @property
    def kind(self) -> str:
        """The kind of scorer, which is the value of the key `kind` in the job file."""
        return str(self.__struct_config__.tag)

    @property
    def title(self) -> str:
        """The scorer's name, or its kind if no name was given."""
        return self.name or self.kind


class Exact(ScorerSettings, frozen=True, kw_only=True, tag="exact"):
    """Scores 1 if the answer equals the target, otherwise 0."""

    strip: bool = True
    casefold: bool = False


class Includes(ScorerSettings, frozen=True, kw_only=True, tag="includes"):
    """Scores 1 if the answer contains the target, otherwise 0."""

    casefold: bool = True


class Regex(ScorerSettings, frozen=True, kw_only=True, tag="regex"):
    """Scores 1 if the pattern matches, otherwise 0.

    With a target, the first group (or the whole match) must also equal it.
    """

    needs_target: ClassVar[bool] = False
    pattern: str
    casefold: bool = False


class Number(ScorerSettings, frozen=True, kw_only=True, tag="number"):
    """Scores 1 if the first or last number in the answer equals the number in the target, otherwise 0."""

    take: Literal["first", "last"] = "last"
    tolerance: Share = 0.0
    """The largest difference that counts as equal."""
    relative: Share = 0.0
    """The largest difference that counts as equal, as a share of the larger number. Either bound is enough."""


class Choice(ScorerSettings, frozen=True, kw_only=True, tag="choice"):
    """Scores 1 if the answer chooses the same letter as the target, otherwise 0."""

    letters: str = "ABCD"


class Json(ScorerSettings, frozen=True, kw_only=True, tag="json"):
    """Scores the share of the target's JSON fields that have the same value in the answer's JSON."""

    fields: tuple[str, ...] = ()
    """The fields to compare. Empty for all fields of the target."""
    casefold: bool = False


class Similarity(ScorerSettings, frozen=True, kw_only=True, tag="similarity"):
    """Scores how similar the answer's text is to the target, from 0 to 1."""

    casefold: bool = False


class Custom(ScorerSettings, frozen=True, kw_only=True, tag="own"):
    """Scores with the user's own Python function, from a module beside the job file or an installed one."""

    needs_target: ClassVar[bool] = False
    python: str
    """`module:function`, called as `function(response, target, row)`."""
    timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 10.0
    """The maximum time, in seconds, that the function may take for one answer."""


class Judge(ScorerSettings, frozen=True, kw_only=True, tag="judge"):
    """Scores with another model, which grades the answer on a scale. The grade is converted to a score from 0 to 1."""

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


if TYPE_CHECKING:
    Scorer = ScorerSettings
else:  # the union of all kinds of scorers, from which msgspec picks one by the key `kind`
    Scorer = functools.reduce(operator.or_, ScorerSettings.__subclasses__())
Metric = Literal["score", "answered", "refused", "cost_usd", "latency_s", "response_chars"]
LESS_IS_BETTER = frozenset({"refused", "cost_usd", "latency_s", "response_chars"})


class Guard(msgspec.Struct, frozen=True):
    """A bound on a metric. In each run the metric must be within `min` and `max`.

    When a run is compared with another one, the metric must also not have become worse.
    """

    metric: Metric = "score"
    scorer: str | None = None
    """The scorer that the guard applies to, only for the metric `score`. None for every scorer."""
    model: str | None = None
    """The model that the guard applies to. None for every model."""
    min: float | None = None
    max: float | None = None
    no_worse_by: Share = 0.0
    """The largest worsening that a comparison of two runs accepts, even if it is statistically significant."""


class Eval(msgspec.Struct, frozen=True):
    """The job file's `[eval]`."""

    scorers: tuple[Scorer, ...] = ()
    target: str | None = None
    """The carried column with the right answers."""
    group_by: tuple[str, ...] = ()
    """The carried columns for whose values the scores are also reported separately."""
    against: str | None = None
    """The run that each run is compared with: `previous`, or the path of a run folder."""
    guards: tuple[Guard, ...] = ()

    def target_of(self, scorer: Scorer) -> str | None:
        """Return the name of the column with a scorer's targets. None if the scorer has no target."""
        return scorer.target if scorer.target is not None else self.target

    @property
    def columns(self) -> tuple[str, ...]:
        """The carried columns used as targets or for grouping."""
        named = [column for scorer in self.scorers if (column := self.target_of(scorer)) is not None]
        return tuple(dict.fromkeys([*named, *self.group_by]))

    def check_columns(self, names: Collection[str]) -> None:
        """Raise `JobError` if a target or group column is not among `names`, the columns of the output."""
        for column in self.columns:
            if column not in names:
                raise JobError(
                    f"eval: there is no column {column!r} in the output; targets and groups are carried columns (see"
                    " input.columns)"
                )


def checked_eval(table: Eval, models: tuple[str, ...]) -> Eval:
    """Check `[eval]`, and return it with the name of each scorer filled in. Raises `JobError` if it is not valid.

    `models` are the names of the job's models. It is empty if the rows name their models.
    """
    if not table.scorers:
        raise JobError("eval.scorers: at least one [[eval.scorers]] is needed")
    scorers = tuple(msgspec.structs.replace(scorer, name=scorer.title) for scorer in table.scorers)
    names = [scorer.name for scorer in scorers]
    for scorer in scorers:
        if not re.fullmatch(r"[\w.-]{1,100}", scorer.name):
            raise JobError(f"eval.scorers.name: {scorer.name!r} must be made of letters, digits, -, _ and .")
        if names.count(scorer.name) > 1:
            raise JobError(f"eval.scorers: {scorer.name!r} is there twice; give each scorer a name of its own")
        if scorer.needs_target and table.target_of(scorer) is None:
            raise JobError(f"eval.scorers: {scorer.name} needs a target, the column with the right answers")
        _check_judge(scorer)
    for guard in table.guards:
        _check_guard(guard, names, models)
    return msgspec.structs.replace(table, scorers=scorers)


def _check_judge(scorer: Scorer) -> None:
    if isinstance(scorer, Judge):
        if not scorer.scale[0] < scorer.scale[1]:
            raise JobError("eval.scorers.scale: the worst number comes first, then the best")
        if "response" not in scorer.rubric:
            raise JobError("eval.scorers.rubric: must show the answer, {{ response }}")
        if not scorer.model.strip():
            raise JobError("eval.scorers.model: is empty; give the judge's id, such as gpt-4o")


def _check_guard(guard: Guard, scorers: list[str], models: tuple[str, ...]) -> None:
    if guard.scorer is not None and guard.scorer not in scorers:
        raise JobError(f"eval.guards.scorer: there is no scorer {guard.scorer!r}; there are {', '.join(scorers)}")
    if guard.scorer is not None and guard.metric != "score":
        raise JobError(f"eval.guards.scorer: {guard.metric} does not come from a scorer; take it out")
    if guard.model is not None and models and guard.model not in models:
        raise JobError(f"eval.guards.model: there is no model {guard.model!r}; there are {', '.join(models)}")
