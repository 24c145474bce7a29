"""A scorer whose scores no longer mean the same is not compared, and what has changed of it is said."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from batchmix.comparison.run_diff import Diff, compare_runs
from batchmix.engine.run_status import RunStatus
from batchmix.evaluation.judge import JudgeContext
from batchmix.job import read_job
from batchmix.redact import Secrets
from batchmix.verdict.evaluate_run import evaluate_run, prepare_scorers
from tests.conftest import EvalBench

COUNT = 8


@pytest.fixture
def run(evaluated: EvalBench) -> EvalBench:
    """A run without scores, beside the module of an own scorer."""
    evaluated.write_said([{"id": f"r{n}", "said": f"please {n}", "answer": str(n)} for n in range(COUNT)])
    evaluated.run()
    (evaluated.root / "polite.py").write_text("def polite(response, *_): return float('please' in response)\n")
    return evaluated


def scored(run: EvalBench, name: str, **scorer: Any) -> Path:
    """Evaluate a copy of the run."""
    run.settings["eval"] = {"scorers": [{"name": "scorer", **scorer}]}
    job = msgspec.structs.replace(read_job(None, run.settings, {}), scorer_folder=str(run.root))
    folder = run.root / name
    shutil.copytree(run.out, folder)
    evaluate_run(folder, JudgeContext(job, Secrets(), RunStatus()), prepare_scorers(job))
    return folder


def reasons(found: Diff) -> list[str]:
    return [alarm.text for alarm in found.alarms]


def test_an_own_function_whose_code_has_changed_is_not_compared(run: EvalBench) -> None:
    first = scored(run, "first", kind="own", python="polite:polite", timeout_s=20)
    with (run.root / "polite.py").open("a") as file:
        file.write("\n\ndef strict(*_): return 1.0\n")
    second = scored(run, "second", kind="own", python="polite:polite")
    assert reasons(compare_runs(first, second)) == [
        "m: scorer, unscored by scorer: the scorer has changed since (the code of the module polite); batchmix eval"
        f" {first} JOB.toml scores the earlier run with it"
    ]
    third = scored(run, "third", kind="own", python="polite:strict")
    assert "the scorer has changed since (python);" in reasons(compare_runs(second, third))[0]
    metrics = first / "evaluation" / "metrics.json"
    known = msgspec.json.decode(metrics.read_bytes())
    assert list(known.pop("code")) == ["scorer"]
    metrics.write_bytes(msgspec.json.encode(known))  # as an older version of batchmix wrote it
    assert reasons(compare_runs(first, second)) == []


def test_labels_are_compared_whatever_file_they_are_in_unless_they_stand_for_other_scores(run: EvalBench) -> None:
    for name, label in (("monday", "good"), ("tuesday", "fair")):
        rows = [f"r{n},{label if n == 0 else 'good'}\n" for n in range(COUNT)]
        (run.root / f"{name}.csv").write_text("custom_id,label\n" + "".join(rows))
    values = {"good": 1, "fair": 0.5}
    first = scored(run, "first", kind="labels", path=str(run.root / "monday.csv"), values=values)
    second = scored(run, "second", kind="labels", path=str(run.root / "tuesday.csv"), values=values)
    found = compare_runs(first, second)
    assert ([one.paired and one.paired.difference for one in found.comparisons[:1]], found.alarms) == ([-0.5 / 8], ())
    third = scored(run, "third", kind="labels", path=str(run.root / "tuesday.csv"), values=values | {"fair": 0.2})
    assert "the scorer has changed since (values);" in reasons(compare_runs(second, third))[0]


@pytest.mark.parametrize(
    ("before", "after", "what"),
    [
        ({"kind": "json", "schema": "a.json"}, {"kind": "json", "schema": "b.json"}, "schema"),
        ({"kind": "includes"}, {"kind": "exact"}, "kind"),
        ({"kind": "number", "tolerance": 1}, {"kind": "number", "relative": 1}, "tolerance, relative"),
    ],
)
def test_what_has_changed_is_named(run: EvalBench, before: dict[str, Any], after: dict[str, Any], what: str) -> None:
    for name, kind in (("a", "object"), ("b", "array")):
        (run.root / f"{name}.json").write_text(f'{{"type": "{kind}"}}')
    sides = [
        scored(run, name, target="answer", **{key: str(run.root / value) if key == "schema" else value for key, value in side.items()})
        for name, side in (("first", before), ("second", after))
    ]  # fmt: skip
    assert f"the scorer has changed since ({what});" in reasons(compare_runs(*sides))[0]
