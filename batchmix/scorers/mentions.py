"""Takes those mentions of a text out of an answer that do not state it: it is denied, asked, or one of several."""

from __future__ import annotations

import re

from batchmix.scorers.answer_words import (
    ANSWERS,
    CANNOT,
    COPULAS,
    CORRECT,
    DENIED_BEHIND,
    INSTEAD,
    LINKS,
    NOT,
    OR,
    REJECTED,
    RETRACTED,
    SUPPOSED,
    UNTRUE,
    any_word,
)
from batchmix.scorers.late_pattern import late_pattern
from batchmix.scorers.own_words import without_quoted_lines

_MOST_MENTIONS = 100
"""The mentions that are looked at. Of more, the first and the last ones."""
_AROUND_CHARS = 160
_SENTENCE_END = re.compile(r"(?<!\b[A-Za-z])[.!?]+[\"')\]*]*(?=\s)|[。！？\n]")
_NEXT = r"[^.,;:!?\n]{0,40}"
_FILLERS = rf"(?:(?:{any_word(f'{LINKS}|in|at|by|be|from|really|actually|called|known as|it')})\s){{0,4}}"
_NO_DOUBT = r"(?<!no )(?<!any )(?<!without )(?<!kein )"
_CLOSE = r"[\"')\]*_`]{0,4}"
_OPEN = r"[\"'(\[*_`]{0,4}"
_WORD = r"[^\W_][\w.'’&-]*"
_NO_TERM = any_word("which|where|who|with|as|but|so|because|since|in|is|are|was|has|have|the|a|an|it|not|also")
_NOT_ONLY = r"(?!\s(?:only|just|merely|solely|far|nur|solo|sólo|seulement|apenas|только)\b)"
_TERM = rf"(?!{_NO_TERM}|more or less){_WORD}(?:\s(?!{_NO_TERM}|(?:{OR})\s){_WORD})?"
_APPOSED = r"so\b|not\b|rather\b|otherwise\b|something\b|whatever\b|even\b|at least\b|better\b|more precisely\b"
_THE = r"the\b|an?\b|die\b|der\b|das\b"
_CJK_OR = "或者?|还是|還是|または|もしくは|또는"
_HEDGE = any_word(
    "maybe|perhaps|possibly|(?:could|might|may|can)(?: also)? be|vielleicht|könnte|peut-être|quizás|forse|talvez|можно|может быть|可能是?|也许是?"
)
_SAY = r"say|says|said|think|thinks|thought|believe|believed?|claim|claimed|answer|guess|guessed|assumed?|argue"


def _pattern(text: str) -> re.Pattern[str]:
    return late_pattern(text, re.IGNORECASE)


_DENIED_BEFORE = _pattern(
    rf"(?:{_NO_DOUBT}{any_word(NOT)}{_NOT_ONLY}\s{_FILLERS}"
    rf"|{any_word(NOT)}{_NOT_ONLY}\s(?:{_WORD}\s){{0,3}}(?:by|from|von|vom|par|por|da|door|av|af|от)\s(?:(?:the|der|dem|la|le|el|il)\s)?"
    rf"|\b(?:no longer|nicht mehr|ya no|non più|больше не)\s{_FILLERS}|(?:不是|不会是|不可能是|并不是|并非|而非)\s?"
    rf"|{_NO_DOUBT}{any_word(REJECTED)}(?:(?!\b(?:but|because)\b)[^.,;:!?\n]){{0,40}}"
    rf"|(?:(?!over\b){any_word(INSTEAD)}|\b(?:(?:any|every)thing but|all but|except(?: for)?|unlike|other than|apart from|außer|sauf|excepto|salvo|кроме)|除了)\s?{_FILLERS}"
    rf"|\b(?:whether|ob)\b{_NEXT}|是否(?:是)?"
    rf"|(?:{CANNOT}){_NEXT})[\s\"'(*]{{0,4}}\Z"
)  # fmt: skip
_ADVERBS = (
    r"(?:(?:a|an|the|also|clearly|definitely|common|commonly|frequently|often|usual|simply|therefore|just)\s){0,3}"
)
_DENIED_AFTER = _pattern(
    rf"{_CLOSE}(?:\s(?:{any_word(COPULAS)}\s)?(?:{any_word('definitely|clearly|certainly|also')}\s)?"
    rf"{any_word('not|isn' + chr(39) + 't|wasn' + chr(39) + 't|nicht|no|non|pas|não|не|niet')}"
    rf"(?:\s?[.,;:!]|\s?\Z|\s(?:the\s(?!\w+est\b|only\b|most\b|same\b|first\b)|it\b|(?:das|die|der|le|la|el|il|a|an|o|quite)?\s?(?:{CORRECT}|{ANSWERS})\b))"
    rf"|\s(?:war|ist|sind)\s(?:es|das)\s(?:\w+\s)?nicht\b"
    rf"|\s?{any_word(COPULAS)}\s?{_ADVERBS}{any_word(UNTRUE + '|misconception|mistake|mistaken for|confused with|myth|distractor|trap|guess')}"
    rf"|\s(?:didn't|did not|doesn't|does not|hasn't)\s\w+\s(?:it|that|this|them|so)\b"
    rf"|{DENIED_BEHIND}|(?:では|じゃ)なくて?|[이가]\s?아니라|不是|不对)"
)  # fmt: skip
_ASKED_AFTER = _pattern(rf"{_CLOSE}(?:\s{_WORD}){{0,2}}{_CLOSE}\s?[?？]")
_ASKS = _pattern(
    r"\W*(?:(?:\w+\s){0,3}:\s)?(?:so |and |but |or )?(?:is|are|was|were|does|do|did|could|can|may|might|would|should|why not|ist|sind|est-ce|¿)\b"
)
_RETRACTED_AFTER = _pattern(
    rf"{_CLOSE}(?:[\s.…,;!—–-]{{1,6}}(?:{RETRACTED})(?:(?<=[,.:!…])|\s?[,.:!…—-])(?=\W+\w)"
    r"|.{0,200}\b(?:scratch that|strike that|wait,? no\b|correction:|(?:that|it)(?:'s| is| was) (?:not right|wrong|incorrect))|.{0,100}(?:不对|错了))"
)
_THOUGHT = _pattern(
    rf"{any_word(SUPPOSED)}|\b(?:some|others|many|most|they|people|students|you|he|she)\b(?:\s\w+){{0,2}}\s(?:{_SAY})\b"
)
_CONTRAST = _pattern(
    any_word("but|however|though|although|aber|doch|mais|pero|mas|ma|но|in fact|in reality") + "|但|其实"
)
_CONCEDES = _pattern(any_word("while|although|though|contrary|obwohl|bien que|aunque|хотя") + "|虽然")
_BACK = _pattern(
    rf"\s*(?:{any_word('but|however|actually|in fact|in reality|tatsächlich|en fait|en realidad|на самом деле')}|但|其实|实际上)"
)
_YES = _pattern(rf"\s*(?:{any_word('yes|yep|correct|right|exactly|ja|genau|oui|sí|sim|да')}|是的|はい)")
_LIST = rf"(?:,\s?{_TERM}){{1,6}},?\s(?:{OR})\s(?!{_APPOSED})"
_OR_AFTER = _pattern(
    rf"{_CLOSE}(?:\s(?:{OR})\s(?!{_APPOSED}|less\b)|,\s(?:{OR})\s(?!{_APPOSED}|{_THE})|{_LIST}|\s/\s|\s?(?:{_CJK_OR})"
    rf"|、[^、。\s]{{1,12}}(?:{_CJK_OR}))"
)
_OR_BEFORE = _pattern(
    rf"(?:(?:^|(?<=\W))(?:{OR})\s(?:(?:the|an?|in|maybe|perhaps|possibly|even|die|der|das|la|le|el|il)\s){{0,2}}{_OPEN}"
    rf"|\w{_CLOSE}\s/\s{_OPEN}|(?:{_CJK_OR})\s?"
    rf"|\b(?:(?:candidates|options|choices|possibilities|possible (?:answers|solutions))(?:\s(?:are|include|were))?(?=[:\s])|one of|between|either|among|any of|zwischen|entweder|entre|soit)(?!\s(?:its|our|my|his|their|those|these)\b|\sthe\s\w+\s(?:\w+\s)?(?:in|of)\b)"
    rf"[:\s]{{1,2}}(?:{_TERM}(?:,\s?|\s))*(?:(?:and|und|et|y|e|&)\s)?{_OPEN})\Z"
)
_PORTUGUESE = _pattern(any_word(r"é|são|não|foi|foram|será|seria|uma?|em|ao|do|pelo|ou|os|as|\w+ção"))
_O = _pattern(r"(?<!\w)o\s")
_ARTICLE_O = _pattern(r"(?:\A\W*|(?<=\bera\s)|(?<=\beram\s)|(?<=\bser\s)|(?<=\bsido\s)|(?<=\bcom\s))o\s")
"""The Portuguese article, which is `or` in Spanish and Italian."""
_SLASHED_BEFORE, _SLASHED_AFTER = (
    _pattern(rf"\W*(?:{_TERM}\s?/\s?)*\W*"),
    _pattern(rf"\W*(?:\s?/\s?{_TERM})*\W*"),
)
_HEDGES = _pattern(_HEDGE)
_ALSO = _pattern(any_word("also|too|auch|aussi|también|também|anche|также|也"))
_HEDGED = _pattern(rf"{_HEDGE}\s?(?:{_WORD}\s){{0,2}}{_OPEN}\Z")
_POSITIVE, _NEGATIVE = (
    "(?:yes|true|right|ja|wahr|oui|vrai|sí|si|sim|sì|да)",
    "(?:no|false|wrong|nein|falsch|non|faux|não|нет)",
)
_AND = r"\s(?:and|und|et|y|e|и)\s"
_BOTH = rf"\b(?:{_POSITIVE}{_AND}{_NEGATIVE}|{_NEGATIVE}{_AND}{_POSITIVE})"
_OPPOSITES, _OPPOSITES_END = _pattern(rf"{_BOTH}\b"), _pattern(rf"{_BOTH}\Z")
_IN_NAME_AFTER, _IN_NAME_BEFORE = re.compile(r"\.(?:[a-z]{1,10}(?!\w)|[A-Z]{3})"), re.compile(r"[A-Za-z]\.\Z")
"""What is around a part of a name with a point in it, such as `node.js`."""
_WORD_START, _WORD_END = re.compile(r"(?<!\w)"), re.compile(r"(?!\w)")
_LINK = re.compile(r"(?<=\])\([^()\s]{1,300}\)")
"""The address of a link, behind its text."""
_ANNOUNCED = _pattern(
    rf"(?m:^)\W{{0,4}}(?:(?:final|correct|my|the)\s){{0,2}}(?:{ANSWERS})\W{{0,3}}[:：]\W{{0,4}}(?=\w)"
)
_EXPLAINED = _pattern(
    r"\n\W{0,4}(?:explanation|reasoning|rationale|reason|why|note|because|erklärung|begründung|explication|explicación)\W{0,3}:"
)


def meant(text: str, wanted: str) -> str:
    """Return an answer without those mentions of a text that do not state it.

    These are denied, taken back, asked, only thought at first, or named among others of which one can be right. Where
    the answer announces its result in a line, what stands in front is left out.
    """
    stated = _stated(text)
    mentions = _mentions(stated, wanted)
    if len(mentions) > _MOST_MENTIONS:
        mentions = mentions[: _MOST_MENTIONS // 2] + mentions[-_MOST_MENTIONS // 2 :]
    kept, at = [], 0
    for start in mentions:
        if not _is_meant(stated, start, start + len(wanted)):
            kept.append(stated[at:start])
            at = start + len(wanted)
    return "§".join([*kept, stated[at:]])


def _mentions(text: str, wanted: str) -> list[int]:
    """Return where a text is named, in any case."""
    text, wanted = _same_length(text), _same_length(wanted)
    found, at = [], text.find(wanted) if wanted else -1
    while at >= 0:
        if not wanted.isascii() or (_WORD_START.match(text, at) and _WORD_END.match(text, at + len(wanted))):
            found.append(at)
        at = text.find(wanted, at + len(wanted))
    return found


def _same_length(text: str) -> str:
    """Return a text in lower case, in which each sign stands at the place where it was."""
    lower = text.lower()
    return lower if len(lower) == len(text) else text


def _stated(text: str) -> str:
    text = without_quoted_lines(_LINK.sub("", text))
    announced = [*_ANNOUNCED.finditer(text)]
    if not announced:
        return text
    text = text[announced[-1].end() :]
    explained = _EXPLAINED.search(text)
    return text[: explained.start()] if explained else text


def _is_meant(text: str, start: int, end_of_mention: int) -> bool:
    mention = text[start:end_of_mention]
    before = text[max(0, start - _AROUND_CHARS) : start]
    before = _SENTENCE_END.split(before)[-1]
    after = text[end_of_mention : end_of_mention + _AROUND_CHARS]
    end = _SENTENCE_END.search(after)
    sentence, rest = (after[: end.end()], after[end.end() :]) if end else (after, "")
    if _IN_NAME_AFTER.match(after) or (mention.islower() and _IN_NAME_BEFORE.search(before)):
        return False
    if _DENIED_BEFORE.search(before) or _DENIED_AFTER.match(sentence):
        return False
    if _OPPOSITES.match(f"{mention}{after}") or _OPPOSITES_END.search(f"{before}{mention}"):
        return False
    if _is_asked(before, mention, sentence) and not _YES.match(rest):
        return False
    if _RETRACTED_AFTER.match(after):
        return False
    is_opposed = _CONTRAST.search(sentence) or _CONCEDES.search(before.rsplit(",", 1)[-1]) or _BACK.match(rest)
    return not (is_opposed and _THOUGHT.search(before)) and not _is_one_of_several(before, sentence)


def _is_asked(before: str, mention: str, after: str) -> bool:
    """Return whether a mention is what a question asks for. A long one may itself be a question."""
    is_question = after.rstrip(" \n*\"')").endswith(("?", "？")) and not mention.endswith("?")
    return is_question and len(mention.split()) < 4 and bool(_ASKED_AFTER.match(after) or _ASKS.match(before))


def _is_one_of_several(before: str, after: str) -> bool:
    if _PORTUGUESE.search(f"{before} {after}"):
        before, after = _O.sub("", before), _O.sub("", after)
    before = _ARTICLE_O.sub("", before)
    if _OR_AFTER.match(after) or _OR_BEFORE.search(before):
        return True
    if "/" in before + after and _SLASHED_BEFORE.fullmatch(before) and _SLASHED_AFTER.fullmatch(after):
        return True
    return bool(_HEDGED.search(before)) and (len(_HEDGES.findall(f"{before} {after}")) > 1 or bool(_ALSO.search(after)))
