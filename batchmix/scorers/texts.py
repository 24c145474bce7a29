"""Scorers that compare the text of an answer: `exact`, `includes`, `regex`, `similarity` and `f1`."""

from __future__ import annotations

import re
import time
from collections import Counter
from typing import Any, ClassVar, Literal

from batchmix.errors import JobError
from batchmix.scorers.fields import result_text
from batchmix.scorers.mentions import meant
from batchmix.scorers.quotations import unmarked
from batchmix.scorers.settings import (
    CUT_OFF,
    MAX_CHARS,
    Row,
    Score,
    ScoreFunction,
    ScorerSettings,
    is_cut_off,
    target_text,
    target_texts,
)
from batchmix.scorers.statements import answered_text
from batchmix.scorers.text_forms import (
    bare_form,
    has_words,
    normal_form,
    plain_form,
    plain_signs,
    tokens,
    without_full_stop,
    without_html,
)

_MARKED = re.compile(r"[{}<>\\]|&#?\w+;")
"""A target with one of these may be a piece of what marks a result."""
_DECIMAL = re.compile(r"[-+]?\d{1,30}(?:\.\d{1,30})?")

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

    takes_list_as_text: ClassVar[bool] = True
    strip: bool = True
    """Whether white space, markup, quotation marks and full stops around the answer are ignored."""
    casefold: bool = False
    normalize: bool = False
    """Whether case, punctuation, articles and wide forms of letters are ignored, as in SQuAD."""

    def score(self, response: str, target: str) -> Score:
        """Compare the whole answer."""
        answer = answered_text(response)
        result = result_text(answer) if self.strip else answer
        whole, answers, wanted = self._forms(answer), self._forms(result), self._forms(target)
        is_equal = not {whole[0], whole[-1], answers[0], answers[-1]}.isdisjoint(wanted[:2])
        return Score(float(is_equal), target, answers[-1] if self.strip else response)

    def score_cut_off(self, response: str, target: str) -> Score:
        """Compare the beginning of the answer: it is wrong if the target does not begin so."""
        found = self.score(response, target)
        begun = self._forms(answered_text(response))[0]
        if found.score or not self._forms(target)[0].startswith(begun):
            return found
        return Score(None, target, found.extracted, CUT_OFF)

    def is_blank(self, text: str) -> bool:
        """Return whether nothing of a target is left in the form in which it is compared."""
        return not self._forms(text)[0].strip() or super().is_blank(text)

    def _forms(self, text: str) -> tuple[str, ...]:
        """Return a text as it is compared, and if more may be ignored, also without that."""
        if self.normalize:
            return (normal_form(text),)
        if not self.strip:
            return (text.casefold() if self.casefold else text,)
        plain = plain_form(text)
        forms = (plain, without_full_stop(plain), bare_form(plain))
        return tuple(form.casefold() for form in forms) if self.casefold else forms


class Includes(ScorerSettings, frozen=True, kw_only=True, tag="includes"):
    """Scores 1 if the answer contains the target, otherwise 0."""

    casefold: bool = True
    words: bool = True
    """Whether the target must be there as whole words, and stated: neither denied, nor asked, nor one of several. If
    not, it may be a part of a word."""
    normalize: bool = False
    """Whether case, punctuation, articles and wide forms of letters are ignored, as in SQuAD."""

    def score(self, response: str, target: str) -> Score:
        """Look for the target in the answer."""
        wanted, text = self._form(target), answered_text(response)
        if not self.words:
            return Score(float(wanted in self._form(text)), target)
        own = text if _MARKED.search(target) else without_html(result_text(text))
        stated = meant(plain_signs(own), plain_form(target))
        is_included = any(has_words(self._form(form), wanted) for form in (stated, unmarked(stated)))
        return Score(float(is_included), target)

    def is_blank(self, text: str) -> bool:
        """Return whether nothing of a target is left in the form in which it is compared."""
        return not self._form(text)

    def _form(self, text: str) -> str:
        if self.normalize:
            return normal_form(text)
        plain = plain_form(text)
        return plain.casefold() if self.casefold else plain


class Regex(ScorerSettings, frozen=True, kw_only=True, tag="regex"):
    """Scores 1 if the pattern matches, otherwise 0.

    With a target, the first group (or the whole match) must also equal it, and reasoning is not searched.
    """

    needs_target: ClassVar[bool] = False
    pattern: str
    casefold: bool = False
    take: Literal["first", "last"] = "last"
    """Which match is compared with the target."""

    def score_function(self) -> ScoreFunction:
        """Compile the pattern, and return the function that looks for it. A slow pattern soon gets less time."""
        patterns = self._patterns()
        slow = 0

        def score(response: str, target: Any, row: Row) -> Score:
            nonlocal slow
            limit_s = _REGEX_S if slow < _SLOW_MATCHES else _LATE_REGEX_S
            wanted = None if target is None else target_text(target)
            text = response if target is None else answered_text(response)
            try:
                match = _match(patterns, text, self.take, limit_s)
            except TimeoutError:
                slow += 1
                return Score(None, wanted, None, f"the pattern took longer than {limit_s} s")
            if match is None:
                why = CUT_OFF if is_cut_off(row) else "the pattern is not in the answer"
                return Score(None if is_cut_off(row) else 0.0, wanted, None, why)
            extracted = match[1] if match.re.groups and match[1] is not None else match[0]
            if target is not None and is_cut_off(row) and match.end() == len(text.rstrip()):
                return Score(None, wanted, extracted, CUT_OFF)
            right = target is None or any(self._equal(extracted, one) for one in target_texts(target))
            return Score(float(right), wanted, extracted)

        return score

    def _patterns(self) -> list[Any]:
        """Return the pattern, and the same in which a dot matches line breaks too."""
        import regex  # the standard library's `re` has no time-out, and some patterns never finish

        flags = regex.IGNORECASE if self.casefold else 0
        try:
            return [regex.compile(self.pattern, flags), regex.compile(self.pattern, flags | regex.DOTALL)]
        except regex.error as error:
            raise JobError(f"eval.scorers: {self.name}: the pattern has an error: {error}") from None

    def _equal(self, extracted: str, wanted: str) -> bool:
        texts = [plain_form(text).casefold() if self.casefold else plain_form(text) for text in (extracted, wanted)]
        numbers = [float(text) if _DECIMAL.fullmatch(text) else None for text in texts]
        return texts[0] == texts[1] or (numbers[0] is not None and numbers[0] == numbers[1])


def _match(patterns: list[Any], text: str, take: str, limit_s: float) -> Any:
    """Return the first or last match of the first pattern that has any. None if none has."""
    ends_at = time.thread_time() + limit_s
    for pattern in patterns:
        found = None
        for match in pattern.finditer(text, timeout=max(ends_at - time.thread_time(), 1e-3)):
            found = match
            if take == "first":
                break
        if found is not None:
            return found
    return None


class Similarity(ScorerSettings, frozen=True, kw_only=True, tag="similarity"):
    """Scores how similar the answer's text is to the target, from 0 to 1."""

    casefold: bool = False

    def score(self, response: str, target: str) -> Score:
        """Compare the beginnings of both texts, up to `_MAX_CHARS`."""
        from rapidfuzz import fuzz

        pair = [text[:_MAX_CHARS] for text in (answered_text(response), target)]
        return Score(fuzz.ratio(*map(str.casefold, pair) if self.casefold else pair) / 100, target)

    def score_cut_off(self, response: str, target: str) -> Score:
        """Compare the beginning of an answer like a whole one."""
        return self.score(response, target)


class TokenF1(ScorerSettings, frozen=True, kw_only=True, tag="f1"):
    """Scores how many words answer and target share: F1 over the words of both in normal form, as in SQuAD."""

    def score(self, response: str, target: str) -> Score:
        """Compare the words, each as often as it occurs."""
        given = Counter(tokens(answered_text(response)[:MAX_CHARS]))
        wanted = Counter(tokens(target[:MAX_CHARS]))
        shared = (given & wanted).total()
        return Score(2 * shared / (given.total() + wanted.total()) if shared else 0.0, target)

    def is_blank(self, text: str) -> bool:
        """Return whether a target has no words."""
        return not tokens(text[:MAX_CHARS])

    def score_cut_off(self, response: str, target: str) -> Score:
        """Compare the beginning of an answer like a whole one."""
        return self.score(response, target)
