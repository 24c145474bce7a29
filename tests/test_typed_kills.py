"""Three models answer a job with a schema that is killed twice: the table and the account are as made by hand."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.typed_kills import check


def test_a_job_with_typed_answers_that_is_killed_twice_has_the_right_table_and_account(tmp_path: Path) -> None:
    assert "results" in check(tmp_path, 150, seed=5)
