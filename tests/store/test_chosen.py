"""An export has the chosen results and columns, and reads little more than these."""

from __future__ import annotations

import json
from typing import Any

import polars
import pyarrow.parquet as pq
import pytest

from batchmix.engine import reader
from batchmix.engine.selection import Selection
from batchmix.errors import UsageError
from tests.conftest import Bench

SCHEMA = {
    "type": "object",
    "properties": {"stars": {"type": "integer", "minimum": 1, "maximum": 5}, "at": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False}},
    "required": ["stars", "at"], "additionalProperties": False,
}  # fmt: skip


@pytest.fixture
def typed(bench: Bench) -> Bench:
    """A finished run of twelve rows, two of which are rejected, in parts of four rows."""
    rows = [
        {"text": f"t{n}", "kind": "b" if n > 7 else "a"} if n not in (1, 9) else {"text": None, "kind": "b"}
        for n in range(12)
    ]
    bench.source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    bench.settings["answer"] = {"schema": SCHEMA}
    bench.settings["output"]["shard_rows"] = 4
    bench.run()
    return bench


def exported(bench: Bench, name: str = "out.parquet", **chosen: Any) -> Any:
    path = bench.root / name
    reader.export(bench.out, path, selection=Selection(**chosen))
    return polars.read_parquet(path) if name.endswith("parquet") else path.read_text()


def test_columns_are_chosen_renamed_and_taken_out_of_objects(typed: Bench) -> None:
    """In the order in which they are named, in each format."""
    whole = pq.read_table(typed.out / "data").to_pylist()
    columns = ("response=draft", "row", "answer.at.city", "answer.stars=stars")
    found = exported(typed, columns=columns)
    assert found.columns == ["draft", "row", "answer.at.city", "stars"]
    answers = [row["answer"] for row in whole]
    assert found["stars"].to_list() == [answer and answer["stars"] for answer in answers]
    assert found["answer.at.city"].to_list() == [answer and answer["at"]["city"] for answer in answers]
    assert exported(typed, "out.csv", columns=("row", "answer=a")).splitlines()[0] == '"row","a.stars","a.at.city"'
    assert json.loads(exported(typed, "out.jsonl", columns=columns).splitlines()[0])["stars"] == answers[0]["stars"]


def test_results_are_chosen_by_a_template(typed: Bench) -> None:
    """Also by columns that are not exported, and of shards that are not finished."""
    found = exported(typed, columns=("row",), where="{{ status == 'ok' and answer.stars >= 1 and kind == 'a' }}")
    assert found["row"].to_list() == [0, 2, 3, 4, 5, 6, 7]
    assert exported(typed, where="{{ status != 'ok' }}")["row"].to_list() == [1, 9]
    assert exported(typed, where="{{ row > 99 }}").height == 0


@pytest.mark.parametrize(
    ("chosen", "reason"),
    [
        ({"columns": ("row", "respons")}, "there is no column 'respons'"),
        ({"columns": ("answer.star",)}, r"there is no column 'answer\.star'"),
        ({"columns": ("row", "sample=row")}, "two are called 'row'"),
        ({"where": "status == 'ok'"}, "must be one expression in braces"),
        ({"where": "{{ state == 'ok' }}"}, "there is no column 'state'"),
        ({"where": "{{ answer.stars > 3 }}"}, "must hold or not for each result"),
    ],
    ids=str,
)
def test_mistakes_are_refused_and_nothing_is_written(chosen: Any, reason: str, typed: Bench) -> None:
    with pytest.raises(UsageError, match=reason):
        exported(typed, **chosen)
    assert not (typed.root / "out.parquet").exists()


def test_a_condition_reads_only_what_it_needs(typed: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing where statistics decide, its own column elsewhere, and the rest only of parts that match."""
    read: list[tuple[int, tuple[str, ...] | None]] = []
    real = pq.ParquetFile.read_row_group

    def counted(part: Any, group: int, columns: Any = None, **options: Any) -> Any:
        first = part.metadata.row_group(group).column(0).statistics.min
        read.append((first, columns and tuple(columns)))
        return real(part, group, columns=columns, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    exported(typed, columns=("row", "response"), where="{{ status == 'failed' }}")
    assert read == [(0, ("status",)), (8, ("status",))]  # all rows of the second part are ok
    read.clear()
    assert exported(typed, columns=("row", "response"), where="{{ status == 'rejected' and kind == 'b' }}")[
        "row"
    ].to_list() == [1, 9]
    assert read == [(0, ("kind", "status")), (0, ("row", "kind", "status", "response")),
                    (8, ("kind", "status")), (8, ("row", "kind", "status", "response"))]  # fmt: skip
