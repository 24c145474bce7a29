"""The forms in which an answer names a letter, and those in which it calls one right or chosen.

The texts are those of `letter_marks`.
"""

from __future__ import annotations

import re

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
    SUPPOSED,
    WRONG,
    any_word,
)
from batchmix.scorers.late_pattern import late_pattern
from batchmix.scorers.letter_marks import CAPITAL, MARK

OPEN, CLOSE = r"[(\[{<\"'“‘「【]{0,3}", r"[)\]}>\"'”’」】]{0,3}"
OPTION = rf"(?:{any_word(OPTIONS)}\s{{0,3}})?"
JUNK = r"[^\w?✗✘❌✕×🚫👎\ue000-\ue1ff]{0,12}+"
ASIAN_AND = "和|与|與|及|以及|或者?|と|または|와|과|또는"
AND = rf"(?>[ \t]{{0,3}}(?:[,/&+|、]\s?(?:{any_word(BESIDE)})?|{any_word(BESIDE)}|{ASIAN_AND})[ \t]{{0,3}}|[ \t]?)"
ONE = rf"{OPEN}{OPTION}{OPEN}({MARK}){CLOSE}"
IS = (
    rf"[ \t]{{0,3}}(?:{any_word(f'{COPULAS}|seems|appears|selected|{OPTIONS}')}[ \t]{{0,3}}"
    r"|[:=(,–—-][ \t]{0,3}){0,3}"
)
_RELATIVE = (
    r"(?:, (?:which|that) [^,.;\n\ue000-\ue1ff]{0,80},)?\s{0,2}"
    r"(?:alone\s|is the (?:only )?(?:one|option) (?:that|which)\s)?"
)
_CHECKED = "[✓✔✅☑]"

_CLAUSE_END = r"\s*(?:[.,;:!)\n。，、！；]|\Z|です|だ|입니다)"


def letter_pattern(text: str, flags: int = 0) -> re.Pattern[str]:
    """Return a pattern that disregards case."""
    return late_pattern(text, re.IGNORECASE | flags)


_HENCE = (
    f"{FINAL}|it is|it's|it must be|it has to be|that is|that's|this is|definitely|clearly|actually"
    r"|es ist(?: die)?|das ist|nein,?(?: doch)?|c'est(?: la)?|아니|いや|不对|正しいのは|正解は"
    r"|(?:which |that |this )?leav(?:es|ing)(?: only| us with)?|bleibt(?: nur)?|es la|è la|é a(?: letra)?"
    r"|reste|il reste|resta|это|dann|entonces|alors|应该是|应是|就是|所以是|而是"
)
_PREFIXED = (
    f"nur|only|allein|einzig|hier|here|daher|somit|die|der|das|la|le|el|il|a|o|as|the|one|in|ist|es|è|é|est|sólo|solo"
    f"|{OPTIONS}|{ANSWERS}"
)
"""Words between `right` and the letter that it is said of."""
_TRAPS = "trap|mistake|error|problem|issue|flaw|competitor|contender|rival|doubt|least|worst|common|popular|runner"
_NO_TRAP = rf"(?!(?:{SUPPOSED}|{NOT}|{_TRAPS})\b)"
_NO_SUPERLATIVE = "rest|test|request|interest|guest|least|worst|erste|letzte|fast"
_SUPERLATIVE = (
    rf"(?:the|its|der|die|das|den|het|de)\s(?:(?:most|only)\s{_NO_TRAP}[^\W\d]+"
    rf"|{_NO_TRAP}(?!{_NO_SUPERLATIVE})[a-zäöü]{{2,30}}st(?:e[rs]?)?)"
    r"|comes closest"
    r"|(?:la|le|el|il|quella|a|o)\s(?:(?:réponse|respuesta|risposta|resposta|opción|opzione|opção)\s(?:la\s)?)?"
    r"(?:más|plus|più|mais)\s[^\W\d]+"
)
CHOSEN = (
    letter_pattern(rf"[→⇒]\s?{OPTION}{OPEN}({CAPITAL}){CLOSE}[.!]?\s*\Z"),
    letter_pattern(
        rf"(?<!\w)(?:only|nur|(?:seule?|sólo|solo|somente|apenas|soltanto)(?:\s(?:la|l'|a|le|el|il|o))?)\s{OPTION}{OPEN}({CAPITAL}){CLOSE}"
        rf"\s(?:is|has|can|gives|contains|meets|describes|makes|ist|hat|est|es|é|è|{FITS})\s(?!(?:[^\W\d]+\s){{0,2}}?{any_word(WRONG)})(?![^\n]{{0,40}}\?)"
    ),
    letter_pattern(rf"(?:只有|唯有)\s?({CAPITAL})(?![和、与]|项?(?:错|不))"),
    letter_pattern(rf"(?m:^)[^\w\n\ue000-\ue1ff]{{0,3}}{_CHECKED}[ \t]{{0,3}}{OPTION}{OPEN}({CAPITAL})"),
    letter_pattern(
        rf"{any_word(NOT)}\s(?:{any_word(LINKS)}\s){{0,3}}{OPTION}{OPEN}{CAPITAL}{CLOSE}[\s,;]{{1,3}}(?:{any_word(BUT)})"
        rf"\s{{1,3}}(?:{any_word(LINKS)}\s{{1,3}}){{0,4}}{OPTION}{OPEN}({CAPITAL})"
    ),
    letter_pattern(
        rf"({CAPITAL}){CLOSE}{IS}(?:{any_word('the|die|der|das|la|le|el|il|o|a|most|only|one|clearly|definitely|therefore')}\s{{0,3}}){{0,3}}(?:{any_word(f'{CORRECT}|{ANSWERS}|better|yes|winner|it')}"
        rf"(?=\s*(?:[.,;:!)\n。，]|\Z|because|since|as|for|{OPTIONS}|{ANSWERS}|one|choice|입니다|です))"
        rf"|(?:{CORRECT}|{ANSWERS})(?![ ](?:if|unless|wenn|si)\b)|{_CHECKED})"
    ),
    letter_pattern(
        rf"{any_word(f'{CORRECT}|stimmt|trifft|passt|klopt')}[ \t]"
        rf"(?:{any_word(_PREFIXED)}[ \t]){{0,4}}{OPEN}({CAPITAL}){CLOSE}"
        rf"(?={_CLAUSE_END}|\s(?:zu|because|since|weil|porque|car)\b)"
    ),
    letter_pattern(
        rf"(?<!\w)(?:{any_word(_SUPERLATIVE)})\s(?:{_NO_TRAP}[^\W\d]+\s){{0,3}}?(?:{any_word(COPULAS)}\s){{1,2}}(?:{any_word(_PREFIXED)}\s){{0,4}}{OPEN}({CAPITAL}){CLOSE}"
        rf"(?={_CLAUSE_END}|\s(?:because|since|as|for|even|although|though)\b)"
    ),
    letter_pattern(
        rf"(?<!\w)(?:one|statement|option)\s(?:that|which)\s(?:is|does|are)\s(?:not|false)\s(?:[^\W\d]+\s){{0,3}}is\s{OPEN}({CAPITAL}){CLOSE}(?={_CLAUSE_END})"
    ),
    letter_pattern(
        rf"(?<!\w){OPTION}({CAPITAL}){CLOSE}{_RELATIVE}(?:"
        rf"{any_word(FITS)}|[项項]?(?:正确|正確|符合)|が正し|[가이은는]?\s?맞)(?=\W|\Z|い|[습아])"
        r"(?!\s(?:only )?(?:if|when|unless|wenn|falls)\b)"
    ),
    letter_pattern(
        rf"(?m:^)[^\w\n\ue000-\ue1ff]{{0,6}}{OPTION}({CAPITAL})(?:[).:\]]|\s?[|–—-])[^\n\ue000-\ue1ff]{{0,200}}?[\s(:–—→|-](?:{any_word(f'{CORRECT}|yes')}|{_CHECKED})[^\w\n\ue000-\ue1ff]{{0,4}}(?:\n|\Z|(?<=\|))"
    ),
    letter_pattern(
        rf"(?<!\w)(?:{CHOOSE})\s{{0,3}}(?:{any_word(f'{LINKS}|with|for')}\s{{0,3}}|:\s{{0,3}}){{0,4}}{OPEN}({MARK})(?!{CLOSE}{AND}{OPEN}{CAPITAL}{CLOSE}(?!\s*(?:{any_word(COPULAS)})))(?!{CLOSE}\s*\?)"
    ),
    letter_pattern(
        rf"(?:{any_word(_HENCE)}|(?<=[.!?…,;:]\s)(?:no|non|нет),)[\s,、:]{{0,3}}(?:{any_word(LINKS)}\s{{0,3}}){{0,4}}{OPEN}({CAPITAL}){CLOSE}"
        rf"(?={_CLAUSE_END}|\s+(?:it is|because|since|as|for|rather|instead))"
    ),
)
"""What says that a letter is the answer."""
