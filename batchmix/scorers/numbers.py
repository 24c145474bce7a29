"""The scorer `number`, and how it finds the numbers in a text."""

from __future__ import annotations

import math
import re
from typing import Literal

from batchmix.scorers.settings import MAX_CHARS, Score, ScorerSettings, Share, target_text

_SPACES = "\u00a0\u2009\u202f"
"""No-break and thin spaces, which group digits in some languages."""
_NUMBER = re.compile(
    r"(?P<sign>(?<![\w)\].])[-+\u2212])?"  # where it is not a dash between words
    r"(?<![\w.])(?:"
    r"\\[dt]?frac\{(?P<above>\d{1,15})\}\{(?P<below>\d{1,15})\}"
    r"|(?<!/)(?:(?P<whole>\d{1,15}) )?(?P<numerator>\d{1,15})/(?P<denominator>\d{1,15})(?![\d/.])"  # not a date
    rf"|(?P<spaced>\d{{1,3}}(?:[{_SPACES}]\d{{3}})+(?!\d)(?:[.,]\d+)?)"
    r"|(?P<dotted>\d{1,3}(?:(?:\.\d{3}){1,6},\d{1,15}|(?:\.\d{3}){2,6})(?![.,]?\d))"
    r"|(?P<comma>(?<!\d,)\d+,(?:\d{1,2}|\d{4,})(?!\d|,\d))"
    r"|(?P<plain>(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?:[eE][-+\u2212]?\d{1,3}\b)?)"
    r")"
)


class Number(ScorerSettings, frozen=True, kw_only=True, tag="number"):
    """Scores 1 if the first or last number in the answer equals the number in the target, otherwise 0."""

    take: Literal["first", "last"] = "last"
    tolerance: Share = 0.0
    """The largest difference that counts as equal."""
    relative: Share = 0.0
    """The largest difference that counts as equal, as a share of the larger number. Either bound is enough."""

    def score(self, response: str, target: str) -> Score:
        """Compare a number in the answer with the only number in the target."""
        wanted, found = numbers(target), numbers(response)
        if len(wanted) != 1:
            return Score(None, target, None, "the target is not one number")
        if not found:
            return Score(0.0, target, None, "no number in the answer")
        value = found[-1 if self.take == "last" else 0]
        near = math.isclose(value, wanted[0], rel_tol=self.relative, abs_tol=self.tolerance)
        return Score(float(near), target, target_text(value))


def numbers(text: str) -> list[float]:
    """Return the finite numbers in a text, in order.

    Each of these is one number: `1,234.5`, `1.234,5`, `0,5`, `-3`, `-.5e3`, `6e23`, `3/4`, `2 1/2`, `\\frac{3}{4}`.
    A comma before three digits separates thousands. `50%` is 50.
    """
    values = (_value(match) for match in _NUMBER.finditer(text[:MAX_CHARS]))
    return [value for value in values if value is not None and math.isfinite(value)]


def _value(match: re.Match[str]) -> float | None:
    part = match.groupdict()
    sign = -1 if part["sign"] in {"-", "\u2212"} else 1
    above, below = part["above"] or part["numerator"], part["below"] or part["denominator"]
    if above and below:
        return sign * (int(part["whole"] or 0) + int(above) / int(below)) if int(below) else None
    if part["plain"]:
        return sign * float(part["plain"].replace(",", "").replace("\u2212", "-"))
    text = part["spaced"] or (part["dotted"] or part["comma"] or "").replace(".", "")
    return sign * float(re.sub(f"[{_SPACES}]", "", text).replace(",", "."))
