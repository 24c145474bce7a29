"""Any response becomes an answer or a failure, and any input becomes rows or a message."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.fuzzing import cases, outcome_of
from tests.fuzzing_runs import try_input
from tests.killing import fetch, provider

CASES = 4000


def test_every_body_and_every_stream_gives_an_answer_or_a_failure() -> None:
    """`python -m tests.benchmarks.fuzz` runs many more cases."""
    found = Counter((case.kind, outcome_of(case)) for case in cases(CASES, seed=20_261_124))
    assert found.total() == CASES
    assert {outcome for _, outcome in found} >= {"answer", "cut_off", "bad_answer", "empty", "web_page", "throttled"}
    assert all(found[kind, "answer"] >= 10 for kind in ("answer", "stream", "mutated", "mutated stream"))


def test_the_same_seed_gives_the_same_cases() -> None:
    assert cases(50, seed=1) == cases(50, seed=1) != cases(50, seed=2)


def test_damaged_inputs_end_with_a_message_or_in_a_whole_run(tmp_path: Path) -> None:
    """`python -m tests.benchmarks.fuzz` runs many more cases."""
    found: Counter[str] = Counter()
    with provider("") as url:
        for seed in range(20):
            folder = tmp_path / str(seed)
            folder.mkdir()
            found[try_input(seed, folder, url, lambda: fetch(url, "totals").get("requests", 0))] += 1
    assert found.total() == 20
    assert found["refused"] < 20
