"""How often the scorers agree with a careful person: python -m tests.benchmarks.scoring [FILE…].

A FILE has one labelled case in each line. Its keys tell what is tried:

- `kind`, `response`, `target`, `settings`, `expected`, `source_style`: a scorer's score for an answer. An `expected` of
  null means that no score can be given. `finish_reason` is `length` if the answer was cut off.
- `style`, `text`, `expected`: what a judge said, and its verdict on a scale from 1 to 5, or one of `labels`. An `expected`
  of null means that it gave no clear verdict; any other verdict than the expected one then counts as a wrong one.

Without FILE, the set in tests/scorers/ is tried. Every verdict that differs is printed, and whether a wrong answer
was scored as right, which is worse than no score. It takes seconds, and ends with 1 if a promise is broken.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from batchmix.job.eval_table import Scorer
from batchmix.scorers.grades import verdict_in
from batchmix.scorers.settings import ScorerSettings
from batchmix.scorers.verdict_values import LabelValues, ScaleValues

CORPORA = Path(__file__).parent.parent / "scorers"
FILES = (
    CORPORA / "labelled_answers.jsonl",
    CORPORA / "more_answers.jsonl",
    CORPORA / "misleading_answers.jsonl",
    CORPORA / "json_answers.jsonl",
    CORPORA / "text_answers.jsonl",
    CORPORA / "structured_answers.jsonl",
    CORPORA / "led_astray.jsonl",
    CORPORA / "settled_answers.jsonl",
    CORPORA / "labelled_verdicts.jsonl",
    CORPORA / "more_verdicts.jsonl",
)
JUDGE = "judge"
AGREEMENT, WRONG_RIGHT = 0.92, 0.01
"""What is promised: the least share of equal scores for each kind, and a bound on wrong answers scored as right."""


class Verdict(NamedTuple):
    """One case beside what a scorer says of it."""

    kind: str
    style: str
    text: str
    target: str
    expected: float | None
    given: float | None
    explanation: str

    @property
    def agrees(self) -> bool:
        """Whether the score is the expected one."""
        if self.expected is None or self.given is None:
            return self.expected is self.given
        return abs(self.expected - self.given) < 1e-9

    @property
    def is_wrong_right(self) -> bool:
        """Whether an answer that is not right was scored as right, or a judge's verdict was read that it did not give."""
        if self.kind == JUDGE:
            return self.given is not None and not self.agrees
        return self.given == 1 and self.expected != 1


def answer_verdict(case: dict[str, Any]) -> Verdict:
    """Score a labelled answer."""
    settings = {"kind": case["kind"], "name": case["kind"], **case["settings"]}
    scorer: ScorerSettings = msgspec.convert(settings, Scorer)
    row = {"finish_reason": case.get("finish_reason", "stop")}
    score = scorer.score_function()(case["response"], case["target"], row)
    told = f"{score.extracted!r} {score.explanation or ''}"
    shown = str(case["target"])
    return Verdict(case["kind"], case["source_style"], case["response"], shown, case["expected"], score.score, told)


def judge_verdict(case: dict[str, Any]) -> Verdict:
    """Read a labelled verdict of a judge. A label counts as its number among the labels."""
    labels = case.get("labels", [])
    values = LabelValues(dict.fromkeys(labels, 0.0)) if labels else ScaleValues(1, 5)
    value, reason = verdict_in(case["text"], values)
    expected, given = (labels.index(each) if isinstance(each, str) else each for each in (case["expected"], value))
    return Verdict(JUDGE, case["style"], case["text"], ", ".join(labels) or "1 to 5", expected, given, reason)


FORMATS: tuple[tuple[str, Callable[[dict[str, Any]], Verdict]], ...] = (
    ("response", answer_verdict),
    ("text", judge_verdict),
)
"""A key that only one format has, and the function that tries its cases."""


def verdicts(path: Path) -> Iterator[Verdict]:
    """Yield the verdict on each case of a file."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            case = json.loads(line)
            yield next(function for key, function in FORMATS if key in case)(case)


def broken_promises(found: Iterable[Verdict]) -> list[str]:
    """Return what is less than promised, as sentences."""
    by_kind: dict[str, list[Verdict]] = {}
    for verdict in found:
        by_kind.setdefault(verdict.kind, []).append(verdict)
    broken = []
    for kind, each in by_kind.items():
        agreed = sum(verdict.agrees for verdict in each) / len(each)
        if agreed < AGREEMENT:
            broken.append(f"{kind}: {agreed:.1%} agree, of at least {AGREEMENT:.0%}")
    everything = [verdict for each in by_kind.values() for verdict in each]
    wrong = sum(verdict.is_wrong_right for verdict in everything)
    if wrong >= WRONG_RIGHT * len(everything):
        broken.append(
            f"{wrong} of {len(everything)} answers are wrong and scored as right, of less than {WRONG_RIGHT:.0%}"
        )
    return broken


def _table(found: list[Verdict]) -> Iterator[str]:
    yield f"{'kind':10} {'cases':>6} {'agree':>7} {'wrong as right':>15} {'right as wrong':>15} {'no score':>9}"
    for kind in dict.fromkeys(verdict.kind for verdict in found):
        each = [verdict for verdict in found if verdict.kind == kind]
        agreed = sum(verdict.agrees for verdict in each) / len(each)
        missed = sum(verdict.expected == 1 and verdict.given == 0 for verdict in each)
        none = sum(verdict.given is None for verdict in each)
        wrong = sum(verdict.is_wrong_right for verdict in each)
        yield f"{kind:10} {len(each):6} {agreed:7.1%} {wrong:15} {missed:15} {none:9}"


def main() -> None:
    """Print the verdicts that differ, and the agreement of each kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, default=FILES, metavar="FILE")
    broken = []
    for path in parser.parse_args().files:
        found = list(verdicts(path))
        print(path)
        for verdict in found:
            if not verdict.agrees:
                sign = "WRONG AS RIGHT" if verdict.is_wrong_right else "differs"
                text = json.dumps(verdict.text, ensure_ascii=False)
                print(f"  {sign}: {verdict.kind}, {verdict.style}: {text} target {verdict.target!r}:", end=" ")
                print(f"{verdict.given}, not {verdict.expected}; {verdict.explanation}")
        print("\n".join(_table(found)), end="\n\n")
        broken += [f"{path.name}: {what}" for what in broken_promises(found)]
    print("\n".join(broken) or "as promised")
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
