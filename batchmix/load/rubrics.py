"""What judges are shown: their rubrics as templates, held against the columns that a run will have."""

from __future__ import annotations

from collections.abc import Collection

from batchmix.errors import JobError
from batchmix.job import Input
from batchmix.job.eval_table import Eval, Judge
from batchmix.load.template import Template

RESULT = ("row", "custom_id", "model", "sample", "status", "response")
"""What a rubric can name of a result, beside the carried columns."""


def rubric(asked: Judge) -> Template:
    """Return a judge's rubric as a template. Raises `JobError` for one that can't be right."""
    try:
        return Template(Input(path="", prompt=asked.rubric))
    except JobError as error:
        raise JobError(f"eval.scorers: {asked.name}: {error}") from error


def columns_shown(asked: Judge, target: str | None, carried: Collection[str]) -> frozenset[str]:
    """Return the columns that a judge's rubric shows, beside the response and the target.

    `target` is the column with the targets, if there is one. Raises `JobError` for a column that there is not.
    """
    template = rubric(asked)
    if template.reads is not None and not template.reads:
        raise JobError(f"eval.scorers: {asked.name}: the rubric shows no answer; {{{{ response|tojson }}}} does it")
    given = {"response"} | ({"target"} if target is not None else set())
    named = (template.required if template.reads is None else template.required | template.reads & {"row"}) - given
    for name in sorted(named.difference(carried, RESULT)):
        raise JobError(f"eval.scorers: {asked.name}: the rubric names {name!r}, and there is no such column")
    return named if template.reads is not None else named.union(carried, {"row"}) - given


def check_rubrics(asked: Eval, carried: Collection[str]) -> None:
    """Raise `JobError` where a judge's rubric names a column that a run will not have."""
    for scorer in asked.scorers:
        if isinstance(scorer, Judge):
            columns_shown(scorer, asked.target_of(scorer), carried)
