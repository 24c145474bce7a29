"""Checks that templates use columns that exist: the job's prompt, and the rubrics of judges."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from batchmix.errors import InputError, JobError
from batchmix.formats.display import clean, column_list
from batchmix.job import CheckedJob, Input
from batchmix.job.eval_table import Eval
from batchmix.load.prompts import Mode
from batchmix.load.scan import Scan
from batchmix.load.template import Template
from batchmix.load.template_names import NO_COLUMNS, spelt
from batchmix.scorers.indirect import Judge

_BRACED = (
    r"(?<![{$#])\{\s*(?:\w+[.\[]['\"]?)?COLUMN(?:['\"]?\])?\s*(?:[!:.\[][^{}]*)?\}",
    r"[$#]\{COLUMN\}",
    r"\$\(?COLUMN\b\)?",
    r"%\(COLUMN\)[sdrfi]",
)
"""The patterns of other tools' placeholders: f-strings and notebooks, shells, Python's `%` operator."""
_LOOSE = (*_BRACED, r"<COLUMN>", r"\[COLUMN\]", r"«COLUMN»", r"%COLUMN%", r"@COLUMN\b")
"""The patterns in `_BRACED`, and others that often match plain text, such as the tags in `<text>{{ text }}</text>`."""
_TAG = r"\{\{[-+]?\s*COLUMN\s*(?:\|[^{}]*)?[-+]?\}\}"
_MAX_PATH_CHARS = 1000
RESULT_NAMES = ("row", "custom_id", "model", "sample", "status", "response")
"""The names that a rubric can use in addition to the carried columns."""
_logger = logging.getLogger(__name__)


def check_template_columns(job: CheckedJob, scan: Scan, reads: frozenset[str] | None) -> None:
    """Raise `InputError` if a template would make the same prompt for all rows. The message names a column to use.

    `reads` are the columns that the template uses, or None if it may use any. The prompts may be the same if rows have
    their own model or parameters.
    """
    if scan.mode is not Mode.TEMPLATE:
        return
    _check_prompt(job.input.prompt)
    texts = list(_texts(job.input))
    if meant := _meant(texts, NO_COLUMNS & scan.columns.keys(), (_TAG,)):
        raise InputError(f"{meant[0]} means something else in a template; for the column, write {meant[1]}")
    is_alone = scan.rows == 1 or job.input.model is not None or bool(job.input.params)
    if is_alone or reads is None or reads & scan.columns.keys():
        if meant := _meant(texts, scan.columns, _BRACED):
            _logger.warning("the template sends %s as plain text; for the column, write %s", *meant)
        return
    meant = _meant(texts, scan.columns, _LOOSE)
    if meant:
        hint = f"instead of {meant[0]}, write {meant[1]}"
    elif reads:
        named, there = column_list(sorted(reads)), column_list(scan.columns)
        raise InputError(
            f"the template names {named}, which no row has, so that all {scan.rows:,} rows would get the same prompt;"
            f" there are {there}"
        )
    else:
        hint = (
            f"name one, such as {clean(spelt(_likely(scan)), 100)}; there are {column_list(scan.columns)}. In a shell,"
            " put the template in single quotes. For many answers to one prompt, use one row and samples"
        )
    raise InputError(f"the template uses no column, so that all {scan.rows:,} rows would get the same prompt; {hint}")


def _check_prompt(prompt: str | None) -> None:
    if prompt is None:
        return
    if not prompt.strip():
        raise InputError("input.prompt: is empty; use a column in it, such as '{{ text }}'")
    if len(prompt) < _MAX_PATH_CHARS and "{" not in prompt and _is_file(prompt):
        name = clean(prompt, 200)
        raise InputError(f'input.prompt: is the name of a file; give its contents: --prompt "$(cat {name})"')


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):
        return False


def _texts(settings: Input) -> Iterator[str]:
    for value in (settings.system, settings.prompt, settings.messages):
        yield from _texts_in(value)


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list | tuple):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts_in(inner)


def _meant(texts: Iterable[str], columns: Iterable[str], patterns: tuple[str, ...]) -> tuple[str, str] | None:
    """Return a text that looks like another tool's placeholder for a column, and the tag to write instead, or None."""
    texts = list(texts)
    for column in sorted(columns, key=len, reverse=True):
        for pattern in patterns:
            placeholder = re.compile(pattern.replace("COLUMN", _loosely(column)), re.IGNORECASE)
            for text in texts:
                if match := placeholder.search(text):
                    return clean(match[0], 100), clean(spelt(column), 100)
    return None


def _loosely(column: str) -> str:
    """Return a pattern that matches a column's name, even if its words are joined as in `first_name` or `firstName`."""
    parts = [re.escape(part) for part in re.split(r"[ _-]", column) if part]
    return r"[\W_]?".join(parts) if len(parts) > 1 else re.escape(column)


def _likely(scan: Scan) -> str:
    return max(scan.columns, key=lambda name: (name in ("text", "prompt", "question"), name != "id"), default="text")


def rubric(judge: Judge) -> Template:
    """Return a judge's rubric as a template. Raises `JobError` if it is wrong for every row."""
    try:
        return Template(Input(path="", prompt=judge.rubric))
    except JobError as error:
        raise JobError(f"eval.scorers: {judge.name}: {error}") from error


def rubric_columns(judge: Judge, target: str | None, carried: Collection[str]) -> frozenset[str]:
    """Return the columns that a judge's rubric uses, without `response`, `target`, and the `other` response of a pair.

    `target` is the column with the targets, if there is one. Raises `JobError` if the rubric uses a column that does
    not exist, or no column at all.
    """
    template = rubric(judge)
    if template.reads is not None and not template.reads:
        raise JobError(
            f"eval.scorers: {judge.name}: the rubric does not use the response; add {{{{ response|tojson }}}}"
        )
    given = {"response", *(["target"] if target is not None else []), *(["other"] if judge.compares else [])}
    named = (template.required if template.reads is None else template.required | template.reads & {"row"}) - given
    for name in sorted(named.difference(carried, RESULT_NAMES)):
        raise JobError(f"eval.scorers: {judge.name}: the rubric names {name!r}, but there is no such column")
    return named if template.reads is not None else named.union(carried, {"row"}) - given


def check_rubrics(evaluation: Eval, carried: Collection[str]) -> None:
    """Raise `JobError` if a judge's rubric uses a column that the run does not carry."""
    for scorer in evaluation.scorers:
        if isinstance(scorer, Judge):
            rubric_columns(scorer, evaluation.target_of(scorer), carried)
