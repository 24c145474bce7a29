"""The scorer `json`, and how it finds the JSON in an answer."""

from __future__ import annotations

import json
import re
from typing import Any

from batchmix.formats.lenient_json import may_be_deep, shallow_text
from batchmix.scorers.settings import MAX_CHARS, Score, ScorerSettings, same_text, target_text

_FENCE = re.compile(r"```[\w-]*[ \t]*\n(.*?)```", re.DOTALL)
_MAX_STARTS = 200
"""The most positions in an answer at which JSON is looked for. This bounds the time for an answer without JSON."""
_MAX_REREAD_CHARS = 1_000_000
"""The most characters to read if JSON may be nested deeply, since the text is then read again from each position."""
NOTHING = object()
"""What `find_json` returns if there is no JSON. None would mean JSON's null."""


class Json(ScorerSettings, frozen=True, kw_only=True, tag="json"):
    """Scores the share of the target's JSON fields that have the same value in the answer's JSON."""

    fields: tuple[str, ...] = ()
    """The fields to compare. Empty for all fields of the target."""
    casefold: bool = False

    def score(self, response: str, target: str) -> Score:
        """Compare the fields of the first JSON in the answer."""
        wanted = find_json(target)
        if wanted is NOTHING:
            return Score(None, target, None, "the target is not JSON")
        found = find_json(response)
        if found is NOTHING:
            return Score(0.0, target, None, "no JSON in the answer")
        extracted = target_text(found)
        if not isinstance(wanted, dict):
            return Score(float(_equal(found, wanted, self)), target, extracted)
        fields = self.fields or tuple(wanted)
        if not isinstance(found, dict) or not fields:
            return Score(float(found == wanted), target, extracted, "the answer is not an object")
        wrong = [name for name in fields if name not in found or not _equal(found[name], wanted.get(name), self)]
        return Score(
            (len(fields) - len(wrong)) / len(fields), target, extracted, f"wrong: {', '.join(wrong)}" if wrong else None
        )


def _equal(found: Any, wanted: Any, config: Json) -> bool:
    if isinstance(found, str) and isinstance(wanted, str):
        return same_text(found.strip(), wanted.strip(), casefold=config.casefold)
    if isinstance(found, bool) or isinstance(wanted, bool):
        return found is wanted
    if isinstance(found, dict) and isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(_equal(found[key], wanted[key], config) for key in wanted)
    if isinstance(found, list) and isinstance(wanted, list):
        return len(found) == len(wanted) and all(_equal(a, b, config) for a, b in zip(found, wanted, strict=True))
    return bool(found == wanted)


def find_json(text: str) -> Any:
    """Return the JSON in an answer, parsed. `NOTHING` if there is none.

    The JSON may be the whole text, a code fence, or the first complete object or list. Values that are nested too
    deeply become null.
    """
    text = text[:MAX_CHARS]
    for candidate in (text, *_FENCE.findall(text)[:_MAX_STARTS]):
        try:
            return json.loads(shallow_text(candidate))
        except ValueError:
            continue
    decoder = json.JSONDecoder()
    at = -1
    deep = may_be_deep(text.encode("utf-8", "replace"))
    for _ in range(min(_MAX_STARTS, _MAX_REREAD_CHARS // len(text)) if deep else _MAX_STARTS):
        starts = [place for sign in "{[" if (place := text.find(sign, at + 1)) >= 0]
        if not starts:
            break
        at = min(starts)
        try:
            return decoder.raw_decode(shallow_text(text[at:]))[0] if deep else decoder.raw_decode(text, at)[0]
        except ValueError:
            continue
    return NOTHING
