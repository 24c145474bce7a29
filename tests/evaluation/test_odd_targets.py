"""Targets and groups of any type: values that cannot be compared have no score, and nothing breaks."""

from __future__ import annotations

import decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchmix.comparison.run_diff import compare_runs
from tests.conftest import EvalBench

_D = decimal.Decimal
_UUID = "00010203-0405-0607-0809-0a0b0c0d0e0f"
COLUMNS: dict[str, tuple[Any, list[str], list[float | None]]] = {
    "nan": (pa.array([1.5, float("nan"), 2.0]), ["it is 1.5", "x", "2"], [1.0, None, 1.0]),
    "ns": (
        pa.array([1_700_000_000_000_000_001, None, 0], pa.timestamp("ns", "UTC")),
        ["2023-11-14T22:13:20.000000001Z", "x", "1970"],
        [1.0, None, 0.0],
    ),
    "decimal": (pa.array([_D("1.20"), None, _D("3.00")], pa.decimal256(60, 2)), ["1.20", "x", "3"], [1.0, None, 1.0]),
    "map": (pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int8())), ['{"k": 1}', "x", "{}"], [1.0, None, 1.0]),
    "year": (pa.array([2**31 - 1, None, 0], pa.int32()).view(pa.date32()), ["+5881580-07-11", "x", "?"], [1.0, None, 0.0]),
    "word": (pa.array(["a", None, "b"]).dictionary_encode(), ["a", "x", "c"], [1.0, None, 0.0]),
}  # fmt: skip


def ran(bench: EvalBench, out: Path) -> None:
    """Run a job with all columns as targets and groups."""
    answers = [" | ".join(texts[number] for _, texts, _ in COLUMNS.values()) for number in range(3)]
    path = bench.root / "rows.parquet"
    columns = {name: column for name, (column, _, _) in COLUMNS.items()}
    pq.write_table(pa.table({"said": answers, **columns}), path)
    bench.settings["input"]["path"] = str(path)
    bench.settings["output"]["path"] = str(out)
    bench.out = out
    scorers = [{"kind": "includes", "name": name, "target": name} for name in columns]
    bench.settings["eval"] = {"scorers": scorers, "group_by": list(columns)}
    bench.run()
    metrics = bench.evaluate()
    groups = {(column, value) for score in metrics.scores for column, value in score.group.items()}
    assert {("nan", "1.5"), ("nan", None), ("nan", "2"), ("ns", "2023-11-14T22:13:20.000000001Z")} <= groups
    assert {("map", '{"k":1}'), ("decimal", "3.00"), ("year", "+5881580-07-11"), ("word", None)} <= groups


@pytest.fixture
def odd(evaluated: EvalBench) -> EvalBench:
    ran(evaluated, evaluated.root / "one")
    return evaluated


def test_targets_of_any_type_are_compared_in_the_text_that_a_prompt_has(odd: EvalBench) -> None:
    scores = [(row["scorer"], row["score"], row["explanation"]) for row in odd.scores()]
    for name, (_, _, wanted) in COLUMNS.items():
        mine = [(score, why) for scorer, score, why in scores if scorer == name]
        assert [score for score, _ in mine] == wanted, name
        assert mine[1] == (None, "the row has no target")


def test_two_runs_over_such_columns_are_compared(odd: EvalBench) -> None:
    """All rows are the same in both, including NaN."""
    ran(odd, odd.root / "two")
    found = compare_runs(odd.root / "one", odd.root / "two")
    assert found.changed == 0
    assert found.paired == 3


def test_a_text_in_a_column_that_also_has_lists_is_the_text(evaluated: EvalBench) -> None:
    evaluated.settings["eval"]["scorers"] = [{"kind": "includes"}]
    rows = [("red", "red"), ("blue", ["green", "blue"]), ("grey", 'a "quoted" text'), ("pink", ["green"])]
    evaluated.write_said([{"said": said, "answer": answer} for said, answer in rows])
    evaluated.run()
    evaluated.evaluate()
    assert [row["score"] for row in evaluated.scores()] == [1, 1, 0, 0]


def test_an_empty_text_in_a_column_of_mixed_types_is_no_target(evaluated: EvalBench) -> None:
    kinds = ["exact", "includes", "number", "json", "f1", "similarity"]
    evaluated.settings["eval"]["scorers"] = [{"kind": kind} for kind in kinds]
    targets = ["", "   ", "\u200b", [], ["5", None], 5]
    evaluated.write_said([{"said": "5", "answer": target} for target in targets])
    evaluated.run()
    evaluated.evaluate()
    scores = [(row["row"], row["score"], row["explanation"]) for row in evaluated.scores() if row["scorer"] != "json"]
    empty = "the row's target is empty"
    assert {score[1:] for score in scores if score[0] < 4} == {(None, empty)}
    assert None not in {score[1] for score in scores if score[0] >= 4}
