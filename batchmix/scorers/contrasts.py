"""Takes the letters that an answer denies out of it, so that those that are left are the ones it speaks for.

The texts are those of `letter_marks`. `not A but B`, `B, not A` and `A is worse than B` all become what they say of B.
"""

from __future__ import annotations

import re

from batchmix.scorers.answer_words import (
    BESIDE,
    BUT,
    COPULAS,
    DENIED_BEHIND,
    DENIES,
    INSTEAD,
    LINKS,
    NOT,
    OPTIONS,
    REJECTED,
    UNTRUE,
    WRONG,
    any_word,
)
from batchmix.scorers.late_pattern import late_pattern
from batchmix.scorers.letter_marks import MARK

_OPEN, _CLOSE = r"[(\[{<\"'“‘「【]{0,2}", r"[)\]}>\"'”’」】]{0,2}"
_NO_MARK = "[^\ue000-\ue1ff.!?;\n。！？；]"
_NO_COMMA = "[^\ue000-\ue1ff.!?;:,\n。！？；，、]"
_OPTION = rf"(?:{any_word(OPTIONS + '|response|assistant|model')}[ \t]{{0,2}})?"
_FILLERS = rf"(?:(?:{any_word(f'{LINKS}|actually|really|me|I|it|las?|los?|un|eine?|sim|sì|là|be')})[ \t]{{0,2}}){{0,3}}"
_ONE = rf"{_OPEN}{_OPTION}{_OPEN}{MARK}{_CLOSE}"
_ADVERBS = rf"(?:{any_word('clearly|very|highly|quite|much|far|also|simply|obviously|therefore|thus|rather|definitely|slightly|a bit|a little|somewhat|likely|deutlich|eindeutig|bien|mucho|muito|molto|явно')}[ \t]{{0,2}}){{0,2}}"
_BETTER = r"better|superior|preferable|stronger|more \w+|preferred|closer|clearer|besser|meilleure?|mejor|melhor|migliore|лучше|supérieure?|beter|bättre|lepsza|daha iyi"
_WORSE = r"worse|inferior|weaker|less \w+|poorer|schlechter|pire|moins \w+|peor|menos \w+|pior|peggiore|хуже|slechter"
_THAN = r"than|to|over|als|que|di|do que|чем|dan|än|niż"


def _pattern(text: str) -> re.Pattern[str]:
    return late_pattern(text, re.IGNORECASE)


_COMPARED = tuple(
    (_pattern(before), form)
    for before, form in (
        (rf"(?<!\w)(?:prefer|preferred|favou?r|bevorzuge|préfère|prefiero|prefiro|preferisco|предпочитаю)[ \t]{{1,2}}{_FILLERS}{_OPEN}{_OPTION}{_OPEN}({MARK}){_CLOSE}(?:\s(?:to|over|rather than|gegenüber|vor|à|a|перед)[ \t]{{1,2}}{_FILLERS}{_ONE})?", r"I choose \1"),
        (rf"({MARK}){_CLOSE}\s(?:{COPULAS}|seems|looks|appears|gives|provides|offers|has)\s{_FILLERS}{_ADVERBS}(?:{_BETTER})(?=\W){_NO_MARK}{{0,60}}?\s(?:{_THAN})\s{_FILLERS}{_ONE}", r"\1 is better"),
        (rf"{MARK}{_CLOSE}\s(?:{COPULAS}|seems|looks|appears)\s{_ADVERBS}(?:{_WORSE})(?=\W){_NO_MARK}{{0,60}}?\s(?:{_THAN})\s{_FILLERS}{_OPEN}{_OPTION}{_OPEN}({MARK}){_CLOSE}", r"\1 is better"),
        (rf"({MARK}){_CLOSE}\s(?:(?:clearly|slightly|easily)\s)?(?:beats|outperforms|surpasses|wins (?:over|against)|is preferred over)\s{_FILLERS}{_ONE}", r"\1 is better"),
        (rf"(?<!\w)(?:all|every(?:thing| \w+))\b{_NO_MARK}{{0,40}}?{any_word(WRONG)}{_NO_MARK}{{0,20}}?\s(?:except|but|save)(?: for)?\s{_OPEN}{_OPTION}{_OPEN}({MARK}){_CLOSE}", r"\1 is correct"),
        (rf"(?<!\w)(?:all|every(?:thing| \w+))\b{_NO_MARK}{{0,30}}?\s(?:except|but|save)(?: for)?\s{_OPEN}{_OPTION}{_OPEN}({MARK}){_CLOSE}\s(?:is|are|can be|have been|has been)\s(?:clearly\s)?{any_word(WRONG)}", r"\1 is correct"),
        (rf"\A\W*{_OPTION}({MARK})[ \t]?>{{1,2}}[ \t]?{MARK}\W*\Z", r"\1"),
        (rf"\A\W*{_OPTION}{MARK}[ \t]?<{{1,2}}[ \t]?({MARK})\W*\Z", r"\1"),
        (rf"{MARK}{_CLOSE}\s{_NO_MARK}{{0,80}}?(?:doesn't|does not|isn't|is not){_NO_MARK}{{0,60}}[.;,]\s(?:(?:only|but|while|whereas|and)\s)?{_OPTION}({MARK}){_CLOSE}\s(?:does|is)(?=[.!;]|\s*\Z)", r"\1 is correct"),
        (rf"{MARK}{_CLOSE}\s(?:looks|seems|appears|sounds|may be|is)\s{_NO_COMMA}{{1,40}},?\s(?:but|yet|though)\s(?:only\s)?{_OPTION}({MARK}){_CLOSE}\s(?:does|is)(?=[.!;]|\s*\Z)", r"\1 is correct"),
        (rf"{MARK}{_CLOSE}\s(?:{COPULAS}|looks|seems|sounds)\s{_NO_COMMA}{{1,40}},?\s(?:but|yet|though)\s(?:it|that|this)\s(?:(?:does not|doesn't|fails to)\s(?:answer|address)|(?:is not|isn't)\s(?:what|relevant|the question))", "§"),
        (rf"({MARK})[ \t]?比[ \t]?{MARK}[ \t]?(?:更|要|回答得?)?[ \t]?(?:好|优|准确|合适|强|佳)", r"\1 is better"),
    )
)  # fmt: skip
_UNTRUE_PLURAL = r"falsche?n?|fausses|faux|fals[ao]s|errad[ao]s|sbagliat[ei]|errat[ei]|incorrectes|incorrect[ao]s|scorrett[ei]|неверны|неправильны|onjuist"
_NOT = any_word(NOT)
_NOT_BUT = _pattern(
    rf"{_NOT}[ \t]{{0,3}}{_FILLERS}{_ONE}[ \t]?(?:[,;][ \t]?)?(?:(?:{any_word(BUT)}|而是|但是|[,;][ \t]?(?:it's|it is|es|c'est))[,\s]{{0,2}}{_FILLERS})(?={_ONE})"
)
_NOT_AFTER_BUT = _pattern(
    rf"{_ONE}[ \t]?(?:ではなくて?|じゃなくて?|でなく|[이가]? ?아니라|नहीं(?:[ \t]?है)?[ \t]?,?[ \t]?बल्कि|değil[ \t]?,?(?:[ \t]?(?:aksine|bilakis))?)[ \t]?(?={_ONE})"
)
_BUT_NOT = _pattern(
    rf"(?<=[\ue000-\ue1ff])({_NO_MARK}{{0,30}}?)[,(\s]{{0,3}}(?:(?:{any_word('and|but|und|et|y|e|и|а|en')}|而)[ \t]?)?(?:{_NOT}|{any_word(INSTEAD)}|而?不[选是])[ \t]{{0,3}}{_FILLERS}(?:{_ONE}|(?:[^\W\d_][\w'-]*\s){{1,3}}{MARK}\))(?![ \t]?(?:{any_word(BUT)}))"
)
_DENIED_LIST = _pattern(
    rf"{_ONE}(?:(?:\s?[,、]\s?(?:{any_word(BESIDE)}\s)?|\s?(?:{any_word(BESIDE)}|to|through|bis|[àa-]|[–和与及])\s?){_ONE}){{1,5}}(?:\s?(?:{any_word('all|both|are|is|do|sind|sont|son|sono|são|están|estão|zijn|alle|beide|todas|tutte|toutes')}|[都均也皆]|是|很?明显))*+"
    rf"(?:\s[^\W\d\ue000-\ue1ff]{{1,12}})?\s?(?:{any_word(f'{UNTRUE}|{_UNTRUE_PLURAL}|not|nicht|pas|niet|non|não')}|不[对正]|错)"
)
"""Several letters of which a clause says that they are wrong."""
_NAMED_BEFORE = _pattern(rf"[\"'“„«‘][^\"'”“»’\n\ue000-\ue1ff]{{1,80}}[\"'”“»’]\s(?={MARK}\))")
"""The text of an option in front of its letter, as in `"Oslo" (B)`."""
_ASIDE = _pattern(
    rf",\s(?:{any_word('however|therefore|thus|then|though|in fact|of course|jedoch|hingegen|dagegen|also|donc|cependant|en revanche|sin embargo|por tanto|entonces|quindi|invece|però|portanto|porém')}),(?=\s)"
)
_DENIED_BEFORE = _pattern(
    rf"(?:{any_word(REJECTED)}|不(?:可能)?是|不会是|不选|排除|不同意|不认为|不觉得){_NO_COMMA}{{0,40}}?(?:,\s(?:dass|что|że)\s{_NO_COMMA}{{0,20}}?)?{_ONE}"
)
_DENIED_AFTER = _pattern(
    rf"{_ONE}[\s,]{{0,2}}(?:{any_word(COPULAS)}[ \t]{{0,2}})?{_ADVERBS}(?:{any_word(DENIES)}(?![ \t]?(?:{WRONG}))"
    rf"|{DENIED_BEHIND})"
)


def without_denied(text: str) -> str:
    """Return a text in which comparisons say only what they prefer, and from which denied letters are gone."""
    text = _ASIDE.sub("", _NAMED_BEFORE.sub("", text))
    for pattern, form in _COMPARED:
        text = pattern.sub(form, text)
    text = _NOT_AFTER_BUT.sub("", _NOT_BUT.sub("", text))
    text = _BUT_NOT.sub(r"\1", text)
    return _DENIED_AFTER.sub("§", _DENIED_BEFORE.sub("§", _DENIED_LIST.sub("§", text)))
