"""Whatever a provider sends comes to an answer or to a failure."""

from __future__ import annotations

from collections import Counter

from tests.fuzzing import cases, outcome_of

CASES = 4000


def test_every_answer_and_every_stream_ends_as_answer_or_failure() -> None:
    """The long run of the same is `python -m tests.benchmarks.fuzz`."""
    found = Counter((case.kind, outcome_of(case)) for case in cases(CASES, seed=20_261_124))
    assert found.total() == CASES
    assert {outcome for _, outcome in found} >= {"answer", "cut_off", "bad_answer", "empty", "web_page", "throttled"}
    assert all(found[kind, "answer"] >= 10 for kind in ("answer", "stream", "mutated", "mutated stream"))


def test_the_same_seed_gives_the_same_cases() -> None:
    assert cases(50, seed=1) == cases(50, seed=1) != cases(50, seed=2)
