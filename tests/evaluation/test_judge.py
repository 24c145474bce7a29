"""A judge runs as a job of its own: each answer is judged once, even after kills, and its grade is read."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest

from batchmix.cli.summary import state_lines
from batchmix.engine import reader
from batchmix.engine.plan import plan_run
from batchmix.engine.run import Options
from batchmix.errors import BudgetSpent, JobError, ProviderStopped
from batchmix.evaluation.judge_plans import judge_plans
from batchmix.job import read_job
from batchmix.load.template_check import rubric_columns
from batchmix.scorers.indirect import Judge
from batchmix.verdict.evaluate_run import prepare_scorers
from tests.conftest import EvalBench, Provider
from tests.killing import fetch, kill_until_done, provider

RUBRIC = "[[rehearsal:echo]] {{ text }} is {{ response }}, I say, score: {{ points }}"


@pytest.fixture
def judged(evaluated: EvalBench) -> EvalBench:
    judge = {"kind": "judge", "model": "j", "rubric": RUBRIC, "scale": [0.0, 4.0], "params": {"temperature": 0}}
    evaluated.settings["eval"] = {"scorers": [judge]}
    evaluated.settings["input"]["prompt"] = "{{ text }} [[rehearsal:echo]]"
    evaluated.write_said([{"text": text, "points": str(n % 5)} for n, text in enumerate("abcdefgh")])
    return evaluated


def test_each_answer_is_judged_exactly_once(judged: EvalBench) -> None:
    judged.run()
    found = judged.evaluate()
    assert [row["score"] for row in judged.scores()] == [0, 0.25, 0.5, 0.75, 1, 0, 0.25, 0.5]
    explanation = judged.scores()[1]["explanation"]
    assert explanation.startswith("[[rehearsal:echo]] b is b [[rehearsal:echo]], I say, score: 1\n\nHowever long")
    assert (found.judges[0].model, found.judges[0].ok) == ("j", 8)
    assert judged.standin.request_count() == 16
    judged.evaluate()
    assert judged.standin.request_count() == 16


def test_a_row_without_an_answer_is_judged_once_it_has_one(judged: EvalBench) -> None:
    judged.settings["retry"] = {"attempts": 1}
    judged.write_said([{"text": text, "points": "4"} for text in ("a", "[[rehearsal:500x1]]", "c", "d")])
    judged.run(limit=3)
    judged.evaluate()
    assert [row["score"] for row in judged.scores()] == [1, 0, 1]
    assert judged.standin.request_count() == 3 + 2
    judged.run()
    judged.evaluate()
    assert [row["score"] for row in judged.scores()] == [1, 1, 1, 1]
    prompts = [prompt for prompt in judged.standin.prompts() if "I say" in prompt]
    assert len(prompts) == len(set(prompts)) == 4


def test_a_later_answer_between_others_does_not_shift_scores(judged: EvalBench) -> None:
    del judged.settings["model"]
    judged.settings["models"] = [{"id": "fast"}, {"id": "slow", "limits": {"concurrency": 1}}]
    judged.settings["eval"]["scorers"][0]["rubric"] = (
        "[[rehearsal:echo]] {{ model }} {{ response }} score: {{ points }}"
    )
    judged.standin.behave("latency=0.1&balance=6")
    with pytest.raises(ProviderStopped):
        judged.run()
    judged.standin.behave()
    part = judged.evaluate()
    assert [found.score.n for found in part.scores] == sorted((found.score.n for found in part.scores), reverse=True)
    assert 0 < part.results < 16
    judged.run()
    judged.evaluate()
    assert [row["score"] for row in judged.scores()] == [n % 5 / 4 for n in range(8) for _ in range(2)]
    prompts = [prompt for prompt in judged.standin.prompts() if "score" in prompt]
    assert len(prompts) == len(set(prompts)) == 16


def test_each_sample_and_each_model_is_judged_separately(judged: EvalBench) -> None:
    del judged.settings["model"]
    judged.settings |= {"samples": 2, "models": [{"id": "m"}, {"id": "k"}]}
    judged.settings["eval"]["scorers"][0]["rubric"] = (
        "[[rehearsal:echo]] score: {{ points }} {{ model }} {{ response }}"
    )
    judged.run()
    judged.evaluate()
    scores = judged.scores()
    assert [row["score"] for row in scores] == [n % 5 / 4 for n in range(8) for _ in range(4)]
    assert all(f" {row['model']} " in row["explanation"] for row in scores)


def test_the_judge_is_shown_the_target_and_a_missing_column_is_named(judged: EvalBench) -> None:
    judged.settings["eval"]["target"] = "points"
    judged.settings["eval"]["scorers"][0]["rubric"] = "[[rehearsal:echo]] {{ response }} score: {{ target }}"
    judged.run()
    judged.evaluate()
    assert [(row["score"], row["target"]) for row in judged.scores()][:3] == [(0, "0"), (0.25, "1"), (0.5, "2")]
    judged.settings["eval"]["scorers"][0]["rubric"] = "{{ response }} {{ nothing }}"
    with pytest.raises(JobError, match="'nothing'"):
        judged.evaluate()
    judged.out = judged.root / "another"
    judged.settings["output"]["path"] = str(judged.out)
    with pytest.raises(JobError, match="'nothing'"):  # before anything is sent
        judged.run()
    assert not judged.out.exists()
    judged.settings["eval"]["scorers"][0]["rubric"] = "{{ response }"
    with pytest.raises(JobError, match="template"):
        judged.evaluate()


def test_the_cost_of_judging_is_in_the_plan_and_in_the_summary(judged: EvalBench) -> None:
    judged.settings["prices"] = {"m": {"input": 1.0, "output": 2.0}, "j": {"input": 10.0, "output": 20.0}}
    judged.settings["params"] = {"max_tokens": 40}
    judged.settings["eval"]["scorers"][0]["params"]["max_tokens"] = 60
    job = read_job(None, judged.settings, {})
    [before] = judge_plans(job, plan_run(job, Options()))
    assert (before.scorer, before.model, before.requests) == ("judge", "j", 8)
    judged.run()
    judged.evaluate()
    summary = json.loads((judged.out / "summary.json").read_text())
    found = summary["judges"]["judge"]
    assert found["ok"] == 8
    assert found["cost_usd"] == pytest.approx((10 * found["prompt_tokens"] + 20 * found["completion_tokens"]) / 1e6)
    assert (before.least_usd or 9) < found["cost_usd"] < (before.most_usd or 0)
    [after] = judge_plans(job, plan_run(job, Options()))
    assert (after.requests, after.least_usd) == (0, 0)
    assert any("judging" in line and "judge" in line for line in state_lines(reader.look(judged.out)))


def test_a_judge_may_spend_the_rest_of_the_budget(judged: EvalBench) -> None:
    judged.settings["prices"] = {name: {"input": 10.0, "output": 10.0} for name in "mj"}
    judged.settings["budget"] = {"max_usd": 100.0}
    view = judged.run()
    spent = view.totals.cost_usd or 0
    judged.settings["budget"] = {"max_usd": spent + 0.002}
    judged.settings["limits"] = {"concurrency": 1}
    judged.settings["eval"]["scorers"][0]["params"]["max_tokens"] = 60
    with pytest.raises(
        BudgetSpent, match=r"^judge judge: .* the run and other judges left of budget\.max_usd; raise it"
    ):
        judged.evaluate()
    summary = json.loads((judged.out / "summary.json").read_text())
    assert 0 < summary["judges"]["judge"]["cost_usd"] <= 0.002
    judged.settings["budget"] = {"max_usd": spent + 1}
    judged.settings["eval"]["scorers"][0]["max_usd"] = 0.00001
    with pytest.raises(BudgetSpent, match=r"fits into its max_usd in eval\.scorers, \$0\.000010; raise it"):
        judged.evaluate()
    del judged.settings["eval"]["scorers"][0]["max_usd"]
    judged.evaluate()
    assert len(judged.scores()) == 8
    assert (
        len({prompt for prompt in judged.standin.prompts() if "I say" in prompt}) == judged.standin.request_count() - 8
    )


def test_a_run_with_a_budget_and_an_unpriced_judge_is_refused_before_anything_is_sent(judged: EvalBench) -> None:
    judged.settings["eval"]["scorers"][0]["max_usd"] = 1.0
    with pytest.raises(JobError, match="no price is known for j"):
        prepare_scorers(read_job(None, judged.settings, {}))


def test_an_answer_that_was_cut_off_has_no_grade(judged: EvalBench) -> None:
    judged.write_said([{"text": "a", "points": "4"}])
    judged.settings["eval"]["scorers"][0]["rubric"] = "[[rehearsal:only_reasoning]] {{ response }} score: {{ points }}"
    judged.settings["input"]["prompt"] = "{{ text }}"
    judged.run()
    judged.evaluate()
    [score] = judged.scores()
    assert score["score"] is None
    assert "cut off" in score["explanation"]


JOB = """
name = "judged"
model = "m"
[input]
path = "rows.jsonl"
prompt = "{{{{ text }}}} [[rehearsal:echo]]"
[provider]
base_url = "{url}"
api_key_env = ""
[limits]
concurrency = 10
[output]
path = "{root}/run"
[[eval.scorers]]
kind = "judge"
model = "j"
form = "free"
rubric = "[[rehearsal:echo]] score: 1 for {{{{ response }}}} {{{{ place }}}}"
"""


def test_a_killed_judge_resumes_and_pays_for_nothing_twice(tmp_path: Path) -> None:
    with provider("latency=0.1-0.3") as url:
        standin = Provider(url)
        (tmp_path / "job.toml").write_text(JOB.format(url=url, root=tmp_path))
        rows = [{"text": f"q{n}", "place": str(n)} for n in range(100)]
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        batchmix = [sys.executable, "-m", "batchmix"]
        call = [*batchmix, "run", str(tmp_path / "job.toml"), "--progress", "none"]
        alone = [*batchmix, "eval", str(tmp_path / "run"), "--progress", "none"]
        kill_until_done(
            [[*call, "--set", "eval.scorers=[{kind='exact', target='text'}]"]], url, tmp_path / "run", 0, wait=(60, 60)
        )
        fetch(url, "reset", "")
        judge = tmp_path / "run" / "evaluation" / "judge-judge" / "run"
        outcome = kill_until_done([call, alone], url, judge, 5, number=signal.SIGKILL, wait=(0.6, 1.4))
        assert outcome.kills
        assert not outcome.repeated
        assert not outcome.unnamed
        assert len({prompt for prompt in standin.prompts() if "score: 1" in prompt}) == 100


def test_judging_under_a_budget_without_a_price_is_refused_before_anything_is_sent(judged: EvalBench) -> None:
    judged.settings["prices"] = {"m": {"input": 10.0, "output": 10.0}}
    judged.settings["budget"] = {"max_usd": 100.0}
    with pytest.raises(JobError, match="no price is known for j"):
        prepare_scorers(read_job(None, judged.settings, {}))


def test_a_rubric_names_any_column_and_shows_the_answer() -> None:
    """As in templates; a rubric that may read any column is given all of them."""

    def shown(rubric: str) -> frozenset[str]:
        return rubric_columns(Judge(model="j", name="j", rubric=rubric), None, ["Review Text", "n"])

    assert shown('{{ row["Review Text"] }} {{ response }}') >= {"Review Text"}
    assert shown("{{ row[response] }}") >= {"Review Text", "n"}
    assert shown("{{ row }} {{ response }}") >= {"row"}
    with pytest.raises(JobError, match="names 'zz', but there is no such column"):
        shown('{{ row["zz"] }}')
    with pytest.raises(JobError, match="j: the rubric does not use the response"):
        shown("Is it polite? score: 1")
