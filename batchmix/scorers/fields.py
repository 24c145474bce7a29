"""Reads an answer that consists of fields, in JSON or in lines such as `answer: 4`, and finds that of its result."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from batchmix.answers.healing import FoundJson, json_of
from batchmix.scorers.answer_words import ANSWERS, OPTIONS
from batchmix.scorers.late_pattern import late_pattern
from batchmix.scorers.settings import MAX_CHARS, target_text
from batchmix.scorers.statements import Found, after_retraction, boxed_or_tagged

Value = TypeVar("Value")
Fields = list[tuple[str, Any]]
"""Names and values. What stands for several objects is one list, in order."""

_OF_RESULT = r"(?:letter|text|value|number|choice|option|index)?"
_NAMES = tuple(
    late_pattern(names, re.IGNORECASE)
    for names in (
        r"(?:my|the)?(?:final|corrected|revised)(?:answer|result|choice|solution|value|output|number|decision|verdict)?",
        rf"(?:my|the|correct|best|selected|chosen|predicted)?(?:answers?|ans){_OF_RESULT}",
        ANSWERS,
        rf"(?:my|the|correct|best|selected|chosen|predicted)?(?:{OPTIONS}|selection|selected|chosen|prediction|predicted"
        r"|output|response|value)",
    )
)
"""The names of the field with the result, those to be trusted most first."""
_CERTAIN = 3
"""The names that are meant even if their field can't be read. Those after them may name something else."""
_BESIDE = re.compile(
    r".*(?:reason|thought|think|explanation|explain|rationale|analysis|justification|scratchpad|comment|note|question"
    r"|confidence|probability|steps?|working|begründung|erklärung|raison|explication|razón|explicación|理由|解释|步骤).*"
    r"|id|index",
    re.IGNORECASE,
)
"""The names of fields that stand beside the result."""
_NO_LETTERS = re.compile(r"[\W_]+")
_LINE = re.compile(r"[ \t]*(?:[-*][ \t]+)?[*\"']{0,3}([^\W\d][\w -]{0,30}?)[*\"']{0,3}[ \t]?[:=][*]{0,2}[ \t]*(\S.*)")
_FENCE_LINE = re.compile(r"^(?:[ \t]*(?:`{3,}|~{3,})[\w-]*|-{3})[ \t]*$", re.MULTILINE)
_FENCED = re.compile(r"\s*(`{3,}|~{3,})[\w+-]*\n((?:(?!\1).)*?)\n?[ \t]*\1\s*", re.DOTALL)
_LATEX_TEXT = re.compile(r"\\(?:text|math)[a-z]{0,5}\s?\{([^{}]*)\}")
_MOST_FIELDS = 100
_MOST_LEVELS = 8


def field_texts(text: str) -> list[list[str]] | None:
    """Return the texts that may be the result of an answer that consists of fields, those to be trusted most first.

    None if the answer is another text.
    """
    text = text[:MAX_CHARS].strip()
    fields = _json_fields(text)
    if fields is None:
        fields = _line_fields(text)
    if fields is None:
        return None
    groups = [*_groups(fields)]
    is_whole = text[:1] in "{[`"
    return groups if is_whole or _rank(fields) is not None else None


def read_fields(groups: list[list[str]], read: Callable[[str], Found[Value]]) -> Found[Value]:
    """Return the one value that `read` finds in the texts of the first list in which it finds any."""
    none = Found[Value](None, "no field of the answer has a result")
    for group in groups:
        bare = [text for text in group if len(text.split()) == 1]
        for texts in (bare, group):
            found = [read(text) for text in texts]
            values = {one.value for one in found if one.value is not None}
            if len(values) > 1:
                return Found(None, "several fields of the answer may be its result", is_unclear=True)
            if values:
                return Found(values.pop())
            none = next((one for one in found if one.is_unclear), found[0] if len(found) == 1 else none)
    return none


def result_text(text: str) -> str:
    """Return the result of an answer that marks it: in a box, in a tag or as a field. Any other text as it is.

    A code fence around the whole answer is left out.
    """
    groups = field_texts(text)
    if groups:
        return "\n".join(groups[-1])
    marked = boxed_or_tagged(text)
    if marked is not None:
        return _LATEX_TEXT.sub(r"\1", marked).strip()
    fenced = _FENCED.fullmatch(text)
    return fenced[2] if fenced else text


def _json_fields(text: str) -> Fields | None:
    """Return the fields of the JSON object, or the objects, with which a text ends."""
    if not text.rstrip("`~ \n").endswith(("}", "]")) or "{" not in text:
        return None
    found = json_of(text, frozenset({"object", "array"}))
    values = [found.value] if isinstance(found, FoundJson) else [*_json_lines(text)]
    if len(values) == 1 and isinstance(values[0], list):
        values = values[0]
    if not values or not all(isinstance(value, dict) for value in values):
        return None
    return [field for value in values[-_MOST_FIELDS:] for field in value.items()][-_MOST_FIELDS:]


def _json_lines(text: str) -> Iterator[Any]:
    for line in _FENCE_LINE.sub("", text).splitlines()[-_MOST_FIELDS:]:
        if line.strip():
            found = json_of(line, frozenset({"object"}))
            yield found.value if isinstance(found, FoundJson) and not found.healed else None


def _line_fields(text: str) -> Fields | None:
    """Return the fields of a text in which each line has a name and a value, one of them the result."""
    lines = [line for line in _FENCE_LINE.sub("", text).splitlines() if line.strip()]
    if not 2 <= len(lines) <= _MOST_FIELDS or after_retraction(text) != text:
        return None
    found = [match for line in lines if (match := _LINE.fullmatch(line))]
    fields: Fields = [(match[1], match[2]) for match in found]
    rank = _rank(fields)
    return fields if len(found) == len(lines) and rank is not None and rank < _CERTAIN else None


def _groups(fields: Fields, level: int = 0) -> Iterator[list[str]]:
    rank = _rank(fields)
    if rank is not None:
        named = [field for field in fields if _NAMES[rank].fullmatch(_plain(field[0]))]
        yield [text for _, value in named for text in _texts(value, level)]
    if rank is None or rank >= _CERTAIN:
        yield _unnamed(fields, level)


def _rank(fields: Fields) -> int | None:
    names = {_plain(name) for name, _ in fields}
    return next((rank for rank, pattern in enumerate(_NAMES) if any(map(pattern.fullmatch, names))), None)


def _plain(name: str) -> str:
    return _NO_LETTERS.sub("", name)


def _texts(value: Any, level: int) -> list[str]:
    """Return a value as text: of an object, its result, or all values that may be."""
    if value is None or level > _MOST_LEVELS:
        return []
    if isinstance(value, dict):
        return next(_groups([*value.items()][:_MOST_FIELDS], level + 1))
    if isinstance(value, list):
        return [", ".join(text for inner in value[:_MOST_FIELDS] for text in _texts(inner, level + 1))]
    return [target_text(value)]


def _unnamed(fields: Fields, level: int) -> list[str]:
    """Return the texts of the fields, without those beside the result. If names are ticked, it is these."""
    if fields and all(isinstance(value, bool) for _, value in fields):
        return [name for name, value in fields if value]
    kept = [field for field in fields if not _BESIDE.fullmatch(field[0])] or fields
    values = [inner for _, value in kept for inner in (value if isinstance(value, list) else [value])]
    return [text for value in values[:_MOST_FIELDS] for text in _texts(value, level)]
