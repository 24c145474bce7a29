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
    CHOOSE,
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
from batchmix.scorers.late_pattern import late_pattern
from batchmix.scorers.letter_marks import CAPITAL, MARK, letter_of, marked, readable, same_letter
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

_OPEN, _CLOSE = r"[(\[{<\"'“‘「【]{0,3}", r"[)\]}>\"'”’」】]{0,3}"
_OPTION = rf"(?:{any_word(OPTIONS)}\s{{0,3}})?"
_JUNK = r"[^\w?✗✘❌✕×🚫👎\ue000-\ue1ff]{0,12}+"
_ASIAN_AND = "和|与|與|及|以及|或者?|と|または|와|과|또는"
_AND = rf"(?>[ \t]{{0,3}}(?:[,/&+|、]\s?(?:{any_word(BESIDE)})?|{any_word(BESIDE)}|{_ASIAN_AND})[ \t]{{0,3}}|[ \t]?)"
_ONE = rf"{_OPEN}{_OPTION}{_OPEN}({MARK}){_CLOSE}"
_IS = (
    rf"[ \t]{{0,3}}(?:{any_word(f'{COPULAS}|seems|appears|selected|{OPTIONS}')}[ \t]{{0,3}}"
    r"|[:=(,–—-][ \t]{0,3}){0,3}"
)
_RELATIVE = (
    r"(?:, (?:which|that) [^,.;\n\ue000-\ue1ff]{0,80},)?\s{0,2}"
    r"(?:alone\s|is the (?:only )?(?:one|option) (?:that|which)\s)?"
)
_CHECKED = "[✓✔✅☑]"
_CLAUSE_END = r"\s*(?:[.,;:!)\n。，、！；]|\Z|です|だ|입니다)"


def _pattern(text: str, flags: int = 0) -> re.Pattern[str]:
    return late_pattern(text, re.IGNORECASE | flags)


_ALONE = _pattern(rf"(?!.*[:：]\s*\Z)(?:[QA(]?\d{{1,4}}\s?[.):-])?{_JUNK}{_OPTION}{_JUNK}({MARK}){_JUNK}")
_SEVERAL = _pattern(rf"{_JUNK}(?>{_ONE})(?>{_AND}{_ONE})++{_JUNK}")
_IN_BRACKETS = _pattern(rf"\[({MARK})\]\]")
_ANNOUNCED = _pattern(
    rf"{any_word(ANSWERS)}|(?<!\w)(?:{CORRECT}|{OPTIONS})(?=[^\w\n\ue000-\ue1ff]{{0,3}}[:=][ \t]*[^\s\w])"
    rf"|(?<!\w)(?:{CORRECT})\s{{0,2}}的?(?:{OPTIONS})|(?<!\w)(?:{OPTIONS})(?=\s(?:{CORRECT})\s)"
)
_LINKS = _pattern(rf"(?:[\s:=>→⇒,\"'“”‘’「」(\[{{<|–—-]|\\|{any_word(LINKS)}|{any_word(NOT)})*+")
_DIRECT = _pattern(r"[\s(\[{<\"'“]*+")
_IF = _pattern(
    rf"{_CLOSE}\s(?:only\s)?{any_word('if|unless|wenn|falls|si|se|если')}|{_CLOSE}(?:ではなく|じゃなく|[가이]\s아니라)"
)
_SUBJECT = _pattern(
    rf"\s(?!{any_word(f'because|since|as|for|with|if|it|car|puisque|parce|weil|da|porque|ya|perché|потому|так|{COPULAS}|{FITS}|{BESIDE}|{CORRECT}|{WRONG}|{LINKS}')})[^\W\d_\ue000-\ue1ff]{{3}}"
)
"""Follows a letter that is the subject of a sentence, as in `la réponse B oublie`."""
_COPULA = _pattern(rf"{_CLOSE}\s{any_word(COPULAS)}\s\w")
_LETTERS = _pattern(rf"{_OPEN}{_OPTION}{_OPEN}{MARK}{_CLOSE}(?:{_AND}{_OPEN}{CAPITAL}{_CLOSE})*+")
_MARKS = _pattern(MARK)
_NEGATION = _pattern(any_word(NOT))
_BUT = _pattern(rf"[\s,;]{{0,3}}(?:{any_word(BUT)})\s{{0,3}}(?:{any_word(LINKS)}\s{{0,3}}){{0,4}}{_ONE}")
_DENIED = _pattern(
    rf"[ \t,]{{0,3}}(?:{_IS})(?:{any_word('definitely|clearly|also|obviously|simply')}\s{{0,3}})?"
    rf"(?:{any_word(WRONG)}(?!\s{{0,3}}{_OPTION}{_OPEN}{MARK})|[✗✘❌✕×])"
)
_DENIED_IN_LINE = _pattern(
    rf"[^\n.\ue000-\ue1ff]{{0,200}}?(?:(?<=[\s(:–—-])(?:{any_word(WRONG)})[^\w\n\ue000-\ue1ff]{{0,3}}(?:\n|\Z|because|since|as|:)|[✗✘❌✕×])"
)
_JOINED = _pattern(
    rf"{MARK}{_CLOSE}\s{{0,3}}(?:{any_word(BESIDE)}|[/&+]|{_ASIAN_AND})\s{{0,3}}{_OPEN}{_OPTION}{_OPEN}\Z"
)
_ASKED = _pattern(r"[)\]}\s\"'”]{0,5}\?")
_HENCE = (
    f"{FINAL}|it is|it's|it must be|it has to be|that is|that's|this is|definitely|clearly|actually"
    r"|es ist(?: die)?|das ist|nein,?(?: doch)?|c'est(?: la)?|아니|いや|不对|正しいのは|正解は"
    r"|(?:which |that |this )?leav(?:es|ing)(?: only| us with)?|bleibt(?: nur)?|es la|è la|é a(?: letra)?"
    r"|reste|il reste|resta|это|dann|entonces|alors|应该是|应是|就是|所以是|而是"
)
_CHOSEN = (
    _pattern(rf"[→⇒]\s?{_OPTION}{_OPEN}({CAPITAL}){_CLOSE}[.!]?\s*\Z"),
    _pattern(rf"(?:只有|唯有)\s?({CAPITAL})(?![和、与]|项?(?:错|不))"),
    _pattern(rf"(?m:^)[^\w\n\ue000-\ue1ff]{{0,3}}{_CHECKED}[ \t]{{0,3}}{_OPTION}{_OPEN}({CAPITAL})"),
    _pattern(
        rf"{any_word(NOT)}\s(?:{any_word(LINKS)}\s){{0,3}}{_OPTION}{_OPEN}{CAPITAL}{_CLOSE}[\s,;]{{1,3}}(?:{any_word(BUT)})"
        rf"\s{{1,3}}(?:{any_word(LINKS)}\s{{1,3}}){{0,4}}{_OPTION}{_OPEN}({CAPITAL})"
    ),
    _pattern(
        rf"({CAPITAL}){_CLOSE}{_IS}(?:{any_word('the|die|der|das|la|le|el|il|o|a|most|only|one|clearly|definitely|therefore')}\s{{0,3}}){{0,3}}(?:{any_word(f'{CORRECT}|{ANSWERS}|better|yes|winner|it')}"
        rf"(?=\s*(?:[.,;:!)\n。，]|\Z|because|since|as|for|{OPTIONS}|{ANSWERS}|one|choice|입니다|です))"
        rf"|(?:{CORRECT}|{ANSWERS})(?![ ](?:if|unless|wenn|si)\b)|{_CHECKED})"
    ),
    _pattern(
        rf"(?<!\w){_OPTION}({CAPITAL}){_CLOSE}{_RELATIVE}(?:"
        rf"{any_word(FITS)}|[项項]?(?:正确|正確|符合)|が正し|[가이은는]?\s?맞)(?=\W|\Z|い|[습아])"
    ),
    _pattern(
        rf"(?m:^)[^\w\n\ue000-\ue1ff]{{0,6}}{_OPTION}({CAPITAL})(?:[).:\]]|\s?[|–—-])[^\n\ue000-\ue1ff]{{0,200}}?[\s(:–—→|-](?:{any_word(f'{CORRECT}|yes')}|{_CHECKED})[^\w\n\ue000-\ue1ff]{{0,4}}(?:\n|\Z|(?<=\|))"
    ),
    _pattern(
        rf"(?<!\w)(?:{CHOOSE})\s{{0,3}}(?:{any_word(f'{LINKS}|with|for')}\s{{0,3}}|:\s{{0,3}}){{0,4}}{_OPEN}({MARK})(?!{_CLOSE}{_AND}{_OPEN}{CAPITAL}{_CLOSE}(?!\s*(?:{any_word(COPULAS)})))(?!{_CLOSE}\s*\?)"
    ),
    _pattern(
        rf"(?:{any_word(_HENCE)}|(?<=[.!?…,;:]\s)(?:no|non|нет),)[\s,、:]{{0,3}}(?:{any_word(LINKS)}\s{{0,3}}){{0,4}}{_OPEN}({CAPITAL}){_CLOSE}"
        rf"(?={_CLAUSE_END}|\s+(?:it is|because|since|as|for|rather|instead))"
    ),
)
_EXPLAINED = "(?:because|since|as(?! well)|only|rather|instead|i think|i believe|porque|weil|parce)\\b|因为"
_HEAD = _pattern(
    rf"(?:\d{{1,3}}[.):]\s)?{_JUNK}{_OPTION}{_OPEN}(?:({MARK})\s?(?:[)\]}}>.:]|\n)|({CAPITAL})(?:{_CLOSE}\s[-–—]|\s\((?!{CAPITAL}\s?\))|,\s(?!{_OPEN}{CAPITAL}{_CLOSE}\s?(?:,|\Z))|[–—]|\s(?={_EXPLAINED})))"
)
_NAMED_FIRST = _pattern(rf"{any_word(OPTIONS)}\s{{0,2}}({MARK}):")
_LABEL = _pattern(rf"[^\w\n\ue000-\ue1ff]{{0,9}}{_OPTION}{_OPEN}({MARK})(?:[).:\]]|\s?$)")
_UNCERTAIN = _pattern(rf"\?|{MARK}{_CLOSE}:\s*\w|{any_word(f'{NOT}|{WRONG}|{WEIGHED}|{SUPPOSED}')}|\.\.\.\Z|…\Z")
_PLAIN = any_word(PLAIN)
_WORD_BEFORE = re.compile(r"(?<![A-Za-z])([A-Za-z]{3,30})[ -]\Z")
_BEFORE_OPTION = _pattern(
    rf"{_PLAIN}|but|and|or|because|since|if|while|whereas|although|though|which|making|makes?|means?|shows?|proves?|says?|see|find"
    r"|both|neither|either|and|und|oder|aber|dass|weil|mais|donc|pero|porque|perché|mas|ma"
)
"""The words in front of a letter that do not make it a name, as `person` and `vitamin` do."""
_NAMES_ONLY = _pattern(rf"(?:{_PLAIN}|{MARK}|[^\w\ue000-\ue1ff]|项|項)*+")
"""A sentence that says nothing else but which letter it is."""
_AS_OPTION = _pattern(
    rf"(?:{any_word(OPTIONS)}\s{{0,2}}{_OPEN}{MARK}{_CLOSE}|"
    rf"(?:{MARK}[)\]]|[→⇒]\s?{MARK})|\|\s?{MARK}\s?\||\A[^:\n]{{1,40}}:\s{{0,3}}{_OPEN}{MARK}{_CLOSE})[.!。*|\s]{{0,4}}\Z"
)
"""A short sentence that ends with an option, as in `Paris (B)` or `Svar: B`."""
_FINISHED = _pattern(rf"(?:[.!。！;)|*]|{MARK}\W*)\Z")
_SENTENCES = re.compile(r"(?<=[.!?…;。！？；])\s+(?=\S)")
_CLAUSES = re.compile(r"[.!?;,:\n。！？；，]")
_NOT_AT_END = _pattern(rf"(?:{any_word(NOT)})[ \t]\Z")
_BROKEN_OFF = re.compile(r"[:：,，、=+×(]\s*\Z")
_FEW_CHARS = 40
"""A text as short as this that breaks off names a letter without choosing it."""
_CONCLUDES = _pattern(any_word(FINAL))
_WOULD = _pattern(any_word("would|could|might|wäre|serait|sería|seria|sarebbe"))
_CONDITION = _pattern(any_word("if|with|wenn|falls|bei|si|avec|se|con|com|если"))
_SUPPOSED = _pattern(any_word(f"{SUPPOSED}|{NOT}|{WEIGHED}"))
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
    yield [
        ReadPlace(match.start(), (match[1],), _is_concluded(text, match))
        for pattern in _CHOSEN
        for match in pattern.finditer(text)
        if _is_meant(text, match) and not (is_cut_off and match.end(1) == len(text))
    ]
    if len(text) < _FEW_CHARS and _BROKEN_OFF.search(text):
        return
    head = _HEAD.match(text)
    if head and len(set(_NAMED_FIRST.findall(text))) > 1:  # as in `Option A: … Option B: …`
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
    ):  # of `answer A is …`, see _CHOSEN
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
