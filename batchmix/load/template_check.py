"""Whether a template asks about its rows at all: one that reads no column would ask all of them the same."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from batchmix.errors import InputError
from batchmix.formats.display import clean, column_list
from batchmix.job import Input, Job
from batchmix.load.scan import Scan
from batchmix.load.template_names import NO_COLUMNS, spelt

_BRACED = (
    r"(?<![{$#])\{\s*(?:\w+[.\[]['\"]?)?COLUMN(?:['\"]?\])?\s*(?:[!:.\[][^{}]*)?\}",
    r"[$#]\{COLUMN\}",
    r"\$\(?COLUMN\b\)?",
    r"%\(COLUMN\)[sdrfi]",
)
"""How others name a column in a text: f-strings and notebooks, shells, Python's oldest way."""
_LOOSE = (*_BRACED, r"<COLUMN>", r"\[COLUMN\]", r"«COLUMN»", r"%COLUMN%", r"@COLUMN\b")
"""And what is often meant for a name, but is as often something else, as in `<text>{{ text }}</text>`."""
_HOLE = r"\{\{[-+]?\s*COLUMN\s*(?:\|[^{}]*)?[-+]?\}\}"
_LONGEST_PATH = 1000
_logger = logging.getLogger(__name__)


def check_reads(job: Job, scan: Scan, reads: frozenset[str] | None) -> None:
    """Raise `InputError` where a template would ask many rows the same, with the column that may be meant.

    `reads` are the columns that the template looks at; None: any. Rows that bring their model or parameters may be
    asked the same.
    """
    if scan.mode != "template":
        return
    _check_prompt(job.input.prompt)
    texts = list(_texts(job.input))
    if found := _meant(texts, NO_COLUMNS & scan.columns.keys(), (_HOLE,)):
        raise InputError(f"{found[0]} is no column in a template; for the column, write {found[1]}")
    is_alone = scan.rows == 1 or job.input.model is not None or bool(job.input.params)
    if is_alone or reads is None or reads & scan.columns.keys():
        if found := _meant(texts, scan.columns, _BRACED):
            _logger.warning("the template holds %s as it stands; where the column is meant, write %s", *found)
        return
    found = _meant(texts, scan.columns, _LOOSE)
    if found:
        hint = f"where {found[0]} stands, write {found[1]}"
    else:
        hint = (
            f"name one, such as {clean(spelt(_likely(scan)), 100)}; there are {column_list(scan.columns)}. In a shell,"
            " put the template in single quotes. For many answers to one prompt, give one row and samples"
        )
    raise InputError(f"the template reads no column, so that all {scan.rows:,} rows would be asked the same; {hint}")


def _check_prompt(prompt: str | None) -> None:
    if prompt is None:
        return
    if not prompt.strip():
        raise InputError("input.prompt: is empty; name a column in it, such as '{{ text }}'")
    if len(prompt) < _LONGEST_PATH and "{" not in prompt and _is_file(prompt):
        name = clean(prompt, 200)
        raise InputError(f'input.prompt: is the name of a file; give what stands in it: --prompt "$(cat {name})"')


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):
        return False


def _texts(asked: Input) -> Iterator[str]:
    for value in (asked.system, asked.prompt, asked.messages):
        yield from _texts_in(value)


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list | tuple):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts_in(inner)


def _meant(texts: Iterable[str], columns: Iterable[str], patterns: tuple[str, ...]) -> tuple[str, str] | None:
    """Return what stands in the texts for a column in another notation, and how it is written here."""
    texts = list(texts)
    for column in sorted(columns, key=len, reverse=True):
        for pattern in patterns:
            looked = re.compile(pattern.replace("COLUMN", _loosely(column)), re.IGNORECASE)
            for text in texts:
                if found := looked.search(text):
                    return clean(found[0], 100), clean(spelt(column), 100)
    return None


def _loosely(column: str) -> str:
    """Return what finds a column's name, also where its words are joined as those of a variable are."""
    words = [re.escape(word) for word in re.split(r"[ _-]", column) if word]
    return r"[\W_]?".join(words) if len(words) > 1 else re.escape(column)


def _likely(scan: Scan) -> str:
    return max(scan.columns, key=lambda name: (name in ("text", "prompt", "question"), name != "id"), default="text")
