"""The words with which models announce, confirm, deny and take back a result, in the languages that they answer in.

They are parts of patterns, to be matched without regard to case in text that is normalised by NFKC.
"""

from __future__ import annotations

_LETTER = "A-Za-z0-9_\u00aa-\u024f\u0370-\u052f\u0590-\u06ff\u0900-\u0dff\u1e00-\u1eff"
"""The letters of scripts that put spaces between words. Chinese, Japanese, Korean and Thai are not among them."""
WORD_START, WORD_END = f"(?<![{_LETTER}])", f"(?![{_LETTER}])"


def any_word(words: str) -> str:
    """Return a pattern that matches any of these words, which are separated by `|`, as whole words."""
    return f"{WORD_START}(?:{words}){WORD_END}"


ANSWERS = (
    r"a[nws]{2,3}ers?|ans|result|solution|verdict|conclusion|antwort(?:en)?|lösung|ergebnis|réponses?|respuestas?|solución|resultado"
    r"|respostas?|rispost[ae]|soluzione|risultato|résultat|antwoord|oplossing|svar(?:et)?|vastaus|odpowied[źz]|wynik"
    r"|odpověď|výsledek|válasz|eredmény|răspuns(?:ul)?|rezultatul|απάντηση|cevap|yan[ıi]t|sonuç|jawaban(?:nya)?|hasil(?:nya)?"
    r"|ответ(?:ы|ом)?|решение|відповідь|отговор|одговор|odgovor|đáp án|câu trả lời|kết quả|[فو]?(?:الإجابة|الجواب|الإجابه)|اجابة"
    r"|النتيجة|پاسخ|جواب|התשובה|תשובה|उत्तर|जवाब|উত্তর|பதில்|సమాధానం|ค(?:ำ|ํา)ตอบ(?:ที่ถูกต้อง)?|ตอบ|答案|答え|答复|回答|解答|正解|结果"
    r"|結果|정답|답변|답|해답|결과"
)
"""Nouns for the result."""
OPTIONS = (
    r"choice|option|letter|alternativ[ae]|statement|proposition|affirmation|wahl|möglichkeit|aussage|option|choix|opción|alternativa|opção|opzione|scelta"
    r"|bewering|afirmaci[oó]n|affermazione|afirmação|утверждени[ея]|optie|keuze|вариант|варіант|wariant|opcja|seçenek|seçeneği|şık|şıkkı|pilihan|opsi|phương án|lựa chọn|الخيار|گزینه|विकल्प|বিকল্প"
    r"|选项|選項|选择|選擇|選択肢|보기|선택지|ตัวเลือก|ข้อ"
)
"""Nouns for one of the things to choose from."""
CORRECT = (
    r"correct|right|true|best|proper|valid|appropriate|accurate|richtige?[rns]?|korrekte?[rns]?|beste|wahr|correcte?|bonne|juste|exacte?|vraie?"
    r"|correct[ao]s?|verdader[ao]|cert[ao]|corrett?[ao]s?|giust[ao]|esatt[ao]|juiste?|rätt|riktiga?|oikea|poprawn[ay]|prawidłow[ay]|správn[áýě]"
    r"|helyes|corectă?|σωστή|doğru|benar|tepat|правильн(?:ый|ая|о|а)|верн(?:ый|ая|о)|вірн[аи]й?|đúng|chính xác|الصحيحة?|صحيحة?|صحیح|درست"
    r"|הנכונה|נכונה|सही|সঠিক|சரியான|ถูกต้อง|正确|正確|正しい|对的|옳은|올바른|맞는"
)
"""Adjectives for a right result."""
FINAL = (
    r"final(?:ly)?|therefore|thus|hence|so|conclusion|conclude|overall|endgültige?|schließlich|also|daher|folglich|finale|donc|ainsi"
    r"|por (?:lo )?tanto|entonces|portanto|logo|quindi|dunque|perciò|итак|итоговый|окончательный|следовательно|поэтому"
    r"|最终|最終|因此|所以|故|综上|よって|したがって|따라서|최종|그러므로|vậy|do đó|jadi|sonuç olarak|이므로"
)
"""Words in front of a result that stands at the end of a line of thought."""
_COPULAS = (
    r"is|are|was|be|being|equals?|would|will|should|must|has|have|to|can only|can|could only|ist|sind|lautet|wäre|heißt|muss|sein|est|sont|sera|serait"
    r"|es|son|sería|será|é|è|sarebbe|sono|zijn|luidt|är|er|on|to|jest|je|az|este|είναι|dir|adalah|ialah|yaitu|это|является|будет|là|هي|هو|است|היא|הוא|है"
    r"|हैं|হল|হলো|คือ|才?是|为|為|は|が|은|는|이|가|应该|应当|應該|应|就|则"
)
_FILLERS = (
    r"therefore|thus|hence|so|clearly|obviously|definitely|simply|most|likely|probably|indeed|then|the|an|my|our|your|its|in|one|only|that"
    r"|given|you|question|this|problem|to|of|for|die|der|das|somit|also|daher|klar|eindeutig|la|le|el|il|los|las|les|lo|l|o|os|donc|bien"
    r"|pues|entonces|portanto|quindi|het|de|det|den|yang|η|το|που|следующий|такой|под|буквой|номером|[应應该該]?[选選]"
)
LINKS = f"{_COPULAS}|{_FILLERS}|{CORRECT}|{ANSWERS}|{OPTIONS}"
"""What may stand between the announcement and the result, beside signs."""
COPULAS = _COPULAS
NOT = (
    r"not|isn't|isnt|aren't|wasn't|don't|doesn't|didn't|doubt|hardly|can't|cannot|couldn't|won't|wouldn't|never|neither|nor|nicht|kein|keine|weder|pas|jamais|ni|no|não|nem|non|né|niet"
    r"|inte|ikke|ei|nie|není|nem|nu|δεν|değil|bukan|tidak|не|ні|ни|nie|không phải|không|ليس|ليست|نیست|לא|नहीं|নয়|ไม่ใช่|ไม่|不是|不|并非|并不|非|ない|아니"
)
"""Words that deny what follows."""
UNTRUE = (
    r"wrong|incorrect|false|invalid|untrue|unlikely|improbable|implausible|excluded|eliminated|ruled out|impossible|falsch|inkorrekt|unrichtig|faux|fausse"
    r"|incorrecte?|incorrect[ao]s?|fals[ao]|errad[ao]|erróne[ao]|equivocad[ao]|sbagliat[ao]|errat[ao]|scorrett[ao]|onjuist|fout|fel|błędn[ay]|nesprávn[áě]"
    r"|hibás|greșit[ăa]?|λάθος|yanlış|salah|неверн\w+|неправильн\w+|невірн\w+|sai|خاطئة|خطأ|غلط|نادرست|שגויה|गलत|ভুল|ผิด|错误|错的|错|錯誤|不正确|不正確"
    r"|不对|間違い|誤り|틀린|틀렸|오답"
)
"""Adjectives for a wrong result."""
WRONG = (
    rf"{UNTRUE}|not|isn't|isnt|can't|cannot|doesn't|does not|don't|didn't|fails|out"
    r"|ではなく|ではない|じゃない|가 아니라|이 아니라|nicht|pas|no|não|non|не|不|no way|neither|nor|[✗✘❌✕×]"
)
"""Words after a result that deny it."""
BUT = r"but|rather|sondern|mais|sino|mas|ma|bensì|maar|utan|lecz|ale|melainkan|mà là|а|но|بل|बल्कि|而是|但是|而|むしろ|아니라"
"""Words between what is denied and what is right."""
BESIDE = r"and(?: also| possibly)?|as well as|or(?: possibly)?|nor|und|oder|sowie|et|ou|y|e|o|ed|en|of|och|eller|i|lub|albo|a|nebo|és|vagy|și|sau|και|ή|ve|veya|dan|atau|и|или|і|та|або|và|hoặc|और|या|و|أو"
"""Words between two results that are named together."""
FITS = r"fits?(?: best| better)?|works|holds|matches|satisfies|remains|survives|comes closest|is (?:the only one )?consistent|is closest|is (?:most|more) likely|is (?:the )?strong(?:er|est)|wins|stands out|is left|qualifies|passt|stimmt|klopt|trifft zu|bleibt|gilt|convient|encaja|cumple|подходит"
"""Verbs that say of an option that it is right."""
DENIES = (
    r"unlikely|improbable|implausible|doesn't|does not|don't|fails?|can be (?:excluded|eliminated|ruled out|discarded)|makes? no sense|no longer|not|isn't|isnt|wasn't|can't|cannot|won't|wouldn't|a trap|a distractor"
    r"|wrong|incorrect|false|out of the question|scheidet aus|kann ausgeschlossen werden|entfällt|passt nicht|stimmt nicht|ist falsch|falsch|unwahrscheinlich|fausse?|exclue?|improbable|peu probable|incorrect[aeo]|descartad[ao]|errad[ao]|sbagliat[ao]|esclus[ao]|improbabile"
    r"|не подходит|неверен|неверн\w+|неправильн\w+|маловероят\w+|не"
)
"""Words that follow what they deny, or stand directly in front of it."""
OR = r"or|oder|ou|o|или|або|lub|albo|eller|vagy|sau|nebo|veya|ya da|atau|hoặc|या|أو"
"""Words between two results of which only one can be right."""
INSTEAD = r"rather than|instead of|as opposed to|over|statt|anstatt|anstelle von|plutôt que|au lieu de|en (?:lugar|vez) de|em vez de|invece (?:di|che)|вместо|in plaats van"
"""Words in front of what is not chosen, behind what is."""
DENIED_BEHIND = r"(?:가|이|는|은|が|は|も)?[ \t]?(?:正解|答え|정답|답)?[ \t]?(?:이|가|では|じゃ)?[ \t]?(?:아닙니다|아니다|아니에요|아님|ありません|ない(?:です)?|違います|틀렸)|\s?(?:सही\s|ठीक\s)?(?:उत्तर\s)?नहीं|\s?(?:değil|olamaz)"
"""What follows that which is denied, in languages whose sentences end with the verb."""
CANNOT = (
    r"\b(?:can'?t|cannot|can not|could not|couldn't|unable to|not able to|impossible to|is(?: not|n't) possible to)\s(?:\w+\s){0,2}(?:determined?|say|tell|work|find|found|calculated?|answer(?:ed)?|computed?|solved?|know|give|provide|help)\b"
    r"|\b(?:not enough|insufficient|failed to|didn't find|did not find|is unclear|please (?:give|provide|send|share|tell))\b"
    r"|无法|不能确定|kann (?:ich )?(?:es )?nicht|ne peux pas|no puedo|no se puede|не могу|невозможно"
)
"""A pattern for sentences that give up."""
REJECTED = (
    r"don't (?:think|believe|see|agree|choose|pick)|do not (?:think|believe|agree)|wouldn't (?:choose|pick|say|go)|would (?:never|not) (?:choose|pick|say)|doubt|disagree|hardly|unlikely|avoid|no way|never"
    r"|wrong to (?:choose|pick|say)|rule out|ruled out|exclude|excluding|eliminate|glaube nicht|denke nicht|bezweifle|schließe|kaum|ne (?:pense|crois) pas|je doute|no creo|dudo|não (?:acho|creio)|non (?:credo|penso)|dubito"
    r"|вряд ли|не (?:думаю|согласен|согласна|считаю)|لا (?:أعتقد|أظن)|pas d'accord|no estoy de acuerdo|não concordo|сомневаюсь|ik denk niet|tror inte|nie sądzę"
)
"""Words some way in front of what they reject."""
RETRACTED = (
    rf"{any_word('wait|scratch that|correction|(?:edit|update)(?=:)|on re-?checking|after re-?checking|actually|hold on|on second thoughts?|on reflection|let me re[a-z-]+|oops|hm+|i mean|my mistake|strike that|sorry|moment(?: mal)?|quatsch|halt|stimmt nicht|espera|perdón|en realidad|attends|attendez|pardon|en fait|aspetta|anzi|espere|aliás|wacht|нет|подождите|стоп|точнее')}"
    r"|(?:(?<=[.!?…,;\n])|(?<=[.!?…,;]\s)|^)\s{0,3}(?:no|nope|nein|non|não)\s?[,.:!…]|(?:(?<![\w\ue000-\ue1ff])|(?<=[这那]))不对|等等|等一下|错了|更正|いや|待って|訂正|아니|잠깐"
)
"""Words that take back what was stated before."""
TAKEN_BACK = (
    r"scratch that|strike that|(?:that|this|it)(?: i|')s (?:not right|wrong|incorrect)|wait,? no|不对|错了|no[,.!]"
)
"""Those after which a result does not count any more even if no other one is stated."""
SUPPOSED = (
    r"if|whether|unless|suppose|supposing|assum(?:e|es|ed|ing)|imagine|were|wrong|incorrect|false|other|another|tempting|tempted|distractor|you might|one might"
    r"|some (?:may|might|would)|may think|might think|might say|at first|initial(?:ly)?|previous(?:ly)?|original(?:ly)?|first answer|first guess|first thought|i thought|i initially|(?:may|might) (?:seem|look|appear|sound)|at first glance|auf den ersten blick|à première vue|a primera vista|a prima vista|à primeira vista|на первый взгляд|peut sembler|puede parecer|puede que|pode parecer|può sembrare|potrebbe sembrare|может показаться|قد يبدو|قد تبدو|most people|many people|many would|some people|common (?:mistake|error|wrong)"
    r"|falls|wenn|angenommen|falsche?n?|zunächst|zuerst|ob|si|supongamos|sería si|al principio|primera|supposons|d'abord|incorrecta|incorrecte|se fosse|inizialmente"
    r"|если|сначала|неправильный|неверный|如果|假设|若|假如|错误|起初|もし|最初|誤った|만약|처음"
)
"""Words in front of an announcement that is none: a case that is supposed, a first thought, a wrong answer."""
WEIGHED = (
    r"consider(?:ing)?|look(?:ing)?(?: at)?|examin(?:e|ing)|evaluat(?:e|ing)|analy[sz](?:e|ing)|check(?:ing)?|start(?:ing)?|begin(?:ning)?|compar(?:e|ing)"
    r"|between|any(?:thing)? but|everything but|all but|weigh(?:ing)?|discuss(?:ing)?|unlike|versus|vs|regarding|about|except|rule[sd]? out|ruling out|eliminat(?:e|es|ed|ing)|exclud(?:e|es|ed|ing)|reject(?:ed)?"
    r"|discard(?:ed)?|rather than|instead of|first|could|might|may|maybe|perhaps|possibly|betrachten|ausschließen|ausgeschlossen|vielleicht|statt|außer|considérons"
    r"|éliminer|peut-être|consideremos|descartar|descarto|quizás|talvez|forse|排除|考虑|分析|看看|可能|也许|除了|かもしれ|検討"
)
"""Words with which an option is looked at, not chosen."""
CHOOSE = (
    r"choose|chose|choosing|select|selecting|selected|pick|picking|opt for|go(?:ing)? (?:for|with)|leaving|leaves|left with|corresponds to|matches|i'd say|i would say|i'll say|vote for|mark|tick|circle|settle on|lean(?:ing)? (?:more )?towards?|i conclude|i believe|i think|my (?:(?:first|top|best) )?choice(?! was)"
    r"|wähle|entscheide mich für|würde mich für|tendiere zu|tippe auf|je choisis|je dirais|je pense que c'est|elijo|escojo|elegiría|diría|creo que es|escolho|diria|scelgo|direi|kies|väljer|wybieram|vybírám|választom"
    r"|seçiyorum|saya (?:memilih|pilih)|выбираю|вибираю|думаю,? что|tôi chọn|chọn|أختار|选择?|選擇?|应选|應選|故选|選びます|選ぶ"
)
"""Words with which an option is chosen."""
PLAIN = (
    f"{LINKS}|{CHOOSE}|{FINAL}|{OPTIONS}|{CORRECT}|ans|hence|it|it's|that's|that|this|leaves?|leaving|left|only|alone|just|i|i'm|i'd|i'll|we|me|my guess|guess|guessing|chosen|say|get|gives?|yes|ergo|letra|which|alternativ|är|view|opinion|pick|lean(?:ing)? towards?|go|goes|going|let's|with|would"
    f"|fairly|quite|pretty|confident|sure|certain|sounds?|looks?|like|seems?|appears?|actually|really|mark|here|then|response|better|statement|holds|works|fits|ce|n'est|n|ne|answered|remaining|remains?|ich|nehme|glaube|meine|sage|wohl|wahrscheinlich|bleibt|nur|übrig|c'est|je|pense|crois|reste|probablement|creo|que|sea|queda|probablemente|acho|fica|credo|penso|rimane|ik|denk|jag|tror|kies"
    f"|думаю|что|это|остаётся|наверное|скорее всего|myślę|że|to|tôi|nghĩ|saya|kira|我|认为|觉得|本题|题|应该|是|剩下|只有|だけ|思います|と|です|だ|でしょう|입니다|이에요|이다|같습니다|것|أعتقد|أن|أظن"
)
"""The words of a sentence that says nothing else but which result it is."""
