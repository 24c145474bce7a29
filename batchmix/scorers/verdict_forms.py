"""How a judge is asked for its verdict, and how the verdict is read from its answer.

A judge ends its answer with a line such as `VERDICT-7f3a9c1e: 4`. The code is derived from all that the judge is shown,
and occurs in none of it, so that no answer can hold a line that counts. A judge that writes no such line is read as
`grades` reads free answers, without what the judged text contains.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from batchmix.answers.healing import FoundJson, json_of
from batchmix.scorers.grades import Reading, verdict_in
from batchmix.scorers.indirect import Judge
from batchmix.scorers.quotations import GAP, Judged, unmarked
from batchmix.scorers.verdict_values import LabelValues, ScaleValues, VerdictValues, normalized

FORM_COLUMN = "verdict_form"
"""The column of a judge's input with what is added to the rubric."""
_FIELD = "verdict"
_ANY_CODE = re.compile(r"^.*\bVERDICT-\w+.*$", re.MULTILINE | re.IGNORECASE)
_CODE_CHARS = 8


def verdict_values(judge: Judge) -> VerdictValues:
    """Return the values that a judge's verdict can have."""
    return _values(tuple(judge.label_scores), judge.scale)


@functools.lru_cache(maxsize=32)
def _values(labels: tuple[str, ...], scale: tuple[float, float]) -> VerdictValues:
    return LabelValues(dict.fromkeys(labels, 0.0)) if labels else ScaleValues(*scale)


def score_of(judge: Judge, value: str | float) -> float:
    """Return the score from 0 to 1 of a verdict."""
    if isinstance(value, str):
        return judge.label_scores[value]
    worst, best = judge.scale
    return (value - worst) / (best - worst)


def asked_rubric(judge: Judge) -> str:
    """Return the template of a judge's prompt: the rubric, and the form of the verdict if it is asked for."""
    return judge.rubric if judge.form != "nonce" else f"{judge.rubric.rstrip()}\n\n{{{{ {FORM_COLUMN} }}}}"


def form_text(judge: Judge, shown: Mapping[str, Any]) -> str:
    """Return what is added to the rubric for a row, of which `shown` is all that the judge may see."""
    choice = (
        f"one of: {', '.join(judge.label_scores)}"
        if judge.label_scores
        else "a number from {:g} to {:g}".format(*judge.scale)
    )
    seen = {name: value for name, value in shown.items() if name != "custom_id"}
    code = _code(judge, json.dumps(seen, sort_keys=True, default=str))
    return (
        "However long your answer is, end it with one line in exactly this form, with your verdict in place of the"
        f" brackets, and write nothing after it:\nVERDICT-{code}: <{choice}>"
    )


def _code(judge: Judge, shown: str) -> str:
    """Return a code that the shown texts do not contain. It is the same whenever the same is shown."""
    for attempt in range(1_000_000):
        digest = hashlib.blake2b(f"{attempt}\0{judge.rubric}\0{shown}".encode("utf-8", "replace"), digest_size=16)
        code = digest.hexdigest()[:_CODE_CHARS]
        if code not in shown and code not in judge.rubric:
            return code
    raise AssertionError("no text is so long that it has all codes")


def answer_schema(judge: Judge) -> dict[str, Any]:
    """Return the JSON Schema of a verdict."""
    verdict: dict[str, Any]
    if judge.label_scores:
        verdict = {"type": "string", "enum": list(judge.label_scores)}
    else:
        verdict = {"type": "number", "minimum": judge.scale[0], "maximum": judge.scale[1]}
    return {
        "type": "object",
        "properties": {"reason": {"type": "string"}, _FIELD: verdict},
        "required": ["reason", _FIELD],
        "additionalProperties": False,
    }


def judged_verdict(judge: Judge, text: str, row: Mapping[str, Any]) -> Reading:
    """Return the verdict in a judge's answer. `row` is the row of the judge's input that the answer belongs to."""
    values = verdict_values(judge)
    if judge.form == "json":
        found = json_of(text, frozenset({"object"}))
        if not isinstance(found, FoundJson) or not isinstance(found.value, dict):
            return Reading(None, "the judge's answer is not the JSON that was asked for")
        value = values.read(str(found.value.get(_FIELD)))
        return Reading(value, "" if value is not None else "the judge's JSON has no clear verdict")
    shown = [str(row[name]) for name in ("response", "other") if row.get(name) is not None]
    if judge.form == "nonce":
        form = str(row[FORM_COLUMN])
        text = text.replace(form, "").replace(form.splitlines()[-1], "")
        asked = re.escape(form.rpartition("\n")[2].partition(":")[0])
        rest = rf"(?:(?!{asked})[^\n])*"
        lines = re.findall(rf"{asked}[\s\"'`]{{0,3}}[:=]({rest})", unmarked(normalized(text)), re.IGNORECASE)
        if lines:
            value = _leading(values, lines[-1])
            return Reading(value, "" if value is not None else "the judge's verdict is not one that was asked for")
    return verdict_in(_ANY_CODE.sub(GAP, text), values, Judged(*shown))


def _leading(values: VerdictValues, line: str) -> str | float | None:
    """Return the value that stands first in the rest of a line, whatever follows it."""
    found = re.match(rf"[\s\"'`<(\[{{$]{{0,5}}{values.pattern}", line, re.IGNORECASE)
    return values.read(found["value"]) if found else None
