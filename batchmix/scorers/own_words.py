"""Takes out of an answer what it does not state: heads of tables, quoted lines, what others say, and offers of help."""

from __future__ import annotations

import re

from batchmix.scorers.late_pattern import late_pattern

_QUOTED_LINE = late_pattern(r"^[ \t]*>[ \t]+[^\n]*(?:\n|\Z)", re.MULTILINE)
_TABLE_HEAD = late_pattern(
    r"^[ \t]*\|[^\n]*\|[ \t]*\n[ \t]*\|[-:| \t]+\|[ \t]*\n(?=[ \t]*\|[^\n]*\n[ \t]*\|)", re.MULTILINE
)
_STRUCK = late_pattern(r"~~[^~\n]{1,200}~~")
_SAY = (
    r"say|says|said|claim|claims|claimed|think|thinks|thought|believe|believes|believed|wrote|writes|answer|answers|answered|suggest|suggests|suggested"
    r"|state|states|stated|ask|asks|asked|chose|choose|picked|pick|guess|guessed|argue|argues|assume|assumes|insist|insists|propose|proposed|respond|responded"
)
_OTHERS = (
    r"(?:(?:the|this|that|your|my|our|his|her|another|one|an?) (?:[a-z]{2,12} ){0,2})?(?:student|pupil|user|teacher|author|friend|colleague|classmate|professor|person|people|textbook|book"
    r"|(?:answer |official )?key|scheme|mark scheme|marking scheme|label|website|article|forum|model|tutor|students|users|others|commenter|candidate)s?"
    r"|you|he|she|they|(?:many|most|some|several|few)(?! (?:likely|probable|plausible|reasonable))(?: (?:other )?[a-z]{3,12}(?: [a-z]{3,12})?)?|somebody|someone|nobody|no one"
)
_OTHERS_PAPERS = r"(?:answer )?key|textbook|book|mark(?:ing)? scheme|label|student|user|author|forum"
_BY_OTHERS = late_pattern(
    rf"(?:^|(?<=[.!?;:,\n]\s))(?:(?:well|so|yes|and|but|of course|,)\s)?(?:"
    rf"(?:(?:{_OTHERS})(?: in (?:the|your|my) \w+)?(?: would| might| may| will| often| also| both| all| originally| incorrectly| wrongly){{0,2}} (?:{_SAY})"
    rf"|(?!(?:The|This|That|It|My|Final|Who|What|Which|Nobody|Nothing|Everything)\s)(?-i:[A-Z])[a-z]{{2,12}} (?:says|said|thinks|thought|claims|claimed|believes|wrote|answered|insists|argues|guesses|guessed)"
    rf"|(?:the |your |my )?(?:answer key|key|textbook|book|marking scheme|mark scheme|label)(?: in (?:the|your|my) \w+)? (?:gives|gave|lists|has|shows|indicates)"
    rf"|according to (?:(?:your|my|some) \w+|(?:the|an?) (?:{_OTHERS_PAPERS}))"
    rf"|du (?:sagst|meinst|schreibst|fragst)|sie (?:sagen|meinen|schreiben|fragen)|(?:der|die|ein|eine|dein|mein) (?:schüler|schülerin|student|lehrer|buch|freund|nutzer)\w{{0,2}} (?:schreibt|sagt|meint|schrieb|sagte|gibt)|(?:viele|manche|einige|die meisten) (?:sagen|meinen|denken|würden)|laut (?:dem |der )?(?:schüler|student|lehrer|buch|lehrbuch|lösung)\w*"
    rf"|tu dis|vous (?:dites|pensez|demandez)|(?:l'élève|l'étudiante?|le livre|le manuel|le corrigé) (?:a répondu|dit|écrit|pense|donne|indique)|(?:certains|beaucoup) (?:disent|pensent|diraient)|selon (?:le|la|l')\s?(?:livre|manuel|corrigé|élève|étudiant)\w*"
    rf"|(?:tú )?(?:dices|preguntas)|(?:el|la) (?:alumn[oa]|estudiante|libro|clave) (?:dice|respondió|escribió|cree|da)|(?:muchos|algunos) (?:dicen|dirían|creen)|según (?:el|la) (?:libro|clave|alumn|estudiante)\w*"
    rf"|(?:o|a) (?:alun[oa]|estudante|livro|gabarito) (?:diz|respondeu|escreveu)|(?:lo|la) (?:studente|studentessa) (?:dice|ha scritto|ha risposto)|(?:ученик|студент|учебник|вы|ты) (?:говорит|пишет|утверждает|ответил|написал|говорите|говоришь)\w?)\b"
    rf"|(?:学生|学生们|同学|用户|有人|很多人|你|您|书上|教材|课本|答案册)(?:认为|说|写|觉得|以为|选|问|给出)|(?:学生|生徒|ユーザー|教科書)は"
    rf")",
    re.IGNORECASE,
)
_BACK = late_pattern(
    r"[.!?;\n。！？；]|[\s,](?:but|yet|however|though|although|whereas|while|in fact|aber|doch|mais|pero|mas|ma|но|а) |但|其实|而实际|这是错|[,，]\s?(?:which|what) (?:is|was) (?:wrong|a|an|incorrect|mistaken|false)\b",
    re.IGNORECASE,
)
_AGREES = late_pattern(
    r"[^.!?\n]{0,60}?(?:[.!?]\s)?\b(?:(?:and |so )?(?:i (?:fully |also |do )?(?:agree|concur)(?! with (?:none|neither|no)\b)|(?:that|this|it|which|they)(?: i|')s (?:also )?(?:right|correct)|(?:they|he|she) (?:are|is) right)"
    r"|(?:dem )?stimme ich (?:dem )?zu|zu recht|je suis d'accord|estoy de acuerdo|concordo|sono d'accordo|согласен|согласна)\b",
    re.IGNORECASE,
)
"""Says that others are right."""
_INJECTED = late_pattern(
    r"(?<=\s)[\"“](?=[^\"”\n]{0,120}\b(?:ignore|disregard|output|answer|respond|reply|choose|select|say|print|write)\b)[^\"”\n]{4,300}[\"”]",
    re.IGNORECASE,
)
_INTRODUCES = late_pattern(
    r"\b(?:contain\w*|includ\w*|instruct\w*|tell\w*|told|ask\w*|says?|saying|reads?|states?|line|command|prompt)\b[^.\n]{0,40}\Z",
    re.IGNORECASE,
)
_QUOTE = late_pattern(r"[\"“«「][^\"”»」\n]{0,300}[\"”»」]")
_OFFER = late_pattern(
    r"(?:please )?(?:let me know|would you|do you|shall i|should i|feel free|i hope|hope (?:this|that|it)|if you(?:'d| would| want| need| have| like)|is there any|want me|need (?:any|me|help)|happy to|i can (?:also|do) |rate |good luck|can i help|don't hesitate|any (?:other )?questions"
    r"|möchte|soll ich|sag (?:mir )?(?:bescheid|einfach)|lass (?:es )?mich|ich hoffe|wenn du|falls du|brauchst|melde|n'hésite|voulez|veux-tu|souhaite|dites-moi|dis-moi|j'espère|si vous|si tu"
    r"|¿?quieres|¿?quiere|¿?necesitas|¿?te gustaría|espero que|avísame|si quieres|si necesitas|quer que|gostaria|espero ter|se quiser|vuoi|spero|fammi sapere|se vuoi|wil je|laat me weten|хотите|хочешь|надеюсь|если (?:вам|вы|нужно|хотите)|дайте знать"
    r"|需要我|你想|您想|希望|如果你|如果您|如需|还需要|还有(?:其他|什么)|他に|ご不明|必要であれば|必要なら|도움이 필요|더 궁금|원하시면|هل تريد|هل ترغب|क्या आप)",
    re.IGNORECASE,
)
_ENDINGS = late_pattern(r"\n\s*\n|(?<=[.!?…])\s+(?=\S)|(?<=[。！？])")
_MOST_OFFERS = 4


def own_words(text: str) -> str:
    """Return what an answer states itself. A text that is nothing but a quotation, or an offer, stays as it is."""
    text = without_quoted_lines(_TABLE_HEAD.sub("", _INJECTED.sub(_without_injected, text)))
    return _without_offers(_without_others(text))


def without_quoted_lines(text: str) -> str:
    """Return a text without quoted lines, unless it has no other, and without what is struck out."""
    text = _STRUCK.sub(" ", text)
    unquoted = _QUOTED_LINE.sub("", text)
    return unquoted if unquoted.strip() else text


def _without_injected(quote: re.Match[str]) -> str:
    """Return a quotation that says what to answer, or nothing if the answer tells of it."""
    return "" if _INTRODUCES.search(quote.string, max(0, quote.start() - 80), quote.start()) else quote[0]


def _without_others(text: str) -> str:
    """Return a text without what it says that others say."""
    kept, at = [], 0
    for match in _BY_OTHERS.finditer(text):
        if match.start() < at:
            continue
        quote = _QUOTE.search(text, match.end(), match.end() + 40)
        end = _BACK.search(text, quote.end() if quote else match.end())
        kept.append(text[at : match.start()])
        at = match.end() if _AGREES.match(text, match.end()) else end.start() if end else len(text)
    return "".join([*kept, text[at:]])


def _without_offers(text: str) -> str:
    """Return a text without offers of more help, and wishes, at its end."""
    for _ in range(_MOST_OFFERS):
        ends = [match.end() for match in _ENDINGS.finditer(text, max(0, len(text) - 600))]
        start = next((end for end in reversed(ends) if text[end:].strip()), None)
        if start is None or not _OFFER.match(text[start:].lstrip("*_-• \n")):
            return text
        text = text[:start].rstrip()
    return text
