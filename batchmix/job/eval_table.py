"""The job file's `[eval]`: the scorers, the targets they compare answers with, and the thresholds on the metrics."""

from __future__ import annotations

import functools
import operator
import os
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec

from batchmix.errors import JobError
from batchmix.job.addresses import checked_local
from batchmix.job.answer_table import Answer
from batchmix.job.closest import closest
from batchmix.job.guards import Guard, check_guard, check_no_guard_twice, with_default_guards
from batchmix.scorers.indirect import Judge
from batchmix.scorers.kinds import KINDS
from batchmix.scorers.settings import ScorerSettings

if TYPE_CHECKING:
    Scorer = ScorerSettings
else:  # the union of all kinds of scorers, from which msgspec picks one by the key `kind`
    Scorer = functools.reduce(operator.or_, KINDS)


class Eval(msgspec.Struct, frozen=True):
    """The job file's `[eval]`."""

    scorers: tuple[Scorer, ...] = ()
    target: str | None = None
    """The carried column with the right answers."""
    group_by: tuple[str, ...] = ()
    """The carried columns for whose values the scores are also reported separately."""
    cluster: str | None = None
    """The carried column whose equal values say which rows belong together, such as those about one document."""
    weight: str | None = None
    """The carried column that says how much each row counts in the mean scores. None: all count the same."""
    against: str | None = None
    """The run that each run is compared with: `last-good`, `previous`, `median:7` or the like, or the path of a run
    folder."""
    guards: tuple[Guard, ...] = ()
    false_alarms_per_month: Annotated[float, msgspec.Meta(gt=0)] = 0.15
    """How many nightly comparisons of a month may report a change although there is none, on average."""
    min_paired: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.9
    """The smallest share of its rows with which a guarded metric is compared. With fewer it is `not compared`."""

    @property
    def all_guards(self) -> tuple[Guard, ...]:
        """The guards, with those that apply without being named."""
        return with_default_guards(self.guards, has_scorers=bool(self.scorers))

    def target_in_words(self, scorer: str) -> str:
        """Return what a result must have so that a scorer can score it: `a target in the column 'answer'`, say."""
        found = next(one for one in self.scorers if one.name == scorer)
        column = self.target_of(found)
        if found.compares:
            return "an answer in the other run"
        return "a label" if column is None else f"a target in the column {column!r}"

    def target_of(self, scorer: Scorer) -> str | None:
        """Return the name of the column with a scorer's targets. None if the scorer has no target."""
        return scorer.target if scorer.target is not None or not scorer.takes_target else self.target

    @property
    def columns(self) -> tuple[str, ...]:
        """The carried columns used as targets, for grouping, and for errors and weights."""
        named = [column for scorer in self.scorers if (column := self.target_of(scorer)) is not None]
        named += [column for column in (self.cluster, self.weight) if column is not None]
        return tuple(dict.fromkeys([*named, *self.group_by]))

    def check_columns(self, names: Collection[str], fields: Iterable[str] = ()) -> None:
        """Raise `JobError` if a target or group column is not among `names`, the columns of the output.

        `fields` are the names of the fields of typed answers, as targets have them.
        """
        for scorer in self.scorers:
            column = self.target_of(scorer)
            if scorer.field is not None and column is not None and column not in names:
                without = "" if scorer.needs_target else f', or only field = "{scorer.field}"'
                raise JobError(
                    f"eval: {scorer.name} compares the field {scorer.field!r} with the column {column!r}, and there is"
                    " no such column in the output; name the carried column with the right answers, as field ="
                    f' "{scorer.field}" and target = "COLUMN"{without}'
                )
        for column in self.columns:
            if column not in names:
                near = closest(column, [*names, *(f"{_ANSWER}{field}" for field in fields)])
                hint = f"; did you mean {near}?" if near else ""
                raise JobError(
                    f"eval: there is no column {column!r} in the output{hint}; targets, groups, clusters and weights"
                    " are carried columns (see input.columns)"
                )


_WHOLE = "answer"
"""A target that is a whole typed answer."""
_ANSWER = f"{_WHOLE}."
"""The beginning of a target that is a field of typed answers."""


def with_fields(settings: Eval, answer: Answer | None) -> Eval:
    """Return `[eval]` in which each target `answer.FIELD` is told as its two parts: the field, and the column.

    The column has the name of the field itself: `city` for `answer.address.city`. `answer` says what the answers are;
    without it, such a target is a column. Raises `JobError` for a field that answers don't have.
    """
    paths = answer.paths if answer else None
    scorers = []
    for given in settings.scorers:
        scorer, target = given, settings.target_of(given)
        if paths is not None and scorer.field is None and target is not None and f"{target}.".startswith(_ANSWER):
            field = target.removeprefix(_ANSWER)
            column = paths.get(field, ())[-1:] or (_WHOLE,)
            scorer = msgspec.structs.replace(scorer, field=field, target=column[0])
        if scorer.field is not None:
            _check_field(scorer, paths)
        scorers.append(scorer)
    return msgspec.structs.replace(settings, scorers=tuple(scorers))


def _check_field(scorer: Scorer, paths: Collection[str] | None) -> None:
    field = str(scorer.field)
    where = f"eval.scorers: {scorer.title}: the field {field!r}"
    if paths is None:
        raise JobError(f"{where} needs typed answers, and the job has no [answer]; take it out, or give a schema")
    if field not in paths:
        parts = field.split(".")
        above = [name for end in range(1, len(parts)) if (name := ".".join(parts[:end])) in paths]
        if above and not any(name.startswith(f"{above[-1]}.") for name in paths):
            hint = f"{above[-1]} is no object with known fields, and is compared as a whole"
        elif near := closest(field, sorted(paths)):
            hint = f"did you mean {near}?"
        else:
            hint = f"there are {', '.join(paths)}"
        raise JobError(f"{where} is not in the schema of the answers; {hint}")


_CHOSEN = re.compile(r"last-good|previous|median:([1-9][0-9]{0,2})")
"""What `eval.against` says if the run is chosen among the earlier ones."""


def named_run(against: str | None) -> Path | None:
    """Return the folder of the run that `eval.against` names. None if it names none."""
    return None if against is None or _CHOSEN.fullmatch(against) else Path(against)


def median_count(against: str) -> int:
    """Return of how many runs `eval.against` takes the median. 0 if it does not."""
    found = _CHOSEN.fullmatch(against)
    return int(found[1]) if found and found[1] else 0


def sends_requests(settings: Eval | None) -> bool:
    """Return whether an evaluation sends requests, because one of its scorers is a judge."""
    return settings is not None and any(isinstance(scorer, Judge) for scorer in settings.scorers)


def _with_defaults(scorer: Scorer) -> Scorer:
    """Return a scorer with its name, and with an absolute path in place of one relative to the working directory."""
    if isinstance(scorer, Judge) and scorer.against is not None:
        against = checked_local(scorer.against, "eval.scorers.against", "copy that run here first")
        scorer = msgspec.structs.replace(scorer, against=os.path.abspath(against))  # noqa: PTH100
    return msgspec.structs.replace(scorer, name=scorer.title)


def checked_eval(table: Eval, models: tuple[str, ...]) -> Eval:
    """Check `[eval]`, and return it with the name of each scorer filled in. Raises `JobError` if it is not valid.

    `models` are the names of the job's models. It is empty if the rows name their models.
    """
    if not table.scorers:
        raise JobError("eval.scorers: at least one [[eval.scorers]] is needed")
    scorers = tuple(_with_defaults(scorer) for scorer in table.scorers)
    names = [scorer.name for scorer in scorers]
    for scorer in scorers:
        if not re.fullmatch(r"[\w.-]{1,100}", scorer.name):
            raise JobError(f"eval.scorers.name: {scorer.name!r} must be made of letters, digits, -, _ and .")
        if names.count(scorer.name) > 1:
            raise JobError(f"eval.scorers: {scorer.name!r} is there twice; give each scorer a name of its own")
        if scorer.needs_target and table.target_of(scorer) is None:
            raise JobError(f"eval.scorers: {scorer.name} needs a target, the column with the right answers")
        scorer.check()
        if isinstance(scorer, Judge) and scorer.compares and scorer.against is None and table.against is None:
            raise JobError(f"eval.scorers: {scorer.name} compares with the run's baseline; name one with eval.against")
    for column in table.group_by:
        if table.group_by.count(column) > 1:
            raise JobError(f"eval.group_by: {column!r} is there twice; take one out")
    for guard in table.guards:
        check_guard(guard, names, models)
    check_no_guard_twice(table.guards)
    return msgspec.structs.replace(table, scorers=scorers)
