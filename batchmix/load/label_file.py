"""Reads the labels that people gave to answers: one row per answer, which names it and has its label."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import msgspec

from batchmix.errors import InputError
from batchmix.formats.display import quoted
from batchmix.formats.text import text_of
from batchmix.job.closest import closest
from batchmix.load.files import shown
from batchmix.load.table_rows import table_rows
from batchmix.scorers.settings import MAX_SCORE

_NAMES = ("custom_id", "row")
"""The columns that may name a row of the input. The first that the file has counts."""
_KEYS = ("model", "sample")
"""The columns that tell the answers to a row apart. Without them, a label is that of each of these answers."""
_Key = tuple[str, ...]


class HumanLabel(msgspec.Struct, frozen=True, gc=False):
    """The label of one answer."""

    text: str
    """As it stands in the file, without white space around it."""
    value: float | None
    """The number that it is or stands for. None for a word without one."""
    answer: bytes | None
    """The digest of the answer that was labelled. None if the file doesn't have the answers."""
    place: str
    """Where it stands in the file, for messages."""

    def is_of(self, response: str | None) -> bool:
        """Return whether the label is that of this answer, or may be that of any."""
        return self.answer is None or self.answer == _digest(response or "")


class HumanLabels(msgspec.Struct, frozen=True):
    """The labels of a file, by the answers that they belong to."""

    columns: tuple[str, ...]
    """The columns that name an answer, such as `custom_id` and `model`."""
    by_answer: dict[_Key, HumanLabel]

    def of(self, result: Mapping[str, Any]) -> HumanLabel | None:
        """Return the label of a result, given its columns `row`, `custom_id`, `model` and `sample`."""
        return self.by_answer.get(tuple(text_of(result[name]) for name in self.columns))


def read_labels(path: str, column: str = "label", values: Mapping[str, float] | None = None) -> HumanLabels:
    """Read a file of labels. Rows with an empty label count as not labelled.

    If `values` is given, each label must be a number or one of its words. Raises `InputError`, also if a column is
    missing, or if an answer has two different labels.
    """
    columns: tuple[str, ...] = ()
    labels: dict[_Key, HumanLabel] = {}
    for place, row in table_rows(path):
        columns = columns or _columns(path, column, list(row))
        label = text_of(row[column]).strip() if row.get(column) is not None else ""
        if not label:
            continue
        if missing := next((name for name in columns if row.get(name) is None), None):
            raise InputError(f"{place}: has no {missing}, which says what answer the label belongs to")
        key = tuple(text_of(row[name]).strip() for name in columns)
        response = row.get("response")
        digest = None if response is None else _digest(text_of(response))
        found = HumanLabel(label, _value(label, values, place), digest, place)
        if msgspec.structs.replace(labels.setdefault(key, found), place=place) != found:
            named = ", ".join(f"{name} {quoted(part)}" for name, part in zip(columns, key, strict=True))
            raise InputError(f"{place}: {named} has two labels; leave one, or add the columns model and sample")
    if not labels:
        raise InputError(f"{shown(path)}: has no labels; write one into the column {column} of each row you judge")
    return HumanLabels(columns, labels)


def _columns(path: str, column: str, names: list[str]) -> tuple[str, ...]:
    if column not in names:
        near = closest(column, names)
        raise InputError(
            f"{shown(path)}: has no column {quoted(column)} with the labels"
            f"{f'; did you mean {quoted(near)}?' if near else ''}"
        )
    name = next((name for name in _NAMES if name in names), None)
    if name is None:
        raise InputError(f"{shown(path)}: needs the column custom_id or row, which says what answer a label belongs to")
    return (name, *(key for key in _KEYS if key in names))


def _value(label: str, values: Mapping[str, float] | None, place: str) -> float | None:
    if values is not None and label in values:
        return values[label]
    try:
        number = float(label)
    except ValueError:
        number = math.nan
    if abs(number) <= MAX_SCORE:
        return number
    if values is None:
        return None
    known = f", and none of {', '.join(values)}" if values else "; give its score, as values = { good = 1, bad = 0 }"
    what = "is no number" if math.isnan(number) else f"is above {MAX_SCORE:g} in size"
    raise InputError(f"{place}: the label {quoted(label)} {what}{known}")


def _digest(answer: str) -> bytes:
    """Return the digest of an answer's words, since spreadsheets change line breaks and white space."""
    return hashlib.sha256(" ".join(answer.split()).encode("utf-8", "replace")).digest()
