"""The words with which judges state their verdicts, and those with which they speak of the text that they judge."""

from __future__ import annotations

import re

from batchmix.scorers.late_pattern import late_pattern

NAME = (
    r"(?:scores?|ratings?|grades?|marks?|verdict|result|answer|evaluation|assessment|judge?ment|conclusion|points|"
    r"评分|评级|总分|總分|合计|合計|分数|得分|打分|評分|评价|スコア|評価|点数|採点|評点|점수|평점|평가|оценка|балл|баллы|"
    r"bewertung|gesamtbewertung|wertung|gesamtwertung|punktzahl|gesamtpunktzahl|gesamtnote|urteil|note|notation|"
    r"puntuaci[oó]n|calificaci[oó]n|valoraci[oó]n|puntaje|nota|punteggio|valutazione|voto|giudizio|pontua[cç][aã]o|"
    r"avalia[cç][aã]o|classifica[cç][aã]o|beoordeling|cijfer|ocena|wynik|puan|skor|poin|nilai|điểm|betyg|karakter|"
    r"التقييم|الدرجة|النتيجة|امتیاز|نمره|स्कोर|अंक|रेटिंग)"
)
"""What a verdict is called, in the languages in which judges answer."""
SUMMARY = (
    r"(?:final|overall|total|global|总|總|总体|最终|最終|综合|総合|전체|최종|총|итоговая|итоговый|общая|итог|gesamt|"
    r"insgesamt|finale|globale|g[eé]n[eé]rale?|totale?|totaal|complessiv[ao]|in total)"
)
"""What tells the verdict from the grades of single criteria."""
CHOICE_NAME = r"(?:winner|choice|preference|decision|label|category|class|better|best|判定|结论|結論)"
"""What a verdict may be called beside `NAME` if it is one of several labels."""
ARTICLES = r"(?:my|the|your|its|this|a|an|numeric(?:al)?|judge(?:'s)?|la|le|il|el|de|mein|meine|ma|mon|mi|мой|моя|моё)"
_SUBJECT = (
    r"(?:letter|answer|response|text|reply|message|e-?mail|author|writer|candidate|student|assistant|model|user|"
    r"customer|submission|essay|output|document|summary|translation|code|post|story|poem|draft|passage|content|"
    r"article|conversation|sentence|paragraph|line|quote|quotation|original|input|prompt)"
)
_SPEECH = (
    r"(?:says|said|saying|claim(?:s|ed|ing)?|end(?:s|ed|ing)?|stat(?:es|ed|ing)|contain(?:s|ed|ing)?|"
    r"includ(?:es|ed|ing)|reads?|writes?|wrote|written|add(?:s|ed|ing)|ask(?:s|ed|ing)|demand(?:s|ed|ing)?|"
    r"h[oa]lds?|has|tells?|told|tr(?:y|ies|ied|ying)|instruct(?:s|ed|ing)?|quot(?:es|ed|ing)|clos(?:es|ed|ing)|"
    r"conclud(?:es|ed|ing)|want(?:s|ed|ing)?|pretend(?:s|ed|ing)?|request(?:s|ed|ing)?|suggest(?:s|ed|ing)?|"
    r"propos(?:es|ed|ing)|insist(?:s|ed|ing)?|declar(?:es|ed|ing)|announc(?:es|ed|ing)|order(?:s|ed|ing)?|"
    r"beg(?:s|ged|ging)?|invit(?:es|ed|ing)|call(?:s|ed|ing)?|mention(?:s|ed|ing)?|gives? itself|assigns? itself|"
    r"rates? itself|scores? itself|grades? itself|according to)"
)
SPEECH = late_pattern(rf"\b{_SPEECH}\b", re.IGNORECASE)
"""Says that what stands beside it are the words of somebody else."""
INTRODUCES_QUOTE = late_pattern(
    rf"\b(?:{_SUBJECT}|it|he|she|they|which|who|there)(?:'s)?\b[^.!?\n]{{0,200}}\b{_SPEECH}\b[^.!?\n]{{0,100}}:\s*$"
    rf"|^\W*(?:quot(?:e|ed|ation)|(?:from |in )?(?:the|this|its|his|her|their)(?: \w+)?\s+{_SUBJECT})\s*:\s*$",
    re.IGNORECASE,
)
"""A line after which the judged text is quoted."""
INTRODUCES_VERDICT = late_pattern(
    r"\b(?:my|final|here(?:'s| is| are)|verdict|evaluation|score|rating|grade|judge?ment|assessment|result)\b"
    r"[^\n]{0,200}:\s*$",
    re.IGNORECASE,
)
"""A line after which the judge's own verdict follows."""
DENIES = late_pattern(
    r"\b(?:not|never|no|cannot|unable|refuse[sd]?|declin(?:e|es|ed|ing)|"
    r"avoid|resist|won't|hardly|neither|nor|without|instead of|rather than|far from|short of)\b|n't\b|"
    r"\btoo (?:high|low|generous|harsh)\b",
    re.IGNORECASE,
)
SUPPOSES = late_pattern(
    r"\b(?:if|unless|might|could|may|maybe|perhaps|possibly|either|between|somewhere|whether|depending)\b"
    r"|\bha[ds] (?:it|the)\b|\bwere (?:it|the)\b|\bwould have\b|\b[i']'?d have\b|(?<!\bi )\bwould\b"
    r"|(?:\bwould\b|'d\b)(?:(?:(?!\bbecause\b).)*|.*,\s)\bbut\b",
    re.IGNORECASE | re.DOTALL,
)
"""Says that a grade is no verdict but a possibility."""
EXPLAINS = late_pattern(
    r"\b(?:such as|like|e\.g|for example|for instance|example|format|in the form|template|means?|scale|range|"
    r"at first|initially|initial|first thought|was going to|tempted|considered|almost|nearly|worth)\b",
    re.IGNORECASE,
)
"""Says that a grade is an example, what a grade means, or what the judge thought first."""
CORRECTS = late_pattern(
    r"(?:^|[.!?\n—–-][ \t]{0,3})(?:no,? wait|wait|actually|correction|on second thoughts?|on reflection"
    r"|scratch that|sorry)\b[,:. \t—-]",
    re.IGNORECASE,
)
"""Says that what the judge said before no longer holds."""
QUOTES_ITS_WORDS = late_pattern(
    rf"\b(?:quoted|taken|copied|pasted|repeated) from\b|\b(?:text|lines?|words?|following|passage)\b"
    rf"[^.\n]{{0,40}}\b(?:below|"
    rf"above)\b|\b(?:below|above)\b[^.\n]{{0,40}}\b{_SUBJECT}\b|"
    rf"\b{_SUBJECT}'s own\b",
    re.IGNORECASE,
)
"""Says that some line, one cannot tell which, is a quotation."""
SUPPOSED_AFTER = r"(?:if|unless|or|maybe|perhaps|possibly|between|probably)"
"""Words that make the value before them uncertain."""
