"""The answers that a run's report shows, as text without control characters, in sections by model and scorer."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from batchmix.comparison.examples import Example, RewrittenAnswer, examples, rewritten_answers
from batchmix.comparison.run_diff import Diff
from batchmix.comparison.sent_prompts import SentPrompts, sent_prompts
from batchmix.formats.display import clean
from batchmix.records import Key
from batchmix.reports.low_scores import LowAnswer, low_scores
from batchmix.reports.report_tables import figure

MAX_INLINE = 200
"""The most answers of a kind that the report holds, shown and folded. More of them get a page of their own."""
_MAX_PAGE = 2_000
"""The approximate limit of answers on that page."""
_SHOWN = 30
"""The approximate limit of answers of a kind that are shown at once, over all models and scorers."""
_TEXT_CHARS, _PROMPT_CHARS = 1_500, 4_000
"""The most characters of an answer, and of each message of a prompt, that are shown."""
_MAX_TURNS = 40
"""The most messages of a prompt that are shown: the last ones."""


class Section(msgspec.Struct):
    """The answers of one model by one scorer."""

    title: str
    note: str
    """How many of how many answers are shown at once."""
    count: int
    """The number of answers that there are."""
    shown: list[dict[str, Any]]
    more: list[dict[str, Any]]
    """Answers that are not shown at once."""


class Answers(msgspec.Struct):
    """All answers of one kind, such as those that changed."""

    sections: list[Section]
    missing_prompts: str = ""
    """Why prompts are missing. Empty if none is."""

    @property
    def count(self) -> int:
        """The number of answers that there are, which may be more than are held."""
        return sum(section.count for section in self.sections)

    @property
    def held(self) -> int:
        """The number of answers that are held."""
        return sum(len(section.shown) + len(section.more) for section in self.sections)


def changed_answers(diff: Diff) -> Answers:
    """Return the answers whose score changed between two runs, beside the earlier ones."""
    counts = Counter((change.model, change.scorer, change.after < change.before) for change in diff.moved)
    pairs = max(1, len({key[:2] for key in counts}))
    found = examples(diff, max(10, _MAX_PAGE // pairs // 2))
    before, after = _prompts_of_both(diff, [(example.moved.keys, example.request_hashes) for example in found])
    sections = []
    for model, scorer in dict.fromkeys((example.moved.model, example.moved.scorer) for example in found):
        here = [example for example in found if (example.moved.model, example.moved.scorer) == (model, scorer)]
        worse, better = counts[model, scorer, True], counts[model, scorer, False]
        shown, more = [], []
        for losses in (True, False):
            articles = [
                _changed_answer(example, before, after)
                for example in here
                if (example.moved.after < example.moved.before) == losses
            ]
            shown += articles[: _at_once(pairs)]
            more += articles[_at_once(pairs) :]
        note = f"{worse:,} worse and {better:,} better; {len(shown):,} of {worse + better:,} shown"
        sections.append(Section(f"{clean(model, 60)} · {scorer}", note, worse + better, shown, more))
    return Answers(sections, after.missing or before.missing)


def rewritten_parts(diff: Diff) -> Answers:
    """Return the first answers whose text differs between two runs without scores, beside the earlier ones."""
    found = rewritten_answers(diff, _MAX_PAGE)
    before, after = _prompts_of_both(diff, [(answer.result.keys, answer.request_hashes) for answer in found])
    models = list(dict.fromkeys(answer.result.model for answer in found))
    left_out = diff.rewritten_count - len(found)
    sections = []
    for model in models:
        articles = [_rewritten(answer, before, after) for answer in found if answer.result.model == model]
        shown = articles[: 2 * _at_once(len(models))]
        note = f"{len(shown):,} of {len(articles):,} shown" + (
            f"; {left_out:,} more in all models together are left out" if left_out else ""
        )
        sections.append(Section(clean(model, 60), note, len(articles), shown, articles[len(shown) :]))
    return Answers(sections, after.missing or before.missing)


def _prompts_of_both(
    diff: Diff, found: Sequence[tuple[tuple[Key, Key], tuple[str, str]]]
) -> tuple[SentPrompts, SentPrompts]:
    """Return the earlier prompts, of results whose request has changed, and the later prompts of all.

    `found` are the keys and the request hashes of results, in the earlier and in the later run.
    """
    before = _prompts(diff.before, ((keys[0], hashes[0]) for keys, hashes in found if hashes[0] != hashes[1]))
    return before, _prompts(diff.after, ((keys[1], hashes[1]) for keys, hashes in found))


def low_answers(folder: Path) -> Answers:
    """Return the answers of a run with the lowest scores below 1."""
    found = low_scores(folder, _MAX_PAGE)
    pairs = max(1, len(found.counts))
    prompts = _prompts(folder, ((_key_of(one), one.answer.request_hash) for one in found.lowest))
    sections = []
    for (model, scorer), count in sorted(found.counts.items()):
        here = [one for one in found.lowest if (one.model, one.scorer) == (model, scorer)]
        articles = [_low_answer(one, prompts) for one in here[: max(10, _MAX_PAGE // pairs)]]
        shown = articles[: _at_once(pairs)]
        note = f"{count:,} with a score below 1; {len(shown):,} of {count:,} shown"
        sections.append(Section(f"{clean(model, 60)} · {scorer}", note, count, shown, articles[len(shown) :]))
    return Answers(sections, prompts.missing)


def _at_once(pairs: int) -> int:
    return max(1, min(3, _SHOWN // pairs))


def _key_of(low: LowAnswer) -> Key:
    return (low.row, low.model, low.sample)


def _prompts(folder: str | Path, hashes: Iterable[tuple[Key, str]]) -> SentPrompts:
    return sent_prompts(Path(folder), {key: found for key, found in hashes if found})


def _changed_answer(example: Example, before: SentPrompts, after: SentPrompts) -> dict[str, Any]:
    change = example.moved
    return {
        **_both_answers(example, change.keys, before, after),
        "title": _title(change.row, example.custom_id, change.sample),
        "score": f"{change.before:.3g} → {change.after:.3g}",
        "tone": "bad" if change.after < change.before else "good",
    }


def _rewritten(answer: RewrittenAnswer, before: SentPrompts, after: SentPrompts) -> dict[str, Any]:
    result = answer.result
    return {
        **_both_answers(answer, result.keys, before, after),
        "title": _title(result.row, answer.custom_id, result.sample),
        "score": "another text",
        "tone": "faint",
    }


def _both_answers(
    answer: Example | RewrittenAnswer, keys: tuple[Key, Key], before: SentPrompts, after: SentPrompts
) -> dict[str, Any]:
    return {
        "columns": _columns(answer.columns),
        "prompt": _turns(after, keys[1]),
        "earlier_prompt": _turns(before, keys[0]),
        "before": _text(answer.before),
        "after": _text(answer.after),
    }


def _low_answer(result: LowAnswer, prompts: SentPrompts) -> dict[str, Any]:
    return {
        "title": _title(result.row, result.answer.custom_id, result.sample),
        "score": figure(result.score),
        "tone": "bad",
        "columns": _columns(result.answer.columns),
        "prompt": _turns(prompts, _key_of(result)),
        "earlier_prompt": [],
        "text": _text(result.answer.text),
        **{name: _text(getattr(result, name) or "", 300) for name in ("target", "extracted", "explanation")},
    }


def _title(row: int, custom_id: str | None, sample: int) -> str:
    name = f" ({clean(custom_id, 60)})" if custom_id else ""
    return f"row {row}{name}" + (f", sample {sample}" if sample else "")


def _columns(columns: dict[str, Any]) -> list[dict[str, str]]:
    shown = ((name, value) for name, value in columns.items() if value is not None)
    return [
        {
            "name": clean(name, 60),
            "value": _text(value if isinstance(value, str) else json.dumps(value, default=str), 400),
        }
        for name, value in shown
    ]


def _turns(prompts: SentPrompts, key: Key) -> list[dict[str, str]]:
    turns = prompts.turns.get(key, ())
    left_out = len(turns) - _MAX_TURNS
    first = [{"role": "", "text": f"… {left_out:,} earlier messages"}] if left_out > 0 else []
    return first + [
        {"role": clean(turn.role, 40), "text": _text(turn.text, _PROMPT_CHARS)} for turn in turns[-_MAX_TURNS:]
    ]


def _text(text: str, max_chars: int = _TEXT_CHARS) -> str:
    """Return text from a row, shortened to `max_chars`. Control characters except line breaks are escaped."""
    more = f"… ({len(text):,} characters)" if len(text) > max_chars else ""
    return "\n".join(clean(line.expandtabs(4), 10 * max_chars) for line in text[:max_chars].splitlines()) + more
