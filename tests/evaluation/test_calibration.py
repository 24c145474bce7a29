"""How far scores agree with people: agreement, kappa, rates, and what belongs to no answer."""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest
from click.testing import CliRunner

from batchmix.cli.calibrate import command
from batchmix.errors import InputError, RunError, UsageError
from batchmix.evaluation.calibration import calibrated
from batchmix.statistics.kappa import cohen_kappa
from tests.conftest import EvalBench


def test_kappa_is_that_of_the_textbook() -> None:
    """50 applications, read by two readers: 20 both yes, 15 both no, 5 and 10 mixed. By hand: (0.7 - 0.5) / 0.5."""
    table = {("yes", "yes"): 20, ("yes", "no"): 5, ("no", "yes"): 10, ("no", "no"): 15}
    assert cohen_kappa(table) == pytest.approx(0.4)


def test_weighted_kappa_counts_how_far_grades_are_apart() -> None:
    """Three pairs, by hand: the weighted disagreement is 1, and by chance it would be 4."""
    table = {("1", "1"): 1, ("2", "3"): 1, ("3", "3"): 1}
    values = {"1": 1.0, "2": 2.0, "3": 3.0}
    by_chance = sum((a - b) ** 2 for a in (1, 2, 3) for b in (1, 3, 3)) / 3
    assert cohen_kappa(table, values) == pytest.approx(1 - 1 / by_chance)


@hypothesis.given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1))
def test_kappa_is_that_of_its_definition(pairs: list[tuple[int, int]]) -> None:
    """Against the sums over pairs, rather than over a table."""
    table = Counter((str(first), str(second)) for first, second in pairs)
    for values, distance in (
        (None, lambda a, b: float(a != b)),
        ({str(grade): float(grade) for grade in range(1, 6)}, lambda a, b: float((a - b) ** 2)),
    ):
        observed = sum(distance(first, second) for first, second in pairs) / len(pairs)
        expected = sum(distance(first, second) for first, _ in pairs for _, second in pairs) / len(pairs) ** 2
        found = cohen_kappa(table, values)
        assert found == (pytest.approx(1 - observed / expected) if expected else None)


def test_nothing_to_agree_on_has_no_kappa() -> None:
    assert cohen_kappa({}) is None
    assert cohen_kappa({("a", "a"): 3}) is None


def write_labels(path: Path, rows: list[dict[str, Any]]) -> str:
    """Write labels as CSV."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


@pytest.fixture
def judged(evaluated: EvalBench) -> EvalBench:
    """A run whose judge gives 1, 2, 3, 4, 5, 1, 2, 3."""
    evaluated.settings["input"]["prompt"] = "{{ text }}"
    evaluated.write_said([{"text": text, "points": n % 5 + 1} for n, text in enumerate("abcdefgh")])
    rubric = "[[rehearsal:echo]] {{ response }}. Score: {{ points }}"
    judge = {"kind": "judge", "model": "j", "rubric": rubric, "scale": [1, 5]}
    evaluated.settings["eval"] = {"scorers": [judge]}
    evaluated.run()
    evaluated.evaluate()
    return evaluated


def test_grades_are_compared_with_grades(judged: EvalBench) -> None:
    grades = [1, 2, 3, 5, 4, 1, 2, 3]
    rows = [{"row": n, "label": grade} for n, grade in enumerate(grades)] + [{"row": 99, "label": 1}]
    found = calibrated(judged.out, write_labels(judged.root / "labels.csv", rows))
    [scorer] = found.scorers
    assert (scorer.n, scorer.agreement, scorer.weighted, scorer.unscored) == (8, 0.75, True, 0)
    by_chance = sum((a - b) ** 2 for a in grades for b in (1, 2, 3, 4, 5, 1, 2, 3)) / 8
    assert scorer.kappa == pytest.approx(1 - 2 / by_chance)
    assert (scorer.true_positive_rate, scorer.false_positive_rate) == (1, 0)
    assert (found.labels, found.missing, found.missing_count) == (9, ("row=99",), 1)
    assert [(one.label, one.score, one.count) for one in scorer.confusion] == [
        ("1", "1", 2), ("2", "2", 2), ("3", "3", 2), ("4", "5", 1), ("5", "4", 1),
    ]  # fmt: skip


def test_words_are_compared_with_grades_at_the_threshold(judged: EvalBench) -> None:
    words = ["bad", "bad", "good", "good", "bad", "good", "bad", "good"]  # the judge: 1 2 3 4 5 1 2 3
    rows = [{"row": n, "label": word} for n, word in enumerate(words)]
    path = write_labels(judged.root / "labels.csv", rows)
    [scorer] = calibrated(judged.out, path).scorers
    assert (scorer.true_positive_rate, scorer.false_positive_rate, scorer.agreement) == (0.75, 0.25, 0.75)
    assert scorer.kappa == pytest.approx(0.5)
    [strict] = calibrated(judged.out, path, threshold=0.75).scorers
    assert (strict.true_positive_rate, strict.false_positive_rate) == (0.25, 0.25)


def test_labels_of_a_judge_are_compared_with_those_of_people(judged: EvalBench) -> None:
    rubric = "[[rehearsal:echo]] {{ response }}. Verdict: {% if points > 2 %}PASS{% else %}FAIL{% endif %}"
    judge = {"kind": "judge", "model": "j", "name": "p", "rubric": rubric, "labels": ["PASS", "FAIL"]}
    judged.settings["eval"] = {"scorers": [judge, {"kind": "regex", "pattern": "[a-z]"}]}
    judged.evaluate()
    words = ["fail", "pass", "PASS", "pass", "fail", "FAIL", "fail", "pass"]
    path = write_labels(judged.root / "labels.csv", [{"row": n, "label": word} for n, word in enumerate(words)])
    judge_found, regex = calibrated(judged.out, path).scorers
    assert (judge_found.agreement, judge_found.kappa, judge_found.weighted) == (0.75, 0.5, False)
    assert {(one.label, one.score) for one in judge_found.confusion} == {
        ("PASS", "PASS"), ("PASS", "FAIL"), ("FAIL", "FAIL"), ("FAIL", "PASS"),
    }  # fmt: skip
    assert (regex.scorer, regex.agreement, regex.kappa) == ("regex", 0.5, 0)


def test_an_answer_without_a_score_or_with_other_words_is_left_out(judged: EvalBench) -> None:
    judged.settings["eval"]["scorers"][0]["rubric"] = (
        "[[rehearsal:echo]] {{ response }}.{% if points > 1 %} Score: {{ points }}{% endif %}"
    )
    judged.evaluate()
    rows = [{"row": n, "label": 3, "response": "another answer" if n == 7 else ""} for n in range(8)]
    rows = [
        row if row["response"] else {**row, "response": answer}
        for row, answer in zip(rows, _answers(judged), strict=True)
    ]
    found = calibrated(judged.out, write_labels(judged.root / "labels.csv", rows))
    assert (found.scorers[0].n, found.scorers[0].unscored, found.missing) == (5, 2, ("row=7",))


def _answers(judged: EvalBench) -> list[str]:
    from batchmix.engine import reader

    return [row["response"] for batch in reader.results(judged.out, ["response"]) for row in batch.to_pylist()]


def test_labels_that_mean_nothing_are_named(judged: EvalBench) -> None:
    path = judged.root / "labels.csv"
    with pytest.raises(RunError, match=r"labels.csv:2: the label 'lovely' is neither"):
        calibrated(judged.out, write_labels(path, [{"row": 0, "label": "lovely"}]))
    with pytest.raises(RunError, match=r"labels.csv:2: the label 9 is not on the judge's scale"):
        calibrated(judged.out, write_labels(path, [{"row": 0, "label": 9}]))
    with pytest.raises(InputError, match="no column"):
        calibrated(judged.out, write_labels(path, [{"row": 0, "mark": 1}]))
    with pytest.raises(RunError, match="has not been evaluated"):
        calibrated(judged.root / "nowhere", str(path))


def test_numbers_that_may_be_grades_or_mean_good_and_bad_are_refused(judged: EvalBench) -> None:
    path = judged.root / "labels.csv"
    for labels, message in (
        (
            ["1", "good", "5"],
            r"labels.csv:3: the label 'good' is a word, and '1' \(.*labels.csv:2\) a number, so it",
        ),
        (["good", "5"], r"labels.csv:2: the label 'good' is a word, and '5' \(.*labels.csv:3\) a number"),
        (
            ["1", "1"],
            r"labels.csv:2: the label '1' may be a grade from 1 to 5 of judge, or mean good or bad; write good",
        ),
        (["1", "nan"], r"labels.csv:3: the label 'nan' is a word"),
    ):
        written = write_labels(path, [{"row": n, "label": label} for n, label in enumerate(labels)])
        with pytest.raises(RunError, match=message):
            calibrated(judged.out, written)
    [binary] = calibrated(judged.out, write_labels(path, [{"row": n, "label": n % 2} for n in range(8)])).scorers
    assert {one.label for one in binary.confusion} == {"good", "bad"}, "0 is no grade, so 1 is none either"
    judged.settings["eval"] = {"scorers": [{"kind": "regex", "pattern": "[a-z]"}]}
    judged.evaluate()
    mixed = write_labels(path, [{"row": n, "label": label} for n, label in enumerate(["1", "good", "0", "bad"])])
    assert calibrated(judged.out, mixed).scorers[0].agreement == 0.5, "a scorer from 0 to 1 has no other grades"
    for threshold in (math.nan, -0.1, 1.5):
        with pytest.raises(UsageError, match=r"threshold: .* is no score from 0 to 1"):
            calibrated(judged.out, mixed, threshold=threshold)


def test_the_command_shows_all_figures(judged: EvalBench) -> None:
    rows = [{"row": n, "label": grade} for n, grade in enumerate([1, 2, 3, 5, 4, 1, 2, 3])] + [{"row": 99, "label": 1}]
    path = write_labels(judged.root / "labels.csv", rows)
    done = CliRunner().invoke(command, [str(judged.out), path], standalone_mode=False)
    assert done.return_value == 0
    assert "judge: 8 answers with a label and a score" in done.output
    assert "agreement        75.0%" in done.output
    assert "1 label without such an answer in the run: row=99" in done.output
    done = CliRunner().invoke(command, [str(judged.out), path, "--json"], standalone_mode=False)
    assert json.loads(done.output)["scorers"][0]["agreement"] == 0.75


def test_labels_of_no_answer_of_the_run_are_refused(judged: EvalBench, tmp_path: Path) -> None:
    path = write_labels(tmp_path / "labels.csv", [{"custom_id": "nobody", "label": 1}])
    with pytest.raises(RunError, match="none of its 1 label is that of an answer"):
        calibrated(judged.out, path)


def test_grades_are_not_compared_with_scores_of_another_scale(judged: EvalBench, tmp_path: Path) -> None:
    path = write_labels(tmp_path / "labels.csv", [{"row": n, "label": 5} for n in range(8)])
    judged.settings["eval"]["scorers"].append({"kind": "regex", "pattern": "[a-z]"})
    judged.evaluate()
    assert [scorer.scorer for scorer in calibrated(judged.out, path).scorers] == ["judge"]
    judged.settings["eval"]["scorers"].pop(0)
    judged.evaluate()
    with pytest.raises(RunError, match="on another scale"):
        calibrated(judged.out, path)
