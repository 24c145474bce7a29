"""Finds the verdict that a prompt asks a judge to end its answer with: a number of a range, or one of several words."""

from __future__ import annotations

import math
import re

import msgspec

_FORM = re.compile(
    r"^(?P<line>VERDICT-\w+): <"
    r"(?:a number from (?P<least>-?[\d.]+) to (?P<most>-?[\d.]+)|one of: (?P<words>[^<>\n]+))>\s*\Z",
    re.MULTILINE,
)
_MOST_CHOICES = 1_000


class AskedVerdict(msgspec.Struct, frozen=True):
    """The verdicts that the stand-in may give, and what its last line begins with.

    Of numbers, it gives those of the upper half, as lenient judges do.
    """

    line: str
    choices: tuple[str, ...]

    def ending(self, draw: int) -> str:
        """Return the last line of a judge's answer, for a pseudo-random number."""
        return f"{self.line}: {self.choices[draw % len(self.choices)]}"


def asked_verdict(prompt: str) -> AskedVerdict | None:
    """Return the verdict that a prompt asks for in its last line. None if it asks for none."""
    found = _FORM.search(prompt) if "VERDICT-" in prompt else None
    if found is None:
        return None
    if found["words"] is not None:
        return AskedVerdict(found["line"], tuple(found["words"].split(", ")))
    least, most = float(found["least"]), float(found["most"])
    whole = [str(number) for number in range(math.ceil(least), math.floor(most) + 1)][:_MOST_CHOICES]
    return AskedVerdict(found["line"], tuple(whole[len(whole) // 2 :] or [found["most"]]))
