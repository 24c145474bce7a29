"""Judges with labels, with several models, over pairs, by JSON, and with the verdicts of earlier nights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from batchmix.cli import cli
from batchmix.cli.tables import metrics_lines
from batchmix.comparison.alarms import missed_thresholds
from batchmix.comparison.run_diff import compare_runs
from batchmix.engine.plan import plan_run
from batchmix.engine.run import Options
from batchmix.engine.run_status import RunStatus
from batchmix.errors import JobError, RunError
from batchmix.evaluation.judge import JudgeContext
from batchmix.evaluation.judge_plans import judge_plans
from batchmix.job import read_job
from batchmix.redact import Secrets
from batchmix.reports.report_page import write_report
from batchmix.verdict.evaluate_run import prepare_scorers
from batchmix.verdict.outcome import Evaluation, PreparedEvaluation, evaluated
from tests.conftest import EvalBench

ECHO = "[[rehearsal:echo]] {{ response }}."


def judge_of(**settings: Any) -> dict[str, Any]:
    """Return the settings of a judge that repeats its rubric."""
    return {"kind": "judge", "model": "j", "rubric": f"{ECHO} Verdict: {{{{ points }}}}", **settings}


@pytest.fixture
def judged(evaluated: EvalBench) -> EvalBench:
    evaluated.settings["input"]["prompt"] = "{{ text }}"
    evaluated.write_said([{"text": text, "points": "PASS" if n % 2 else "FAIL"} for n, text in enumerate("abcdef")])
    evaluated.settings["eval"] = {"scorers": [judge_of(labels=["PASS", "FAIL"])]}
    return evaluated


def test_a_judge_gives_labels_and_their_scores(judged: EvalBench) -> None:
    judged.run()
    judged.evaluate()
    assert [(row["score"], row["extracted"]) for row in judged.scores()] == [(0, "FAIL"), (1, "PASS")] * 3


@pytest.mark.parametrize("form", ["nonce", "json"])
def test_a_judge_that_follows_the_form_always_has_a_verdict(judged: EvalBench, form: str) -> None:
    judge = {"kind": "judge", "model": "j", "rubric": "{{ response }}", "scale": [1, 5], "form": form}
    judged.settings["eval"] = {"scorers": [judge]}
    judged.run()
    found = judged.evaluate()
    assert found.judges[0].ok == 6
    assert all(1 <= float(row["extracted"]) <= 5 for row in judged.scores())
    judged.evaluate()
    assert judged.standin.request_count() == 12


def test_the_majority_of_several_judges_counts(judged: EvalBench) -> None:
    rubric = f"{ECHO} Verdict: {{{{ points }}}}"
    judged.settings["eval"] = {
        "scorers": [judge_of(model="", models=["a", "b", "c"], labels=["PASS", "FAIL"], rubric=rubric)]
    }
    judged.run()
    found = judged.evaluate()
    assert (found.judges[0].model, found.judges[0].ok, found.judges[0].disagreement) == ("a, b, c", 18, 0)
    assert [row["score"] for row in judged.scores()] == [0, 1] * 3
    assert judged.standin.request_count() == 6 + 18


def test_judges_that_differ_are_counted_and_their_median_is_taken(judged: EvalBench) -> None:
    judge = {"kind": "judge", "models": ["a", "b", "c"], "rubric": "{{ response }}", "scale": [1, 5]}
    judged.settings["eval"] = {"scorers": [judge]}
    judged.run()
    found = judged.evaluate()
    assert 0 < (found.judges[0].disagreement or 0) <= 1
    for row in judged.scores():
        grades = sorted(part.rpartition(": ")[2] for part in row["explanation"].split("\n") if "VERDICT" in part)
        assert len(grades) == 3
        assert row["extracted"] == grades[1]


def _other_run(judged: EvalBench, name: str) -> Path:
    here = judged.out
    judged.out = judged.root / name
    judged.settings["output"] = {**judged.settings.get("output", {}), "path": str(judged.out)}
    judged.settings["name"] = judged.settings.get("name", "job")
    judged.run()
    other, judged.out = judged.out, here
    judged.settings["output"]["path"] = str(here)
    return other


def test_pairs_are_judged_in_both_orders(judged: EvalBench) -> None:
    """A judge that always says A only prefers what comes first."""
    judged.settings["name"] = "pairs"
    judged.settings["eval"] = {"scorers": [{"kind": "exact", "target": "points"}]}
    other = _other_run(judged, "other")
    rubric = "[[rehearsal:echo]] A: {{ response }} B: {{ other }}\nVerdict: A"
    judged.settings["input"]["prompt"] = "Now {{ text }}"
    judged.settings["eval"] = {"scorers": [judge_of(rubric=rubric, against=str(other))]}
    judged.run()
    found = judged.evaluate()
    [usage] = found.judges
    assert (usage.ok, usage.contradicted, usage.position_bias) == (12, 1, 1)
    assert [(row["score"], row["extracted"], row["target"]) for row in judged.scores()] == [
        (0.5, "TIE", "compared")
    ] * 6


def test_the_better_answer_of_a_pair_wins_in_either_order(judged: EvalBench) -> None:
    """The judge repeats a rubric that names the longer answer."""
    judged.settings["name"] = "pairs"
    judged.settings["input"]["prompt"] = "[[rehearsal:echo]] {{ text }}"
    judged.settings["eval"] = {"scorers": [{"kind": "exact", "target": "points"}]}
    other = _other_run(judged, "other")
    judged.settings["input"]["prompt"] = "[[rehearsal:echo]] {{ text }} and much more"
    rubric = "{{ response }}\n{{ other }}\n\nVerdict: {% if response|length > other|length %}A{% else %}B{% endif %}"
    judged.settings["eval"] = {"scorers": [judge_of(rubric=rubric, against=str(other))]}
    judged.run()
    found = judged.evaluate()
    assert [row["score"] for row in judged.scores()] == [1.0] * 6
    assert (found.judges[0].contradicted, found.scores[0].score.mean) == (0, 1)


LONGER = "{{ response }}\n{{ other }}\n\nVerdict: {% if response|length > other|length %}A{% else %}B{% endif %}"
"""The rubric of a judge that prefers the longer answer, since the stand-in repeats it."""


def of_pairs(judged: EvalBench, words: list[str], against: list[str], **settings: Any) -> Evaluation:
    """Evaluate a run that says `words` by a judge that prefers the longer answer, against a run that says others."""
    judged.settings["name"] = "pairs"
    judged.settings["input"]["prompt"] = "{{ said }} [[rehearsal:echo]]"
    judged.settings["eval"] = {"scorers": [{"kind": "exact", "target": "half"}]}
    judged.write_said([{"said": text, "half": str(n % 2)} for n, text in enumerate(against)])
    other = _other_run(judged, "other")
    judged.write_said([{"said": text, "half": str(n % 2)} for n, text in enumerate(words)])
    judged.settings["eval"] = {
        "scorers": [judge_of(rubric=LONGER, against=str(other), **settings)],
        "group_by": ["half"],
    }
    judged.run()
    job = read_job(None, judged.settings, {})
    return evaluated(PreparedEvaluation(judged.out, JudgeContext(job, Secrets(), RunStatus()), prepare_scorers(job)))


def test_a_run_that_loses_in_pairs_is_worse_without_any_baseline(judged: EvalBench, tmp_path: Path) -> None:
    found = of_pairs(judged, ["a short one"] * 12 + ["the same"] * 8, ["a much longer one"] * 12 + ["the same"] * 8)
    alarm = "m: judge against other is 0.2000, less than 0.5000: the answers of that run are preferred"
    assert (found.baseline, [one.text for one in found.alarms]) == (None, [alarm])
    [score] = found.verdict.comparisons[:1]
    assert score.paired is not None
    assert (score.verdict, score.opponent, score.paired.before, score.paired.after) == ("worse", "other", 0.5, 0.2)
    assert [(one.verdict, one.group) for one in found.verdict.comparisons[1:]] == [
        ("same", {"half": "0"}),
        ("same", {"half": "1"}),
    ]
    ways_out = ["--junit", str(tmp_path / "junit.xml"), "--markdown", "-"]
    shown = CliRunner().invoke(cli, ["eval", str(judged.out), *ways_out], standalone_mode=False)
    assert shown.return_value == 1
    assert "| 🔴 worse | `m` | `judge against other` | 0.5000 | 0.2000 |" in shown.output
    assert 'name="judge against other not below one half"' in (tmp_path / "junit.xml").read_text()
    page = write_report(judged.out, None).read_text()
    assert "judge against other" in page
    assert "was 0.5" not in page, "one half is no score of an earlier run"
    diff = compare_runs(judged.out, judged.out)
    assert [one.text for one in diff.alarms if "judge" in one.text] == [alarm]


def test_a_run_that_wins_in_pairs_is_better(judged: EvalBench) -> None:
    assert of_pairs(judged, ["longer one"] * 12, ["short"] * 12).verdict.comparisons[0].verdict == "better"


def test_a_pair_of_the_same_answers_is_a_tie_for_which_no_judge_is_asked(judged: EvalBench) -> None:
    found = of_pairs(judged, ["same"] * 9 + ["longer one"], ["same"] * 9 + ["short"])
    [usage] = found.metrics.judges
    assert (usage.ok, usage.same, usage.against) == (2, 9, "other")
    assert [row["score"] for row in judged.scores()] == [0.5] * 9 + [1.0]
    assert judged.scores()[0]["explanation"] == "both runs have the same answer"
    assert "9 pairs of the same answers, which no judge was asked about" in "\n".join(metrics_lines(found.metrics))


def test_pairs_that_lack_too_many_answers_are_not_compared(judged: EvalBench) -> None:
    """An answer that is missing in one of the runs is neither a loss nor a win, and is guarded by itself."""
    words = ["[[rehearsal:refusal]]"] * 3 + ["as long"] * 17
    found = of_pairs(judged, words, ["[[rehearsal:refusal]]"] * 3 + ["as long"] * 17)
    assert (found.metrics.scores[0].score.n, found.metrics.scores[0].score.mean, found.alarms) == (17, 0.5, ())
    judged.out = judged.root / "next"
    judged.settings["output"]["path"] = str(judged.out)
    found = of_pairs(judged, ["as long"] * 20, ["[[rehearsal:refusal]]"] * 3 + ["as long"] * 17)
    assert found.alarms[0].text == (
        "m: judge against other: only 17 of 20 results can be compared with the other run's: 3 without an answer in the"
        " other run"
    )


def test_a_night_is_compared_with_its_baseline(judged: EvalBench) -> None:
    """The first night has none, which is no fault; the second one has the first."""
    rubric = "[[rehearsal:echo]] A: {{ response }} B: {{ other }}\nVerdict: TIE"
    judged.settings["name"] = "nights"
    judged.settings["eval"] = {"scorers": [judge_of(rubric=rubric, pairwise=True)], "against": "last-good"}
    judged.run()
    first = judged.evaluate()
    assert (first.scores[0].score.n, first.scores[0].unscored, first.judges[0].ok) == (0, 0, 0)
    assert not missed_thresholds(first)
    judged.out = judged.root / "night-2"
    judged.settings["output"] = {"path": str(judged.out)}
    judged.settings["input"]["prompt"] = "Now {{ text }}"
    judged.run()
    second = judged.evaluate()
    assert (second.scores[0].score.mean, second.judges[0].ok) == (0.5, 12)
    diff = compare_runs(judged.root / "run", judged.out)
    scores = [(one.scorer, one.metric) for one in diff.comparisons if one.scorer]
    assert (scores, diff.changed, diff.left_out) == ([("judge", "score")], 0, ())


def test_rows_without_a_partner_have_no_score_and_are_no_fault(judged: EvalBench) -> None:
    judged.settings["name"] = "pairs"
    judged.settings["eval"] = {"scorers": [{"kind": "exact", "target": "points"}]}
    other = _other_run(judged, "other")
    judged.write_said([{"text": text, "points": "PASS"} for text in "abcdefgh"])
    rubric = "[[rehearsal:echo]] A: {{ response }} B: {{ other }}\nVerdict: A"
    judged.settings["eval"] = {"scorers": [judge_of(rubric=rubric, against=str(other))]}
    judged.run()
    found = judged.evaluate()
    assert (found.scores[0].score.n, found.scores[0].unscored, found.scores[0].no_target) == (6, 0, 2)
    assert "no answer to compare with" in judged.scores()[-1]["explanation"]
    judged.settings["eval"]["scorers"][0]["against"] = str(judged.root / "nowhere")
    with pytest.raises(RunError, match="nowhere"):
        judged.evaluate()
    judged.settings["eval"] = {"scorers": [judge_of(rubric=rubric, pairwise=True)]}
    with pytest.raises(JobError, match="name one with eval"):
        judged.evaluate()


def test_an_unchanged_night_pays_nothing_for_judging(judged: EvalBench) -> None:
    judged.settings["name"] = "nights"
    judge = {"kind": "judge", "model": "j", "rubric": "{{ response }}", "scale": [1, 5]}
    judged.settings["eval"] = {"scorers": [judge]}
    judged.settings["prices"] = {name: {"input": 1.0, "output": 1.0} for name in "mj"}
    judged.run()
    first = judged.evaluate()
    scores = [row["score"] for row in judged.scores()]
    asked = judged.standin.request_count()
    for night in ("night-2", "night-3"):
        judged.out = judged.root / night
        judged.settings["output"] = {"path": str(judged.out)}
        judged.run()
        found = judged.evaluate()
        assert [row["score"] for row in judged.scores()] == scores
        assert (found.judges[0].ok, found.judges[0].reused, found.judges[0].cost_usd or 0) == (6, 6, 0)
        asked += 6
        assert judged.standin.request_count() == asked
    assert (first.judges[0].reused, (first.judges[0].cost_usd or 0) > 0) == (0, True)
    judged.settings["eval"]["scorers"][0]["rubric"] = "Another one: {{ response }}"
    assert judged.evaluate().judges[0].reused == 0


def test_verdicts_of_other_jobs_and_damaged_ones_are_not_reused(judged: EvalBench) -> None:
    judged.settings["name"] = "nights"
    judged.settings["eval"] = {
        "scorers": [{"kind": "judge", "model": "j", "rubric": "{{ response }}", "scale": [1, 5]}]
    }
    judged.run()
    judged.evaluate()
    [part] = (judged.out / "evaluation" / "judge-judge" / "run" / "data").glob("*.parquet")
    judged.out = judged.root / "another"
    judged.settings |= {"name": "another", "output": {"path": str(judged.out)}}
    judged.run()
    assert judged.evaluate().judges[0].reused == 0
    part.write_bytes(part.read_bytes()[:100])
    judged.out = judged.root / "night-2"
    judged.settings |= {"name": "nights", "output": {"path": str(judged.out)}}
    judged.run()
    assert judged.evaluate().judges[0].reused == 0


def test_the_plan_counts_each_judge_and_both_orders(judged: EvalBench) -> None:
    judge = judge_of(model="", models=["a", "b"], rubric="{{ response }} {{ other }}", pairwise=True)
    judged.settings["eval"] = {"scorers": [judge], "against": "previous"}
    job = read_job(None, judged.settings, {})
    plans = judge_plans(job, plan_run(job, Options()))
    assert [(plan.model, plan.requests) for plan in plans] == [("a", 12), ("b", 12)]


def test_metrics_tell_how_far_judges_can_be_trusted(judged: EvalBench) -> None:
    judged.run()
    judged.evaluate()
    [usage] = json.loads((judged.out / "evaluation" / "metrics.json").read_text())["judges"]
    assert {"reused", "disagreement", "contradicted", "position_bias"} <= usage.keys()


def test_a_judge_is_asked_again_where_the_provider_rejected_the_request(judged: EvalBench) -> None:
    rubric = "[[rehearsal:400_contentx1]] [[rehearsal:echo]] {{ response }}. Verdict: PASS"
    judged.settings["eval"] = {"scorers": [judge_of(rubric=rubric, labels=["PASS", "FAIL"], model="j")]}
    judged.run()
    calls = [
        CliRunner().invoke(cli, ["eval", str(judged.out), *more], standalone_mode=False)
        for more in ([], [], ["--retry-rejected"])
    ]
    assert [call.return_value for call in calls] == [1, 1, 0], calls[2].output
    note = "judge: 6 requests to the judge were rejected; --retry-rejected sends them again"
    assert [note in call.output for call in calls] == [True, True, False]
    assert [f"j gave {count} verdicts" in call.output for call, count in zip(calls, (0, 0, 6), strict=True)] == [
        True
    ] * 3
    assert judged.standin.request_count() == 6 + 6 + 6


def test_refusals_of_a_judge_are_no_verdicts(judged: EvalBench) -> None:
    judged.settings["eval"] = {
        "scorers": [judge_of(rubric="[[rehearsal:refusal]] {{ response }}", labels=["PASS", "FAIL"])]
    }
    judged.run()
    [usage] = judged.evaluate().judges
    assert (usage.ok, usage.verdicts, usage.refused, usage.rejected) == (6, 0, 6, 0)
    assert "j gave 0 verdicts, refused 6 times, " in "\n".join(metrics_lines(judged.evaluate()))


def test_the_next_night_asks_again_where_no_verdict_could_be_read(judged: EvalBench) -> None:
    rubric = "[[rehearsal:{{ kind }}x1]] [[rehearsal:echo]] {{ response }}. Verdict: PASS"
    judged.write_said(
        [{"text": name, "kind": kind} for name, kind in zip("abc", ("refusal", "blank", "echo"), strict=True)]
    )
    judged.settings |= {"name": "nights", "eval": {"scorers": [judge_of(rubric=rubric, labels=["PASS", "FAIL"])]}}
    found = []
    for night in ("night-1", "night-2", "night-3"):
        judged.out = judged.root / night
        judged.settings["output"] = {"path": str(judged.out)}
        judged.run()
        [usage] = judged.evaluate().judges
        found.append((usage.verdicts, usage.reused))
    assert found == [(1, 0), (3, 1), (3, 3)]
