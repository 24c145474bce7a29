"""The scorer `choice`, and how it finds the letter that an answer chooses."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

from batchmix.answers.reasoning import RefusedTextError
from batchmix.scorers.answer_words import (
    ANSWERS,
    BESIDE,
    BUT,
    COPULAS,
    CORRECT,
    FINAL,
    FITS,
    LINKS,
    NOT,
    OPTIONS,
    PLAIN,
    SUPPOSED,
    WEIGHED,
    WRONG,
    any_word,
)
from batchmix.scorers.contrasts import without_denied
from batchmix.scorers.fields import field_texts, read_fields
from batchmix.scorers.letter_forms import AND, ASIAN_AND, CHOSEN, CLOSE, IS, JUNK, ONE, OPEN, OPTION, letter_pattern
from batchmix.scorers.letter_marks import CAPITAL, MARK, letter_of, marked, readable, same_letter
from batchmix.scorers.option_verdicts import option_verdicts
from batchmix.scorers.own_words import own_words
from batchmix.scorers.settings import Score, ScorerSettings
from batchmix.scorers.statements import (
    Found,
    ReadPlace,
    StatedPlace,
    after_retraction,
    answered_text,
    final_text,
    settled,
    statements,
)

_ALONE = letter_pattern(rf"(?!.*[:：]\s*\Z)(?:[QA(]?\d{{1,4}}\s?[.):-])?{JUNK}{OPTION}{JUNK}({MARK}){JUNK}")
_SEVERAL = letter_pattern(rf"{JUNK}(?>{ONE})(?>{AND}{ONE})++{JUNK}")
_IN_BRACKETS = letter_pattern(rf"\[({MARK})\]\]")
_ANNOUNCED = letter_pattern(
    rf"{any_word(ANSWERS)}|(?<!\w)(?:{CORRECT}|{OPTIONS})(?=[^\w\n\ue000-\ue1ff]{{0,3}}[:=][ \t]*[^\s\w])"
    r"|(?<!\w)(?:exception|odd one out|ausnahme|excepción|eccezione|exceção|исключение)(?=\s(?:is|ist|est|es|è|é)\s|:)"
    rf"|(?<!\w)(?:{CORRECT})\s{{0,2}}的?(?:{OPTIONS})|(?<!\w)(?:{OPTIONS})(?=\s(?:{CORRECT})\s)"
)
_LINKS = letter_pattern(rf"(?:[\s:=>→⇒,\"'“”‘’「」(\[{{<|–—-]|\\|{any_word(LINKS)}|{any_word(NOT)})*+")
_DIRECT = letter_pattern(r"[\s(\[{<\"'“]*+")
_IF = letter_pattern(
    rf"{CLOSE}\s(?:only\s)?{any_word('if|unless|wenn|falls|si|se|если')}|{CLOSE}(?:ではなく|じゃなく|[가이]\s아니라)"
)
_SUBJECT = letter_pattern(
    rf"\s(?!{any_word(f'because|since|as|for|with|if|it|car|puisque|parce|weil|da|porque|ya|perché|потому|так|{COPULAS}|{FITS}|{BESIDE}|{CORRECT}|{WRONG}|{LINKS}')})[^\W\d_\ue000-\ue1ff]{{3}}"
)
"""Follows a letter that is the subject of a sentence, as in `la réponse B oublie`."""
_COPULA = letter_pattern(rf"{CLOSE}\s{any_word(COPULAS)}\s\w")
_LETTERS = letter_pattern(rf"{OPEN}{OPTION}{OPEN}{MARK}{CLOSE}(?:{AND}{OPEN}{CAPITAL}{CLOSE})*+")
_MARKS = letter_pattern(MARK)
_NEGATION = letter_pattern(any_word(NOT))
_BUT = letter_pattern(rf"[\s,;]{{0,3}}(?:{any_word(BUT)})\s{{0,3}}(?:{any_word(LINKS)}\s{{0,3}}){{0,4}}{ONE}")
_DENIED = letter_pattern(
    rf"[ \t,]{{0,3}}(?:{IS})(?:{any_word('definitely|clearly|also|obviously|simply')}\s{{0,3}})?"
    rf"(?:{any_word(WRONG)}(?!\s{{0,3}}{OPTION}{OPEN}{MARK})|[✗✘❌✕×])"
)
_DENIED_IN_LINE = letter_pattern(
    rf"[^\n.\ue000-\ue1ff]{{0,200}}?(?:(?<=[\s(:–—-])(?:{any_word(WRONG)})[^\w\n\ue000-\ue1ff]{{0,3}}(?:\n|\Z|because|since|as|:)|[✗✘❌✕×])"
)
_JOINED = letter_pattern(
    rf"{MARK}{CLOSE}\s{{0,3}}(?:{any_word(BESIDE)}|[/&+]|{ASIAN_AND})\s{{0,3}}{OPEN}{OPTION}{OPEN}\Z"
)
_ASKED = letter_pattern(r"[)\]}\s\"'”]{0,5}\?")
_EXPLAINED = "(?:because|since|as(?! well)|only|rather|instead|i think|i believe|porque|weil|parce)\\b|因为"
_HEAD = letter_pattern(
    rf"(?:\d{{1,3}}[.):]\s)?{JUNK}{OPTION}{OPEN}(?:({MARK})\s?(?:[)\]}}>.:]|\n)|({CAPITAL})(?:{CLOSE}\s[-–—]|\s\((?!{CAPITAL}\s?\))|,\s(?!{OPEN}{CAPITAL}{CLOSE}\s?(?:,|\Z|{any_word(BESIDE)}))|[–—]|\s(?={_EXPLAINED})))"
)
_NAMED_FIRST = letter_pattern(rf"{any_word(OPTIONS)}\s{{0,2}}({MARK}):")
_LABEL = letter_pattern(rf"[^\w\n\ue000-\ue1ff]{{0,9}}{OPTION}{OPEN}({MARK})(?:[).:\]]|\s?$)")
_UNCERTAIN = letter_pattern(rf"\?|{MARK}{CLOSE}:\s*\w|{any_word(f'{NOT}|{WRONG}|{WEIGHED}|{SUPPOSED}')}|\.\.\.\Z|…\Z")
_PLAIN = any_word(PLAIN)
_WORD_BEFORE = re.compile(r"(?<![A-Za-z])([A-Za-z]{3,30})[ -]\Z")
_BEFORE_OPTION = letter_pattern(
    rf"{_PLAIN}|but|and|or|because|since|if|while|whereas|although|though|which|making|makes?|means?|shows?|proves?|says?|see|find"
    r"|both|neither|either|and|und|oder|aber|dass|weil|mais|donc|pero|porque|perché|mas|ma"
)
"""The words in front of a letter that do not make it a name, as `person` and `vitamin` do."""
_NAMES_ONLY = letter_pattern(rf"(?:{_PLAIN}|{MARK}|[^\w\ue000-\ue1ff]|项|項)*+")
"""A sentence that says nothing else but which letter it is."""
_AS_OPTION = letter_pattern(
    rf"(?:{any_word(OPTIONS)}\s{{0,2}}{OPEN}{MARK}{CLOSE}|"
    rf"(?:{MARK}[)\]]|[→⇒]\s?{MARK})|\|\s?{MARK}\s?\||\A[^:\n]{{1,40}}:\s{{0,3}}{OPEN}{MARK}{CLOSE})[.!。*|\s]{{0,4}}\Z"
)
"""A short sentence that ends with an option, as in `Paris (B)` or `Svar: B`."""
_FINISHED = letter_pattern(rf"(?:[.!。！;)|*]|{MARK}\W*)\Z")
_SENTENCES = re.compile(r"(?<=[.!?…;。！？；])\s+(?=\S)")
_CLAUSES = re.compile(r"[.!?;,:\n。！？；，]")
_NOT_AT_END = letter_pattern(rf"(?:{any_word(NOT)})[ \t]\Z")
_BROKEN_OFF = re.compile(r"[:：,，、=+×(]\s*\Z")
_FEW_CHARS = 40
"""A text as short as this that breaks off names a letter without choosing it."""
_CONCLUDES = letter_pattern(any_word(FINAL))
_WOULD = letter_pattern(any_word("would|could|might|wäre|serait|sería|seria|sarebbe"))
_CONDITION = letter_pattern(any_word("if|with|wenn|falls|bei|si|avec|se|con|com|если"))
_SUPPOSED = letter_pattern(any_word(f"{SUPPOSED}|{NOT}|{WEIGHED}"))
_TAG = re.compile(r"\A\s*\[{1,2}[A-Za-z][\w:. -]{1,60}\]{1,2}\s+(?=\S)")
"""A label in brackets in front of an answer, such as `[assistant]`."""


class Choice(ScorerSettings, frozen=True, kw_only=True, tag="choice"):
    """Scores 1 if the answer chooses the same letter as the target, otherwise 0."""

    letters: str = "ABCD"

    def score(self, response: str, target: str) -> Score:
        """Compare the letters that answer and target choose."""
        return self._compared(chosen_letter(response, self.letters), target)

    def score_cut_off(self, response: str, target: str) -> Score:
        """Compare the letters if the answer had stated its own before it was cut off."""
        return self._compared(chosen_letter(response, self.letters, is_cut_off=True), target)

    def _compared(self, found: Found[str], target: str) -> Score:
        wanted = chosen_letter(target, self.letters).value
        if wanted is None:
            return Score(None, target, None, f"the target is none of {self.letters}")
        return Score(None if found.is_unclear else float(found.value == wanted), target, found.value, found.why)


@functools.lru_cache(maxsize=4)  # an answer is compared with several targets
def chosen_letter(text: str, letters: str, *, is_cut_off: bool = False) -> Found[str]:
    """Return the letter that an answer chooses.

    Of an answer that consists of fields, that of the result is read. Otherwise, these are tried in order, and the first
    that names a letter counts: where the result is stated (see `statements`), a letter that is called right or chosen,
    one at the beginning, and one that ends the text. Letters that are denied or only weighed do not count. An answer
    that was cut off must have stated its result, or consist of the letter.
    """
    if fields := field_texts(answered_text(text)):
        return read_fields(fields, lambda field: chosen_letter(field, letters))
    try:
        text = without_denied(marked(readable(own_words(_TAG.sub("", final_text(text)))), letters))
    except RefusedTextError as error:
        return Found(None, str(error), is_unclear=is_cut_off)
    if alone := _ALONE.fullmatch(text):
        return Found(letter_of(alone[1], letters))
    found = Found("", "the answer names more than one letter") if _SEVERAL.fullmatch(text) else None
    found = found or settled(text, _levels(text, is_cut_off=is_cut_off), same_letter)
    if found is None and is_cut_off:
        return Found(None, "the answer was cut off before it stated a letter", is_unclear=True)
    if found is None or not found.value:
        return Found(None, found.why if found else "no clear choice in the answer", bool(found and found.is_unclear))
    return Found(letter_of(found.value, letters))


def _levels(text: str, *, is_cut_off: bool) -> Iterator[list[ReadPlace[str]]]:
    yield [ReadPlace(match.start(), (match[1],)) for match in _IN_BRACKETS.finditer(text)]
    for places in statements(text, _ANNOUNCED):
        yield [reading for place in places if (reading := _read(place))]
    options = option_verdicts(text)
    if options.right:
        yield [ReadPlace(options.right[0], (options.right[1],))]
    yield [
        ReadPlace(match.start(), (match[1],), _is_concluded(text, match))
        for pattern in CHOSEN
        for match in pattern.finditer(text)
        if match.start(1) not in options.repeated
        and _is_meant(text, match)
        and not (is_cut_off and match.end(1) == len(text))
    ]
    if len(text) < _FEW_CHARS and _BROKEN_OFF.search(text):
        return
    head = _HEAD.match(text)
    if head and (options.judged > 1 or len(set(_NAMED_FIRST.findall(text))) > 1):  # as in `Option A: … Option B: …`
        return
    if head and not _DENIED_IN_LINE.match(text, head.end()) and not _DENIED.match(text, head.end()):
        yield [ReadPlace(head.start(), (head[1] or head[2],))]
    if not is_cut_off and (mark := _last_named(text)):
        yield [ReadPlace(len(text), (mark,))]


def _is_concluded(text: str, match: re.Match[str]) -> bool:
    """Return whether a letter is called right in a clause that draws a conclusion."""
    return bool(_CONCLUDES.search(_CLAUSES.split(text[max(0, match.start() - 80) : match.start(1)])[-1]))


def _is_meant(text: str, match: re.Match[str]) -> bool:
    """Return whether a letter is called right: it is neither denied, nor the end of a name, nor only supposed."""
    if match[0][0] in "→⇒":
        return True
    before = text[max(0, match.start() - 80) : match.start()]
    if (
        match.start(1) == match.start()
        and (name := _WORD_BEFORE.search(before))
        and not _BEFORE_OPTION.fullmatch(name[1])
    ):
        return False
    if _SUPPOSED.search(_CLAUSES.split(before)[-1]) or _NOT_AT_END.search(before) or _DENIED.match(text, match.end(1)):
        return False
    if _WOULD.search(text, match.start(1), match.end() + 10) and _CONDITION.search(_SENTENCES.split(before)[-1]):
        return False
    return not _JOINED.search(text[max(0, match.start(1) - 30) : match.start(1)])


def _read(place: StatedPlace) -> ReadPlace[str] | None:
    """Return the letters that are named at a statement. None if there are none, or if they are denied."""
    links = _LINKS.match(place.text)
    at = links.end() if links else 0
    while at and place.text[at - 1] in "([{<\"'“‘「【":
        at -= 1
    named = _LETTERS.match(place.text, at)
    if not named:
        return None
    names, end = _MARKS.findall(named[0]), named.end()
    is_denied = bool(_DENIED.match(place.text, end))
    if is_denied and len(names) > 1:  # the last one is
        names, is_denied = names[:-1], False
    says_more = _MARKS.match(place.text, end - 1) and _SUBJECT.match(place.text, end)
    is_subject = _DIRECT.fullmatch(place.text, 0, at) and (says_more or _COPULA.match(place.text, end))
    if (
        is_denied or is_subject or _ASKED.match(place.text, end) or _IF.match(place.text, end)
    ):  # of `answer A is …`, see CHOSEN
        return None
    if _NEGATION.search(place.text, 0, at):
        other = _BUT.match(place.text, end)
        return ReadPlace(place.start, (other[1],), place.is_final) if other else None
    return ReadPlace(place.start, tuple(dict.fromkeys(names)), place.is_final)


def _last_named(text: str) -> str | None:
    """Return the letter of the last line or sentence, if that is short and chooses one only by naming it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return None
    labels = [match for line in lines if (match := _LABEL.match(line))]
    label = _LABEL.match(lines[-1])
    is_labelled = {match[1] for match in labels} == set(_MARKS.findall(lines[-1]))
    if label and is_labelled and not _DENIED_IN_LINE.match(lines[-1], label.end()):
        return label[1]
    sentence = after_retraction(_SENTENCES.split(lines[-1])[-1])
    named: set[str] = set(re.findall(CAPITAL, sentence))
    if len(named) != 1 or _UNCERTAIN.search(sentence) or not _FINISHED.search(sentence):
        return None
    return named.pop() if _NAMES_ONLY.fullmatch(sentence) or _AS_OPTION.search(sentence) else None
