"""Marks the letters in an answer that may be meant as options, so that patterns can tell them from words.

Each mark is one character for private use. A text that is marked has no emphasis and no LaTeX markup.
"""

from __future__ import annotations

import functools
import re
import unicodedata

from batchmix.scorers.answer_words import BESIDE, BUT, OPTIONS, any_word
from batchmix.scorers.late_pattern import late_pattern

_STRONG, _WEAK = 0xE000, 0xE100
"""The first marks of capital letters and of small ones. Small ones may be words, and count only where announced."""
CAPITAL, SMALL = "[\ue000-\ue0ff]", "[\ue100-\ue1ff]"
MARK = "[\ue000-\ue1ff]"
"""The patterns that match a mark."""
_OTHER_LETTERS = {
    **dict(zip("أبجده", "ABCDE", strict=True)),
    **dict(zip("АБСГДЕ", "ABCDEF", strict=True)),  # В may be meant as B or as the third letter, so it is none
    **dict(zip("ΑΒΓΔΕ", "ABCDE", strict=True)),
    **dict(zip("甲乙丙丁戊", "ABCDE", strict=True)),
    **dict(zip("กขคง", "ABCD", strict=True)),
    "ا": "A",
}
"""The letters by which options are called in other scripts, by their place."""
_OTHER_LETTER = late_pattern(rf"(?<![\w\u0300-\u036f\u064b-\u065f])[{''.join(_OTHER_LETTERS)}](?!\w)")
_MARKUP = late_pattern(
    r"\\(?:text|math)[a-z]{0,5}\s*(?=\{)|\\[()\[\],;! ]|\\(?:left|right|quad)\b|[*`~$]"
    r"|(?<![A-Za-z0-9])_+|_+(?![A-Za-z0-9])|[\ue000-\ue1ff]"
)
_WORD = "A-Za-z0-9_À-ÖØ-öø-ɏЀ-ӿ"
_AFTER = rf"(?![{_WORD}]|['’](?!(?:d[iıuü]r|t[iıuü]r)\b)[A-Za-z]|-[A-Za-z]|[+#]|[.,]\d|[ ](?:major|minor|flat|sharp)\b)"
_BEFORE = rf"(?<![{_WORD}./+-])(?<![A-Za-z]['’])|(?<=[A-Z]/)|(?<=\A\d\.)"
_CONJUNCTIONS = any_word(
    f"is|was|be|isn't|can't|seems|because|since|as|it|here|rather|not|instead|over|beats|wins|fits|works|comes|outperforms|değil|mà|nie|ist|est|es|é|è|hay|{BUT}|{BESIDE}"
)
_NO_WORD = (
    rf"\s*(?:\Z|[^\s\w]|[\u0900-\u0dff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|\n|\s(?:{_CONJUNCTIONS}|[^a-zà-öø-ÿ]))"
)
_NOT_AN_ARTICLE = late_pattern(_NO_WORD)
_NOT_I = late_pattern(r"\s*(?:\Z|[^\s\w]|\s(?:is|and|or|nor)\b)")
"""What follows the letters `A` and `I`, and not the words."""
_SMALL_VOWEL_END = late_pattern(r"\s*(?:\Z|[)\]}.,:;\"'”\n]|(?:because|since)\b)")
_OPTION_BEFORE = late_pattern(rf"{any_word(OPTIONS)}\s\Z", re.IGNORECASE)
_HEADED = late_pattern(r"\W*[A-Z][.)]\s")
"""Begins an answer that names its letter first: `option A` behind it is text of that option."""
_VOWELS = "AEIOUY"


def readable(text: str) -> str:
    """Return a text without emphasis, LaTeX markup and wide forms of letters."""
    return _MARKUP.sub("", unicodedata.normalize("NFKC", text)).replace("’", "'").strip()


def marked(text: str, letters: str) -> str:
    """Return a readable text in which each of the letters that stands by itself is a mark.

    Of `(B)`, the mark and `)` are left. Capitals such as `BC` become several marks. The words `A` and `I` stay as they
    are, as in `A dog` or `I think`.
    """
    letters = letters.upper()
    if "A" in letters:
        text = _OTHER_LETTER.sub(lambda match: _OTHER_LETTERS[match[0]], text)

    is_headed = _HEADED.match(text) is not None

    def mark(match: re.Match[str]) -> str:
        opening, found = match.groups("")
        after = text[match.end() : match.end() + 1]
        is_enclosed = bool(opening and after) and after in ")]}>\"'”"
        is_option = (
            found.isupper() and not is_headed and _OPTION_BEFORE.search(text, max(0, match.start() - 30), match.start())
        )
        if found.upper() in _VOWELS and not is_enclosed and not is_option:
            pattern = _SMALL_VOWEL_END if found.islower() else _NOT_I if found == "I" else _NOT_AN_ARTICLE
            if not pattern.match(text, match.end()):
                return match[0]
        is_strong = found == found.upper() or (is_enclosed and opening in "([")
        marks = "".join(chr((_STRONG if is_strong else _WEAK) + letters.index(one)) for one in found.upper())
        return marks if is_enclosed and opening in "([" else opening + marks

    return _letters(letters).sub(mark, text)


@functools.lru_cache(maxsize=16)
def _letters(letters: str) -> re.Pattern[str]:
    upper, small = re.escape(letters), re.escape(letters.lower())
    return re.compile(rf"([(\[{{<\"'“])?(?:{_BEFORE})([{small}]|[{upper}]{{1,{len(letters)}}}){_AFTER}")


def letter_of(mark: str, letters: str) -> str:
    """Return the letter that a mark stands for."""
    place = ord(mark)
    return letters.upper()[place - (_WEAK if place >= _WEAK else _STRONG)]


def same_letter(one: str, other: str) -> bool:
    """Return whether two marks stand for the same letter, capital or small."""
    return (ord(one) ^ ord(other)) & 0xFF == 0
