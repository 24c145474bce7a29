"""A run becomes a log of Inspect AI and the files of lm-evaluation-harness, which these programs read as their own."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from batchmix.errors import RunError
from batchmix.reports.exchange import exchanged_run
from batchmix.reports.inspect_log import write_inspect_logs
from batchmix.reports.lm_eval_files import write_lm_eval_files
from tests.conftest import EvalBench
from tests.serving import package_environment

ROWS = [
    {"id": "a", "said": "it is 2", "answer": "2", "kind": "x"},
    {"id": "b", "said": "ü { <b>", "answer": "no", "kind": "y"},
    {"id": "c", "said": "[[rehearsal:tools]]", "answer": None, "kind": "y"},
    {"id": "d", "said": "[[rehearsal:400]]", "answer": "4", "kind": "x"},
]


@pytest.fixture
def run(evaluated: EvalBench) -> EvalBench:
    """An evaluated run of two models, each with two samples of an answer, a refusal and so on."""
    evaluated.settings |= {
        "samples": 2,
        "models": [{"id": "m"}, {"id": "org/k", "name": "k two", "params": {"temperature": 0.5, "stop": ["x"]}}],
    }
    del evaluated.settings["model"]
    evaluated.settings["input"] |= {"prompt": "{{ said }} [[rehearsal:echo]]", "system": "Be brief."}
    evaluated.write_said(ROWS)
    evaluated.run()
    evaluated.evaluate()
    return evaluated


def inspect_logs(run: EvalBench, path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    exchanged = exchanged_run(run.out)
    count, paths = write_inspect_logs(exchanged, path, None)
    logs = [json.loads(path.read_text()) for path in paths]
    assert count == sum(len(log["samples"]) for log in logs)
    return logs, exchanged.warnings


def test_each_model_has_a_log_with_all_samples(run: EvalBench, tmp_path: Path) -> None:
    (first, second), warnings = inspect_logs(run, tmp_path / "log.json")
    assert warnings == []
    assert sorted(path.name for path in tmp_path.glob("log*")) == ["log-k_two.json", "log-m.json"]
    assert [(sample["id"], sample["epoch"]) for sample in first["samples"]] == [
        (name, epoch) for name in "abcd" for epoch in (1, 2)
    ]
    assert (second["eval"]["model"], second["eval"]["model_generate_config"]) == ("org/k", {"temperature": 0.5})
    assert second["eval"]["model_args"] == {"stop": ["x"]}
    assert second["eval"]["dataset"]["sample_ids"] == ["a", "b", "c", "d"]
    assert first["eval"]["config"]["epochs"] == 2
    assert first["results"]["scores"][0]["metrics"]["mean"]["value"] == pytest.approx(1 / 3)
    assert first["status"] == "success"


def test_a_sample_has_prompt_answer_usage_and_scores(run: EvalBench, tmp_path: Path) -> None:
    (log, _), _ = inspect_logs(run, tmp_path / "log.json")
    said, other, called, failed = log["samples"][::2]
    result = run.rows()[0]
    assert said["input"] == [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "it is 2 [[rehearsal:echo]]"},
    ]  # fmt: skip
    assert said["output"]["completion"] == result["response"]
    assert said["output"]["usage"]["input_tokens"] == result["prompt_tokens"]
    assert (said["target"], said["scores"]["includes"]["value"], other["scores"]["includes"]["value"]) == ("2", 1, 0)
    assert other["metadata"] == {"said": "ü { <b>", "answer": "no", "kind": "y", "row": 1}
    assert (called["scores"], called["metadata"]["unscored"]) == ({}, {"includes": "the row has no target"})
    assert called["output"]["choices"][0]["message"]["tool_calls"][0]["function"]
    assert (failed["output"]["choices"], failed["scores"]["includes"]["value"]) == ([], 0)
    assert failed["error"]["message"].startswith("rejected (rejected): Invalid")


def test_a_list_of_right_answers_is_a_list_in_the_log(evaluated: EvalBench, tmp_path: Path) -> None:
    evaluated.write_said([{"said": "it is 2", "answer": answer} for answer in (["2", "two"], ["2"], [])])
    evaluated.run()
    evaluated.evaluate()
    [log], _ = inspect_logs(evaluated, tmp_path / "log.json")
    assert [sample["target"] for sample in log["samples"]] == [["2", "two"], ["2"], ""]


def test_the_harness_gets_a_line_for_each_row(run: EvalBench, tmp_path: Path) -> None:
    count, paths = write_lm_eval_files(exchanged_run(run.out), tmp_path / "out", None)
    assert count == 16
    assert sorted({path.parent.name for path in paths}) == ["k_two", "m"]
    results = json.loads(paths[0].read_text())
    lines = [json.loads(line) for line in paths[1].read_text().splitlines()]
    task = next(iter(results["results"]))
    assert results["results"][task]["includes,none"] == pytest.approx(1 / 3)
    assert results["n-samples"][task] == {"original": 4, "effective": 4}
    assert [(line["doc_id"], line["includes"], len(line["filtered_resps"])) for line in lines] == [
        (0, 1, 2), (1, 0, 2), (2, None, 2), (3, 0, 2),
    ]  # fmt: skip
    assert lines[0]["resps"] == [lines[0]["filtered_resps"]]


def test_a_run_without_scores_or_with_another_input_is_exported_with_a_warning(run: EvalBench, tmp_path: Path) -> None:
    (run.out / "evaluation" / "metrics.json").unlink()
    run.write_said([row | {"said": "changed"} for row in ROWS])
    (log, _), warnings = inspect_logs(run, tmp_path / "log.json")
    assert (log["samples"][0]["scores"], log["samples"][0]["input"]) == ({}, "")
    assert log["samples"][0]["output"]["completion"] == "it is 2 [[rehearsal:echo]]"
    assert "was not evaluated" in warnings[0]
    assert "prompts are left out" in warnings[1]


def test_scores_of_other_results_are_refused(run: EvalBench, tmp_path: Path) -> None:
    path = run.out / "evaluation" / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"results": 3}))
    with pytest.raises(RunError, match="has other results than when it was evaluated"):
        inspect_logs(run, tmp_path / "log.json")
    assert not list(tmp_path.glob("log*"))


def test_rows_of_the_same_custom_id_are_told_apart_by_their_numbers(evaluated: EvalBench, tmp_path: Path) -> None:
    evaluated.write_said([{"id": "same", "said": "x", "answer": "x"}, {"id": "same", "said": "y", "answer": "x"}])
    evaluated.run()
    evaluated.evaluate()
    (log,), _ = inspect_logs(evaluated, tmp_path / "log.json")
    assert [sample["id"] for sample in log["samples"]] == [0, 1]


INSPECT = """
import json, sys
from inspect_ai.log import read_eval_log, read_eval_log_samples
for path in sys.argv[1:]:
    log = read_eval_log(path)
    head = read_eval_log(path, header_only=True)
    assert head.results == log.results
    samples = list(read_eval_log_samples(path))
    print(json.dumps({
        "model": log.eval.model, "mean": log.results.scores[0].metrics["mean"].value,
        "samples": [[s.id, s.epoch, s.target, {k: v.value for k, v in s.scores.items()}] for s in samples],
        "tokens": [s.output.usage.input_tokens if s.output.usage else None for s in samples],
        "said": [s.output.completion for s in samples], "asked": samples[0].input[1].text,
        "stop": [str(s.output.stop_reason) if s.output.choices else None for s in samples],
        "errors": [bool(s.error) for s in samples],
    }))
"""
HARNESS = """
import glob, json, sys
import datasets
from lm_eval.utils import get_results_filenames, get_sample_results_filenames, make_table
files = glob.glob(sys.argv[1] + "/**/*", recursive=True)
(results,), (samples,) = get_results_filenames(files), get_sample_results_filenames(files)
rows = datasets.load_dataset("json", data_files=samples, split="train", cache_dir=sys.argv[2])
print(json.dumps({"table": make_table(json.load(open(results))), "rows": rows.num_rows, "scores": rows["includes"][:]}))
"""


@pytest.mark.slow  # installs the programs, unless it did so before
def test_the_programs_themselves_read_what_was_written(
    run: EvalBench, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    _, paths = write_inspect_logs(exchanged_run(run.out), tmp_path / "log.json", None)
    inspect = package_environment(pytestconfig, "inspect", "inspect-ai") / "bin" / "python"
    done = subprocess.run([inspect, "-c", INSPECT, *paths], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, second = map(json.loads, done.stdout.splitlines())
    rows = [row for row in run.rows() if row["model"] == "m"]
    assert (first["model"], second["model"], first["mean"]) == ("m", "org/k", pytest.approx(1 / 3))
    assert first["samples"][::2] == [
        ["a", 1, "2", {"includes": 1}], ["b", 1, "no", {"includes": 0}], ["c", 1, "", {}], ["d", 1, "4", {"includes": 0}],
    ]  # fmt: skip
    assert first["tokens"] == [row["prompt_tokens"] for row in rows]
    assert first["said"] == [row["response"] or "" for row in rows]
    assert (first["asked"], first["errors"]) == ("it is 2 [[rehearsal:echo]]", [False] * 6 + [True] * 2)
    write_lm_eval_files(exchanged_run(run.out), tmp_path / "out", None)
    harness = package_environment(pytestconfig, "lm-eval", "lm-eval") / "bin" / "python"
    call = [harness, "-c", HARNESS, tmp_path / "out" / "m", tmp_path / "cache"]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["rows"], found["scores"]) == (4, [1, 0, None, 0])
    assert "includes" in found["table"]
