"""The scorer `choice`, and how it finds the letter that an answer chooses."""

from __future__ import annotations

import re

from batchmix.scorers.settings import MAX_CHARS, Score, ScorerSettings

_NAMED = (
    r"(?:(?i:answer|choice|option|choose|correct|antwort|réponse|respuesta)(?i:\s+(?:is|ist|est|es))?"
    r"|答案|正确选项|選項|选项|选择|選擇|应选|選)(?:是|为|為)?\s*[:=：]?"
)
"""Words that announce the chosen letter, such as `the answer is`."""
_NO_ARTICLE = r"(?!(?<=[AI])\s(?!(?:and|or|nor|is)\b)[a-z])"
"""Comes after a letter in a pattern. Prevents a match of the words `A` and `I`, as in `A dog` or `I think`."""


class Choice(ScorerSettings, frozen=True, kw_only=True, tag="choice"):
    """Scores 1 if the answer chooses the same letter as the target, otherwise 0."""

    letters: str = "ABCD"

    def score(self, response: str, target: str) -> Score:
        """Compare the letters that answer and target choose."""
        wanted = choice(target, self.letters)
        if wanted is None:
            return Score(None, target, None, f"the target is none of {self.letters}")
        found = choice(response, self.letters)
        return Score(float(found == wanted), target, found, None if found else "no clear choice in the answer")


def choice(text: str, letters: str) -> str | None:
    """Return the letter that an answer chooses. None if there is no clear choice.

    The rules are tried in this order: the last letter called the answer (`the answer is (B)`), a letter at the
    beginning or the end, a letter in brackets or bold, and a letter that is a word by itself.
    """
    text = text[:MAX_CHARS].strip()
    letter = f"([{re.escape(letters.upper())}])"
    either = f"([{re.escape(letters.upper() + letters.lower())}])"
    if re.fullmatch(rf"[(\[*\"'`]*{either}[)\]*\"'`.:]*", text):
        return re.sub(r"[^A-Za-z0-9]", "", text).upper()
    named = rf"{_NAMED}[\s(\[*$\"'`{{]*(?i:\\boxed\{{)?(?:{letter}(?![\w'’])|{either}(?=[)\]*\"'`.}}]|\s*\Z))"
    matches = re.findall(named, text)
    if matches:
        return "".join(matches[-1]).upper()
    open_ended = re.search(rf"(?:(?i:\b(?:and|or|nor|not))\s+|[&/,]\s*)[(\[*\"'`]*{letter}[)\]*\"'`]*[.!]?\Z", text)
    for pattern in (
        rf"\A[(\[*\"'`]*{letter}[)\]*\"'`]*(?:[.:)\n]|\s[-–—]\s)",
        rf"\A[(\[*\"'`]*{either}[)\]]",
        *([] if open_ended else [rf"(?:^|[\s:=])[(\[*\"'`]*{letter}[)\]*\"'`]*\.?\Z"]),
        rf"(?:\(|\[|\*\*|\\boxed\{{){either}(?:\)|\]|\*\*|[.:]|\}})",
        rf"(?<![\w'’])(?<!(?i:not)\s){letter}(?![\w'’]){_NO_ARTICLE}",
    ):
        distinct = {match.upper() for match in re.findall(pattern, text)}
        if len(distinct) == 1:
            return str(distinct.pop())
    return None
