"""Scorers that compare the text of an answer: `exact`, `includes`, `regex` and `similarity`."""

from __future__ import annotations

from typing import Any, ClassVar

from batchmix.errors import JobError
from batchmix.scorers.settings import Row, Score, ScoreFunction, ScorerSettings, same_text, target_text

_MAX_CHARS = 50_000
"""The most characters of each text that `similarity` compares. Its time grows with the product of both lengths."""
_REGEX_S = 0.5
"""Seconds of processor time that a pattern may take for one answer."""
_LATE_REGEX_S = 0.01
"""Seconds of processor time for one answer, once the pattern has timed out `_SLOW_MATCHES` times."""
_SLOW_MATCHES = 10
"""The number of time-outs after which a pattern gets less time."""


class Exact(ScorerSettings, frozen=True, kw_only=True, tag="exact"):
    """Scores 1 if the answer equals the target, otherwise 0."""

    strip: bool = True
    casefold: bool = False

    def score(self, response: str, target: str) -> Score:
        """Compare the whole answer."""
        extracted = response.strip() if self.strip else response
        wanted = target.strip() if self.strip else target
        return Score(float(same_text(extracted, wanted, casefold=self.casefold)), target, extracted)


class Includes(ScorerSettings, frozen=True, kw_only=True, tag="includes"):
    """Scores 1 if the answer contains the target, otherwise 0."""

    casefold: bool = True

    def score(self, response: str, target: str) -> Score:
        """Look for the target in the answer."""
        is_included = target.casefold() in response.casefold() if self.casefold else target in response
        return Score(float(is_included), target)


class Regex(ScorerSettings, frozen=True, kw_only=True, tag="regex"):
    """Scores 1 if the pattern matches, otherwise 0.

    With a target, the first group (or the whole match) must also equal it.
    """

    needs_target: ClassVar[bool] = False
    pattern: str
    casefold: bool = False

    def score_function(self) -> ScoreFunction:
        """Compile the pattern, and return the function that looks for it. A slow pattern soon gets less time."""
        import regex  # the standard library's `re` has no time-out, and some patterns never finish

        try:
            pattern = regex.compile(self.pattern, regex.IGNORECASE if self.casefold else 0)
        except regex.error as error:
            raise JobError(f"eval.scorers: {self.name}: the pattern has an error: {error}") from None
        slow = 0

        def score(response: str, target: Any, _: Row) -> Score:
            nonlocal slow
            limit_s = _REGEX_S if slow < _SLOW_MATCHES else _LATE_REGEX_S
            wanted = None if target is None else target_text(target)
            try:
                match = pattern.search(response, timeout=limit_s)
            except TimeoutError:
                slow += 1
                return Score(None, wanted, None, f"the pattern took longer than {limit_s} s")
            if match is None:
                return Score(0.0, wanted, None, "the pattern is not in the answer")
            extracted = match[1] if pattern.groups and match[1] is not None else match[0]
            right = wanted is None or same_text(extracted.strip(), wanted.strip(), casefold=self.casefold)
            return Score(float(right), wanted, extracted)

        return score


class Similarity(ScorerSettings, frozen=True, kw_only=True, tag="similarity"):
    """Scores how similar the answer's text is to the target, from 0 to 1."""

    casefold: bool = False

    def score(self, response: str, target: str) -> Score:
        """Compare the beginnings of both texts, up to `_MAX_CHARS`."""
        from rapidfuzz import fuzz

        pair = [text.casefold() if self.casefold else text for text in (response[:_MAX_CHARS], target[:_MAX_CHARS])]
        return Score(fuzz.ratio(*pair) / 100, target)
