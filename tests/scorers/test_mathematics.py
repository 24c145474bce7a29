"""Mathematical expressions are compared by their value, and one that takes too long is stopped."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchmix.evaluation.custom_scorer import CustomScorer
from batchmix.scorers.indirect import Custom

pytest.importorskip("math_verify")


def test_formulas_are_compared_by_their_value_within_a_time(tmp_path: Path) -> None:
    scorer = CustomScorer(
        Custom(name="own", python="batchmix.scorers.mathematics:equal_formulas", timeout_s=5), tmp_path
    )
    found = scorer.scores(
        [
            ("The answer is $\\sqrt{8}$.", "2\\sqrt{2}", {}),
            ("\\boxed{\\frac{\\sqrt{3}}{2}}", "\\sqrt{3}/2", {}),
            ("$\\boxed{2\\pi}$", "2\\pi", {}),
            ("\\boxed{3}", "\\sqrt{2}", {}),
            ("I don't know.", "\\sqrt{2}", {}),
            ("$9^{9^{9^{9}}}$", "3", {}),
        ]
    )
    assert [score.score for score in found] == [1, 1, 1, 0, 0, None]
    assert "took longer than 5 s" in (found[-1].explanation or "")
