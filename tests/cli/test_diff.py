"""diff on the command line: what can't be compared is exit code 1 and named, and prompts and models can be compared."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from tests.calling import batchmix, refused
from tests.conftest import Provider

ROWS = 80
JOB: dict[str, Any] = {
    "name": "night",
    "models": [{"id": "gpt-a", "name": "m"}],
    "input": {"path": "rows.jsonl", "prompt": "[[rehearsal:echo]] {{ said }}"},
    "eval": {"target": "answer", "scorers": [{"kind": "includes"}]},
}


class Runs:
    """Makes runs of a job that a test changes, by the command line."""

    def __init__(self, root: Path, url: str) -> None:
        self.root = root
        self.url = url

    def write(self, rows: list[dict[str, Any]], name: str = "rows.jsonl") -> None:
        """Write the rows of the next runs."""
        (self.root / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    def make(self, name: str, **changes: Any) -> Path:
        """Run the job, changed on its upper level, and return the run folder. A missed threshold is no mistake."""
        job = JOB | changes | {"provider": {"base_url": self.url, "api_key_env": ""}}
        settings = {key: value for key, value in job.items() if value is not None}
        (self.root / "job.toml").write_text(tomli_w.dumps(settings))
        done = batchmix("run", str(self.root / "job.toml"), "--out", str(self.root / "runs" / name))
        assert done.returncode in {0, 1}, done.stderr
        return self.root / "runs" / name


@pytest.fixture
def runs(tmp_path: Path, standin: Provider) -> Runs:
    made = Runs(tmp_path, standin.url)
    made.write([row(n) for n in range(ROWS)])
    return made


def row(n: int) -> dict[str, Any]:
    """Return a row that the first prompt gets right in 61 of 80 cases, and the second one in 29."""
    said = [f"number {n}" if n % ROWS < right else "nothing" for right in (61, 29)]
    return {"id": f"q{n}", "said": said[0], "poor": said[1], "answer": f"number {n}", "kind": "abcd"[n % 4]}


def compared(before: Path, after: Path, *options: str) -> tuple[int, str, dict[str, Any]]:
    """Return the exit code, the text, and the record of a diff."""
    text = batchmix("diff", str(before), str(after), *options)
    record = batchmix("diff", str(before), str(after), *options, "--json")
    assert record.returncode == text.returncode, text.stderr + record.stderr
    return text.returncode, text.stdout, json.loads(record.stdout)


def scorers(*tables: dict[str, Any]) -> dict[str, Any]:
    return {"eval": {"target": "answer", "scorers": list(tables)}}


def test_a_changed_prompt_is_compared_and_its_difference_shown(runs: Runs) -> None:
    before = runs.make("before")
    after = runs.make("after", input=JOB["input"] | {"prompt": "[[rehearsal:echo]] {{ poor }}", "system": "Hurry."})
    code, text, found = compared(before, after)
    assert code == 1
    assert "WORSE: m: includes -0.4000, from 0.7625 to 0.3625" in text
    assert (found["paired"], found["paired_by"], found["other_requests"]) == (80, "custom_id", 80)
    assert "- [[rehearsal:echo]] {{ said }}\n    + [[rehearsal:echo]] {{ poor }}" in text
    assert "system differs: none →" in text
    assert "+ Hurry." in text
    assert [alarm["kind"] for alarm in found["alarms"]] == ["worse"]
    long = "You are given a question about the world, and answer it. " * 8
    wordy = [runs.make(name, input=JOB["input"] | {"system": f"{long}{last}"}) for name in ("calm", "hurried")
             for last in [f"Be {name}."]]  # fmt: skip
    assert "    - Be calm.\n    + Be hurried." in compared(*wordy)[1]
    code, text, found = compared(before, after, "--same-request")
    assert (code, found["paired"], found["changed"], found["unpaired"]) == (1, 0, 80, 0)
    assert "NOT COMPARED: m: includes" in text


def test_another_model_under_the_same_name_is_compared_and_its_id_named(runs: Runs) -> None:
    before = runs.make("before")
    after = runs.make("after", models=[{"id": "gpt-b", "name": "m", "params": {"temperature": 0.5}}])
    code, text, found = compared(before, after)
    assert (code, found["paired"]) == (0, 80), text
    assert 'id of m differs: "gpt-a" → "gpt-b"' in text
    assert "temperature of m differs: none → 0.5" in text


def test_settings_that_do_not_change_the_scores_are_no_change_of_the_scorer(runs: Runs) -> None:
    before = runs.make("before", **willing_judge(runs.root))
    judge = willing_judge(runs.root)["eval"]["scorers"][0] | {
        "concurrency": 3,
        "requests_per_minute": 9e5,
        "target": "answer",
    }
    assert compared(before, runs.make("after", eval={"scorers": [judge]}))[0] == 0


def refusing_judge(root: Path) -> dict[str, Any]:
    return scorers({"kind": "judge", "model": "j", "rubric": "[[rehearsal:echo]] I can't judge that. {{ response }}"})


def willing_judge(root: Path) -> dict[str, Any]:
    return scorers({"kind": "judge", "model": "j", "rubric": "[[rehearsal:echo]] {{ response }}\nscore: 1"})


def own(root: Path) -> dict[str, Any]:
    rules = root / "rules.txt"
    rules.write_text("1.0")
    (root / "scoring.py").write_text(
        f"def fair(response, target, row):\n    return float(open({str(rules)!r}).read())\n"
    )
    return scorers({"kind": "own", "python": "scoring:fair"})


def own_that_raises(root: Path) -> dict[str, Any]:
    settings = own(root)
    (root / "rules.txt").unlink()
    return settings


def as_it_is(root: Path) -> dict[str, Any]:
    return {}


def renamed(root: Path) -> dict[str, Any]:
    return scorers({"kind": "includes", "name": "contains"})


def with_another_setting(root: Path) -> dict[str, Any]:
    return scorers({"kind": "includes", "casefold": False})


def two_models(root: Path) -> dict[str, Any]:
    return {"models": [{"id": "gpt-a", "name": "m"}, {"id": "gpt-b", "name": "other"}]}


def other_rows(root: Path) -> dict[str, Any]:
    rows = [row(n) | {"id": f"new{n}"} for n in range(ROWS)]
    (root / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {}


def other_targets(root: Path) -> dict[str, Any]:
    rows = [row(n) | {"answer": "number 1"} for n in range(ROWS)]
    (root / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {}


def without_scorers(root: Path) -> dict[str, Any]:
    return {"eval": None}


Change = Callable[[Path], dict[str, Any]]


@pytest.mark.parametrize(
    ("earlier", "later", "alarms"),
    [
        (
            as_it_is,
            renamed,
            [
                "NOT COMPARED: m: contains, unscored by contains: the earlier run has no such scores",
                "NOT COMPARED: m: includes, unscored by includes: the later run has no such scores",
            ],
        ),
        (as_it_is, with_another_setting, ["NOT COMPARED: m: includes, unscored by includes: the scorer has changed"]),
        (
            willing_judge,
            refusing_judge,
            ["MISSED: m: unscored by judge is 1, more than 0.1", "NOT COMPARED: m: judge, unscored by judge: the"],
        ),
        (
            own,
            own_that_raises,
            [
                "MISSED: m: unscored by own is 1, more than 0.1",
                "WORSE: m: unscored by own +100.0 points",
                "NOT COMPARED: m: own: none of 80 results can be compared with the other run's: 80 without a score",
            ],
        ),
        (
            two_models,
            as_it_is,
            [
                "NOT COMPARED: other: includes, answered, refused, empty, unscored by includes: the later run has no such model"
            ],
        ),
        (
            as_it_is,
            two_models,
            [
                "NOT COMPARED: other: includes, answered, refused, empty, unscored by includes: the earlier run has no such model"
            ],
        ),
        (
            as_it_is,
            other_rows,
            ["NOT COMPARED: m: includes, unscored by includes, answered, refused, empty: none of 80 results"],
        ),
        (as_it_is, other_targets, ["NOT COMPARED: m: includes, unscored by includes: only 1 of 80 results"]),
        (without_scorers, as_it_is, ["NOT COMPARED: m: includes, unscored by includes: the earlier run has no such"]),
        (as_it_is, without_scorers, ["NOT COMPARED: m: includes, unscored by includes: the later run has no such"]),
    ],
)
def test_what_cannot_be_compared_is_exit_code_1_and_named(
    earlier: Change, later: Change, alarms: list[str], runs: Runs
) -> None:
    before = runs.make("before", **earlier(runs.root))
    after = runs.make("after", **later(runs.root))
    code, text, found = compared(before, after)
    assert code == 1
    for alarm in alarms:
        assert alarm in text
    assert len(found["alarms"]) == len(alarms), text
    assert not found["passed"]
    assert "no guarded metric is significantly worse" not in text


def test_a_run_of_which_too_few_rows_are_left_is_not_compared_unless_that_is_enough(runs: Runs) -> None:
    before = runs.make("before")
    runs.write([row(n) for n in range(ROWS // 2)])
    after = runs.make("after")
    code, text, _ = compared(before, after)
    assert code == 1
    assert "only 40 of 80 results can be compared with the other run's" in text
    enough = runs.make("enough", eval=JOB["eval"] | {"min_paired": 0.5})
    assert compared(before, enough)[0] == 0


def test_a_scorer_that_raises_is_exit_code_1_of_run_and_eval_too(runs: Runs) -> None:
    made = runs.make("made", **own_that_raises(runs.root))
    again = batchmix("eval", str(made), str(runs.root / "job.toml"))
    assert again.returncode == 1
    assert "MISSED: m: unscored by own is 1, more than 0.1" in again.stdout


def test_rows_are_paired_by_custom_id_in_any_order_and_by_row_without(runs: Runs) -> None:
    before = runs.make("before")
    runs.write([row(n) for n in reversed(range(ROWS))])
    code, _, found = compared(before, runs.make("after"))
    assert (code, found["paired"], found["moved"], found["paired_by"]) == (0, 80, 0, "custom_id")
    runs.write([{key: value for key, value in row(n).items() if key != "id"} for n in range(ROWS)])
    code, text, found = compared(before, runs.make("bare"))
    assert (code, found["paired"], found["paired_by"]) == (0, 80, "row")
    assert "80 results in pairs by row" in text
    runs.write([row(n) | {"id": n} for n in range(ROWS)])
    before = runs.make("numbers")
    runs.write([row(n) | {"id": n} for n in reversed(range(ROWS))])
    assert compared(before, runs.make("reversed"))[2]["paired_by"] == "custom_id"
    runs.write([row(n) | {"id": "same"} for n in range(ROWS)])
    assert compared(before, runs.make("twice"))[2]["paired_by"] == "row"


def test_moved_answers_are_those_of_the_row_in_each_run(runs: Runs) -> None:
    before = runs.make("before")
    runs.write([row(n) for n in reversed(range(ROWS))])
    after = runs.make("after", input=JOB["input"] | {"prompt": "[[rehearsal:echo]] {{ poor }}"})
    example = compared(before, after, "--show", "1")[2]["examples"][0]
    assert example["custom_id"] == "q60"
    assert (example["moved"]["row"], example["moved"]["before_row"]) == (19, 60)
    assert (example["before"], example["after"]) == ("[[rehearsal:echo]] number 60", "[[rehearsal:echo]] nothing")


def test_models_are_compared_under_other_names_and_within_a_run(runs: Runs) -> None:
    two = runs.make("two", **two_models(runs.root))
    code, text, found = compared(two, two, "--as", "m=other")
    assert (code, found["paired"]) == (0, 80), text
    assert "model other is compared with m of the same run" in text
    assert {(one["before_model"], one["model"]) for one in found["comparisons"]} == {("m", "other")}
    one = runs.make("one", models=[{"id": "gpt-c", "name": "new"}])
    code, text, found = compared(two, one, "--as", "other=new")
    assert (
        "NOT COMPARED: m: includes, answered, refused, empty, unscored by includes: the later run has no such model"
        in text
    )
    assert "'new'" not in text
    single = runs.make("single")
    code, text, found = compared(single, one)
    assert code == 0
    assert "model new is compared with m of the earlier run" in text
    refused(batchmix("diff", str(two), str(one), "--as", "other=nw"), "the later run has no model nw", "it has new")
    refused(batchmix("diff", str(two), str(one), "--as", "other"), "must be OLD=NEW")


def test_runs_without_scorers_are_compared_by_what_they_have(runs: Runs) -> None:
    before = runs.make("before", eval=None)
    after = runs.make("after", eval=None, input=JOB["input"] | {"prompt": "[[rehearsal:echo]] {{ poor }}"})
    code, text, found = compared(before, after, "--show", "1")
    assert code == 0
    assert [(one["metric"], one["verdict"]) for one in found["comparisons"]] == [
        ("answered", "same"),
        ("refused", "same"),
        ("empty", "same"),
        ("response_chars", ""),
        ("latency_s", ""),
    ]
    assert "32 answers with another text" in text
    assert found["rewritten"] == 32
    assert "m: row 29 (q29), sample 0\n  [[rehearsal:echo]] number 29" in text


def test_answers_that_have_become_empty_are_an_alarm_also_without_scorers(runs: Runs) -> None:
    said = JOB["input"] | {"prompt": "[[rehearsal:{{ kind }}]] {{ said }}"}
    runs.write([row(n) | {"kind": "echo"} for n in range(ROWS)])
    before = runs.make("before", eval=None, input=said)
    runs.write([row(n) | {"kind": "echo" if n % 4 else "blank"} for n in range(ROWS)])
    code, text, found = compared(before, runs.make("after", eval=None, input=said))
    assert (code, [alarm["metric"] for alarm in found["alarms"]]) == (1, ["empty"])
    assert "m: empty +25.0 points, from 0.0 % to 25.0 %" in text
    first = runs.make("first", input=said)  # with scorers, a first night of empty answers is none to build on
    missed = json.loads((first / "evaluation" / "verdict.json").read_text())["alarms"]
    assert [alarm["text"] for alarm in missed] == ["m: empty is 0.25, more than 0.1"]


def test_what_differs_in_rows_that_bring_their_prompts_is_shown_by_the_first(runs: Runs) -> None:
    runs.write([{"id": f"q{n}", "prompt": f"[[rehearsal:echo]] Add {n}.", "answer": f"{n}"} for n in range(20)])
    before = runs.make("before", input={"path": "rows.jsonl"})
    runs.write(
        [{"id": f"q{n}", "prompt": f"[[rehearsal:echo]] Sum {n}.", "answer": f"{n}"} for n in range(20)], "sums.jsonl"
    )
    after = runs.make("after", input={"path": "sums.jsonl"})
    code, text, found = compared(before, after)
    assert (code, found["paired"], found["other_requests"]) == (0, 20, 20), text
    assert [change["lines"] for change in found["request_changes"]] == [
        ["-user: [[rehearsal:echo]] Add 0.", "+user: [[rehearsal:echo]] Sum 0."]
    ]
    (runs.root / "rows.jsonl").unlink()
    assert compared(before, after)[2]["request_changes"] == []


def test_a_group_that_got_worse_is_an_alarm_beside_a_score_that_did_not(runs: Runs) -> None:
    grouped = {"eval": JOB["eval"] | {"group_by": ["kind"]}}
    many = [row(n) | {"said": f"number {n}", "kind": "abcdefghij"[n % 10]} for n in range(300)]
    runs.write(many)
    before = runs.make("before", **grouped)
    turned = [one | {"said": "nothing"} if one["kind"] == "c" and n % 3 == 2 else one for n, one in enumerate(many)]
    runs.write(turned)
    code, text, found = compared(before, runs.make("after", **grouped))
    assert code == 1
    assert "WORSE: m: includes of kind = c -0.3333, from 1.0000 to 0.6667" in text
    assert {alarm["group"]["kind"] for alarm in found["alarms"] if alarm["group"]} == {"c"}
    assert [group["verdict"] for group in found["groups"]] == ["same", "same", "worse", *["same"] * 7]


def test_with_clusters_a_document_that_goes_wrong_as_a_whole_is_one_change(runs: Runs) -> None:
    runs.write([row(n) | {"said": f"number {n}", "document": n // 10} for n in range(ROWS)])
    before = runs.make("before")
    runs.write([row(n) | {"said": f"number {n}" if n >= 10 else "", "document": n // 10} for n in range(ROWS)])
    assert compared(before, runs.make("rows"))[0] == 1
    clustered = runs.make("clustered", eval=JOB["eval"] | {"cluster": "document"})
    code, text, found = compared(before, clustered)
    assert (code, found["comparisons"][0]["paired"]["rows"]) == (0, 8), text


def test_weights_count_in_the_scores_that_are_compared(runs: Runs) -> None:
    runs.write([row(n) | {"said": f"number {n}", "weight": 0 if n < 20 else 1} for n in range(ROWS)])
    weighted = {"eval": JOB["eval"] | {"weight": "weight"}}
    before = runs.make("before", **weighted)
    runs.write([row(n) | {"said": f"number {n}" if n >= 20 else "", "weight": 0 if n < 20 else 1} for n in range(ROWS)])
    code, text, found = compared(before, runs.make("after", **weighted))
    assert (code, found["comparisons"][0]["paired"]["n"]) == (0, 60), text


def test_a_relative_bound_and_percentiles_of_the_latency_can_be_guarded(runs: Runs) -> None:
    guards = [{"metric": "latency_p90", "no_worse_by": "1000000%"}, {"no_worse_by": "60%"}]
    before = runs.make("before")
    poor = JOB["input"] | {"prompt": "[[rehearsal:echo]] {{ poor }}"}
    after = runs.make("after", input=poor, eval=JOB["eval"] | {"guards": guards})
    code, text, found = compared(before, after)
    assert code == 0, text
    verdicts = {one["metric"]: one["verdict"] for one in found["comparisons"] if one["verdict"]}
    assert verdicts["score"] == "same"
    assert verdicts["latency_p90"] in {"same", "better"}
    stricter = runs.make("stricter", input=poor, eval=JOB["eval"] | {"guards": [{"no_worse_by": "50%"}]})
    assert compared(before, stricter)[0] == 1
    job = (runs.root / "job.toml").read_text().replace("50%", "ten")
    (runs.root / "job.toml").write_text(job)
    refused(batchmix("run", str(runs.root / "job.toml")), "no_worse_by", "'ten' is no percentage")


def test_parameters_that_rows_bring_are_shown_by_the_first_that_differ(runs: Runs) -> None:
    messages = [{"role": "user", "content": "[[rehearsal:echo]] x"}]
    made = []
    for name, seed in (("first", 1), ("second", 2)):
        runs.write([{"messages": messages, "seed": seed, "answer": "x"} for _ in range(20)], f"{name}.jsonl")
        made.append(runs.make(name, input={"path": f"{name}.jsonl"}))
    changes = compared(*made)[2]["request_changes"]
    assert [change["lines"][-2:] for change in changes] == [["-seed: 1", "+seed: 2"]]


@pytest.mark.parametrize("metric", ["cost_usd"])
def test_a_guarded_metric_that_no_run_has_is_not_compared(metric: str, runs: Runs) -> None:
    guarded = JOB["eval"] | {"guards": [{"metric": metric, "model": "m"}]}
    made = [runs.make(name, eval=guarded) for name in ("before", "after")]
    assert compared(*made)[0] == (metric == "cost_usd")
