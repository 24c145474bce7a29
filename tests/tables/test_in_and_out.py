"""Tables of each library through real runs and joined back: each answer beside its row, the table as it was."""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pytest

import batchmix as bm

ROWS = 250
AT: dict[str, Any] = {"model": "m", "base_url": "rehearsal:", "output": {"shard_rows": 100}, "bad_rows": "reject"}
NEW = {"who": "custom_id", "answer": "response", "tokens": "prompt_tokens"}
UNANSWERED = 17
"""The row without a text."""


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def arrow_table() -> pa.Table:
    """Return a table with columns of many types, ids that are not the row numbers, and one row without a text."""
    numbers = range(ROWS)
    return pa.table(
        {
            "id": pa.array([f"r{ROWS - number}" for number in numbers]),
            "text": pa.array([None if number == UNANSWERED else f"question {number}" for number in numbers]),
            "score": pa.array([number / 7 for number in numbers], pa.float32()),
            "count": pa.array([None if number % 5 == 0 else number for number in numbers], pa.int32()),
            "label": pa.array([("good", "bad")[number % 2] for number in numbers]).dictionary_encode(),
            "seen": pa.array([dt.datetime(2026, 1, 2, tzinfo=dt.UTC)] * ROWS, pa.timestamp("us", "Europe/Berlin")),
            "day": pa.array([dt.date(2026, 1, 2)] * ROWS),
            "price": pa.array([decimal.Decimal(number) / 4 for number in numbers], pa.decimal128(10, 2)),
            "tags": pa.array([["a", None][: number % 3] for number in numbers], pa.list_(pa.string())),
            "place": pa.array(
                [{"x": number, "y": None} for number in numbers], pa.struct([("x", pa.int8()), ("y", pa.string())])
            )
            if ROWS < 128
            else pa.array([{"x": number} for number in numbers], pa.struct([("x", pa.int16())])),
        }
    )


def check_new(who: Any, answer: Any, tokens: Any) -> None:
    """Check that each answer stands beside its row."""
    assert list(who) == arrow_table()["id"].to_pylist()
    missing = [row for row, text in enumerate(answer) if text is None or text is pd.NA or text != text]
    assert missing == [UNANSWERED]
    assert [row for row, count in enumerate(tokens) if count is None or count is pd.NA] == [UNANSWERED]


def test_arrow_in_and_out() -> None:
    table = arrow_table()
    run = bm.run(table, "Say {{ text }}", **AT)
    back = run.join(table, NEW)
    assert back.drop(list(NEW)).equals(table, check_metadata=True)
    check_new(*(back[name].to_pylist() for name in NEW))
    carried = run.to_arrow(["text", "score", "count", "label", "seen", "day", "price", "tags", "place"])
    assert carried.cast(table.drop("id").schema).equals(table.drop("id"))
    assert {name: carried.schema.field(name).type for name in ("score", "count", "seen", "price", "day")} == {
        name: table.schema.field(name).type for name in ("score", "count", "seen", "price", "day")
    }
    reader = run.join(table.to_reader(max_chunksize=33), NEW)
    assert isinstance(reader, pa.RecordBatchReader)
    assert reader.read_all().equals(back)
    assert run.join(pyarrow.dataset.dataset(table), NEW).read_all().equals(back)


def test_pandas_in_and_out() -> None:
    frame = arrow_table().to_pandas(types_mapper={pa.int32(): pd.Int32Dtype()}.get)
    frame["month"] = pd.PeriodIndex(["2026-01"] * ROWS, freq="M")
    frame.index = pd.MultiIndex.from_arrays([["same"] * ROWS, np.arange(ROWS) // 2], names=["a", "b"])
    run = bm.run(frame, "In {{ month }}: {{ text }}", **AT)
    back = run.join(frame, NEW)
    pd.testing.assert_frame_equal(back[frame.columns], frame)
    check_new(*(back[name] for name in NEW))
    assert str(back["tokens"].dtype) == "Int64"
    with pytest.raises(bm.UsageError, match="row 0 of the table is not row 0 of the run: the column 'text'"):
        run.join(frame.iloc[::-1], NEW)
    with pytest.raises(bm.UsageError, match=f"the table has {ROWS - 1} rows and the run has {ROWS}"):
        run.join(frame.iloc[1:], NEW)
    with pytest.raises(bm.UsageError, match="has 'text' already"):
        run.join(frame, {"text": "response"})


def test_polars_in_and_out() -> None:
    frame = pl.from_arrow(arrow_table())
    assert isinstance(frame, pl.DataFrame)
    run = bm.run(frame, "Say {{ text }}", **AT)
    back = run.join(frame, NEW)
    assert back.drop(list(NEW)).equals(frame)
    assert back.schema == frame.schema | {"who": pl.String, "answer": pl.String, "tokens": pl.Int64}
    check_new(*(back[name].to_list() for name in NEW))
    assert bm.run(frame.lazy(), "Say {{ text }}", **AT).folder == run.folder
    lazy = run.join(frame.lazy(), NEW)
    assert isinstance(lazy, pl.LazyFrame)
    assert lazy.filter(pl.col("count") > 3).collect().equals(back.filter(pl.col("count") > 3))


def test_duckdb_in_and_out() -> None:
    connection = duckdb.connect()
    connection.register("rows", arrow_table())
    relation = connection.sql("select *, uuid() is null as known, 1::hugeint as wide from rows order by price")
    run = bm.run(relation, "Say {{ text }}", **AT)
    back = run.join(relation, NEW)
    assert (back.columns, back.types[: len(relation.types)]) == ([*relation.columns, *NEW], relation.types)
    check_new(*([row[0] for row in back.project(name).fetchall()] for name in NEW))
    assert connection.sql("select count(answer) from back").fetchall() == [(ROWS - 1,)]
    with pytest.raises(bm.UsageError, match="row 0 of the table is not row 0 of the run"):
        run.join(relation.order("price desc"), NEW)


def test_datasets_in_and_out() -> None:
    table = arrow_table().drop(["label"])
    shuffled = datasets.Dataset(table).shuffle(seed=1)
    order = np.argsort([int(text[1:]) for text in shuffled["id"]])[::-1]
    data = shuffled.select(order.tolist())
    assert data["id"][:] == table["id"].to_pylist()
    run = bm.run(data, "Say {{ text }}", **AT)
    back = run.join(data, NEW)
    assert back.features == data.features | {
        "who": datasets.Value("string"), "answer": datasets.Value("string"), "tokens": datasets.Value("int64"),
    }  # fmt: skip
    assert back.remove_columns(list(NEW))[:] == data[:]
    check_new(*(back[name][:] for name in NEW))
    streamed = run.join(data.to_iterable_dataset(), NEW)
    check_new(*zip(*((row["who"], row["answer"], row["tokens"]) for row in streamed), strict=True))
    with pytest.raises(bm.UsageError, match="is not row"):
        run.join(shuffled, NEW)


def test_rows_in_and_out() -> None:
    rows = arrow_table().to_pylist()

    def generated() -> Iterator[dict[str, Any]]:
        yield from rows

    run = bm.run(generated(), "Say {{ text }}", **AT)
    assert bm.run(rows, "Say {{ text }}", **AT).folder == run.folder
    back = run.join(rows, NEW)
    assert [{name: value for name, value in row.items() if name not in NEW} for row in back] == rows
    check_new(*([row[name] for row in back] for name in NEW))
    joined = run.join(generated(), NEW)
    assert isinstance(joined, Iterator)
    assert list(joined) == back
    with pytest.raises(bm.UsageError, match="row 0 of the table is not row 0 of the run: the column"):
        run.join(rows[::-1], NEW)


def test_columns_in_and_out() -> None:
    columns = {"id": np.array(["b", "a"]), "text": ["x", "y"], "score": np.array([0.5, np.nan])}
    back = bm.run(columns, "Say {{ text }}", **AT).join(columns, {"who": "custom_id"})
    assert back == {**columns, "who": ["b", "a"]}
    assert back["score"] is columns["score"]


def test_the_rows_of_an_unfinished_run_have_nulls_where_nothing_was_asked() -> None:
    frame = pd.DataFrame({"id": range(1000), "text": [f"question {number}" for number in range(1000)]})
    run = bm.run(frame, "Say {{ text }}", canary=20, **AT)
    back = run.join(frame, {"answer": "response", "who": "custom_id"})
    assert back["answer"].notna().sum() == 20
    there = back[back["answer"].notna()]
    assert there["who"].tolist() == there["id"].astype(str).tolist()


def test_each_model_and_sample_can_be_joined() -> None:
    frame = pl.DataFrame({"text": ["a", "b", "c"]})
    models = [{"id": "m", "name": "one"}, {"id": "m", "name": "two", "params": {"temperature": 0}}]
    run = bm.run(frame, "Say {{ text }}", models=models, samples=2, base_url="rehearsal:")
    whole = run.to_arrow(["model", "sample", "response"]).to_pylist()
    for model in ("one", "two"):
        for sample in (0, 1):
            wanted = [row["response"] for row in whole if (row["model"], row["sample"]) == (model, sample)]
            assert run.join(frame, model=model, sample=sample)["response"].to_list() == wanted
    with pytest.raises(bm.UsageError, match="has an answer of each model"):
        run.join(frame)
