"""What an evaluation will need of the input is checked before anything is sent: exit code 2, by each way to start a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import batchmix as bm
from batchmix.errors import UsageError
from batchmix.job import read_job
from batchmix.job.toml_text import to_toml
from tests.calling import called, refused
from tests.conftest import EvalBench

ROWS = [{"id": f"r{n}", "said": "4", "answer": "4", "w": 1} for n in range(4)]
JUDGE = {"kind": "judge", "model": "big", "rubric": "Rate {{ response }}, {{ topic }}"}
Table = dict[str, Any]


def changed(at: int, **values: Any) -> list[Table]:
    """Return the rows, one of which has other values."""
    return [row | values if n == at else row for n, row in enumerate(ROWS)]


def every(**values: Any) -> list[Table]:
    return [row | values for row in ROWS]


@pytest.mark.parametrize(
    ("settings", "rows", "message"),
    [
        (
            {"weight": "w"},
            changed(2, w=1e13),
            "rows.jsonl:3: eval.weight: column 'w' is '10000000000000', which is no weight, a number from 0 to 1e+12",
        ),
        ({"weight": "w"}, changed(2, w=-1), "rows.jsonl:3: eval.weight: column 'w' is '-1'"),
        ({"weight": "w"}, changed(2, w=None), "rows.jsonl:3: eval.weight: column 'w' is null"),
        ({"weight": "w"}, changed(2, w="nan"), "rows.jsonl:3: eval.weight: column 'w' is 'nan'"),
        ({"weight": "w"}, every(w=0), "none of the 4 rows has a weight above 0 in the column 'w'"),
        ({"weight": "wt"}, ROWS, "there is no column 'wt'; did you mean 'w'?"),
        ({"cluster": "doc"}, ROWS, "there is no column 'doc'"),
        ({"group_by": ["kind"]}, ROWS, "there is no column 'kind'"),
        ({"target": "answr"}, ROWS, "there is no column 'answr' in the output; did you mean answer?"),
        ({}, every(answer=None), "includes: none of the 4 rows has a target in the column 'answer'"),
        ({}, every(answer=" "), "includes: none of the 4 rows has a target in the column 'answer'"),
        (
            {"scorers": [{"kind": "number"}]},
            every(answer="many"),
            "number: none of the 4 rows has a usable target: the target is not one number in the column 'answer'",
        ),
        ({"scorers": [JUDGE]}, ROWS, "the rubric names 'topic', but there is no such column"),
        (
            {"scorers": [JUDGE | {"rubric": "{{ response }} {{ other }}", "against": "gone"}]},
            ROWS,
            "gone: is no run folder",
        ),
        ({"against": "gone"}, ROWS, "eval.against is gone"),
        ({"scorers": [{"kind": "labels", "path": "labels.csv"}]}, ROWS, "labels.csv"),
        ({"scorers": [{"kind": "own", "python": "mine:score"}]}, ROWS, "can't import mine:score"),
    ],
)
def test_it_is_refused_before_anything_is_sent(
    evaluated: EvalBench, monkeypatch: pytest.MonkeyPatch, settings: Table, rows: list[Table], message: str
) -> None:
    monkeypatch.chdir(evaluated.root)
    evaluated.write_said(rows)
    evaluated.settings["eval"] |= settings
    Path("job.toml").write_text(to_toml(read_job(None, evaluated.settings, {})))
    for command in ("run", "plan"):
        refused(called(monkeypatch, command, "job.toml"), message)
    with pytest.raises(UsageError):
        bm.run("job.toml")
    assert evaluated.standin.request_count() == 0


def test_the_models_of_guards_are_those_that_the_rows_name(evaluated: EvalBench) -> None:
    del evaluated.settings["model"]
    evaluated.settings["input"]["model"] = "with"
    evaluated.settings["eval"]["guards"] = [{"model": "nobody"}]
    evaluated.write_said(every(**{"with": "somebody"}))
    with pytest.raises(UsageError, match=r"guards.model: there is no model 'nobody'; there are somebody"):
        evaluated.run()


def test_a_bad_weight_in_parquet_is_named_with_its_row(evaluated: EvalBench) -> None:
    evaluated.settings["eval"]["weight"] = "counts"
    evaluated.settings["input"] |= {"path": str(evaluated.root / "rows.parquet"), "columns": ["said", "answer"]}
    evaluated.settings["input"]["columns"] += [{"from": "w", "to": "counts"}]
    pq.write_table(pa.Table.from_pylist(changed(1, w=-2)), evaluated.root / "rows.parquet")
    with pytest.raises(UsageError, match=r"rows.parquet, row 1: eval.weight: column 'w' is '-2'"):
        evaluated.run()


def test_a_row_that_is_rejected_for_its_weight_counts_nothing(evaluated: EvalBench) -> None:
    evaluated.settings["eval"]["weight"] = "w"
    evaluated.write_said([*changed(2, w="high"), ROWS[0] | {"said": "5"}])
    evaluated.run(reject_bad_rows=True)
    score = evaluated.evaluate().scores[0].score
    assert (score.mean, score.n) == (0.75, 4)
    # The scan of the first start holds for the second one only if it has looked at the weights.
    evaluated.settings["eval"]["weight"] = "id"
    with pytest.raises(UsageError, match=r"rows.jsonl:1: eval.weight: column 'id'"):
        evaluated.run()


def test_a_foreign_file_in_place_of_the_scores_is_found_before_anything_is_sent(
    evaluated: EvalBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(evaluated.root)
    evaluated.write_said(ROWS)
    Path("job.toml").write_text(to_toml(read_job(None, evaluated.settings, {})))
    assert called(monkeypatch, "run", "job.toml").returncode == 0
    sent = evaluated.standin.request_count()
    (evaluated.out / "evaluation" / "verdict.json").write_text(json.dumps({"mine": 1}))
    evaluated.write_said([*ROWS, ROWS[0]])
    refused(called(monkeypatch, "run", "job.toml"), "verdict.json: was not written by batchmix")
    assert evaluated.standin.request_count() == sent


def test_a_template_that_reads_no_column_is_refused_although_rows_have_weights(evaluated: EvalBench) -> None:
    evaluated.settings["eval"]["weight"] = "w"
    evaluated.settings["input"]["prompt"] = "Hello"
    evaluated.write_said(ROWS)
    with pytest.raises(UsageError, match="the template uses no column"):
        evaluated.run()


def test_weights_are_checked_before_a_judge_of_a_finished_run_is_asked(
    evaluated: EvalBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated.write_said(changed(2, w="high"))
    evaluated.run()
    evaluated.settings["eval"] = {"weight": "w", "scorers": [JUDGE | {"rubric": "Rate {{ response }}"}]}
    (evaluated.root / "job.toml").write_text(to_toml(read_job(None, evaluated.settings, {})))
    sent = evaluated.standin.request_count()
    done = called(monkeypatch, "eval", str(evaluated.out), str(evaluated.root / "job.toml"))
    refused(done, "eval.weight: row 2 has the value")
    assert evaluated.standin.request_count() == sent
