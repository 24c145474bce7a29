"""DuckDB, Polars, pandas and datasets read the columns of answers, the same each night."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import datasets
import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchmix.answers.column import AnswerColumn, flat_arrays, flattened
from batchmix.answers.schema import read_schema

SCHEMA = {
    "type": "object",
    "properties": {
        "mood": {"enum": ["good", "bad"]},
        "score": {"type": "number"},
        "stars": {"type": ["integer", "null"]},
        "at": {"type": "string", "format": "date-time"},
        "day": {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]},
        "fair": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "points": {"type": "array", "items": {"$ref": "#/$defs/Point"}},
        "where": {"$ref": "#/$defs/Point"},
        "free": {},
    },
    "$defs": {"Point": {"type": "object", "properties": {"x": {"type": "number"}, "y": {"type": "integer"}}}},
}
ANSWERS: list[dict[str, Any] | None] = [
    {
        "mood": "good", "score": 1, "stars": 5.0, "at": "2024-02-29T23:30:00.25+01:30", "day": "2024-02-29", "fair": True,
        "tags": ["é", ""], "points": [{"x": 1.5, "y": 2}, {}], "where": {"x": 0}, "free": {"z": [1, None]}, "more": 1,
    },
    None,
    {"mood": "bad", "stars": None, "day": None, "tags": [], "points": [], "free": "text"},
]  # fmt: skip
EMPTY = dict.fromkeys(SCHEMA["properties"])
VALUES: list[dict[str, Any] | None] = [
    {
        "mood": "good", "score": 1.0, "stars": 5, "at": datetime.datetime(2024, 2, 29, 22, 0, 0, 250_000, datetime.UTC),
        "day": datetime.date(2024, 2, 29), "fair": True, "tags": ["é", ""],
        "points": [{"x": 1.5, "y": 2}, {"x": None, "y": None}], "where": {"x": 0.0, "y": None}, "free": '{"z":[1,null]}',
    },
    None,
    {**EMPTY, "mood": "bad", "tags": [], "points": [], "free": '"text"'},
]  # fmt: skip
"""What the columns hold, as written by hand."""
FLAT_VALUES = [{f"answer.{name}": value for name, value in (row or EMPTY).items()} for row in VALUES]


@pytest.fixture(params=["struct", "flat"])
def nights(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[list[str], list[dict[str, Any]]]:
    """Two Parquet files, one without any answer and one with answers, and the rows that they hold."""
    column = AnswerColumn(read_schema(SCHEMA, tmp_path))
    paths = [str(tmp_path / "none.parquet"), str(tmp_path / "some.parquet")]
    for path, answers in zip(paths, ([None] * 2, ANSWERS), strict=True):
        array = column.array(answers)
        table = pa.table({"answer": array})
        if request.param == "flat":
            names = [name for name, _ in flattened(column)]
            table = pa.Table.from_arrays(flat_arrays(array), names)
        pq.write_table(table, path)
    if request.param == "flat":
        return paths, [{f"answer.{name}": None for name in EMPTY}] * 2 + FLAT_VALUES
    return paths, [{"answer": None}] * 2 + [{"answer": row} for row in VALUES]


Nights = tuple[list[str], list[dict[str, Any]]]


def test_two_nights_have_the_same_schema(nights: Nights) -> None:
    first, second = (pq.read_schema(path) for path in nights[0])
    assert first.equals(second, check_metadata=True)


def test_duckdb_reads_both_nights(nights: Nights) -> None:
    paths, rows = nights
    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'")
    found = connection.sql(f"select * from read_parquet({paths})")
    assert [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()] == rows


def test_polars_reads_both_nights(nights: Nights) -> None:
    paths, rows = nights
    assert pl.scan_parquet(paths).collect().to_dicts() == rows
    assert pl.read_parquet_schema(paths[0]) == pl.read_parquet_schema(paths[1])


def test_pandas_reads_both_nights(nights: Nights) -> None:
    paths, rows = nights
    frame = pd.concat([pd.read_parquet(path, dtype_backend="pyarrow") for path in paths], ignore_index=True)
    assert pa.Table.from_pandas(frame).to_pylist() == rows
    assert [str(type_) for type_ in pd.read_parquet(paths[0], dtype_backend="pyarrow").dtypes] == [
        str(type_) for type_ in pd.read_parquet(paths[1], dtype_backend="pyarrow").dtypes
    ]


def test_datasets_reads_both_nights(nights: Nights, tmp_path: Path) -> None:
    paths, rows = nights
    parts = [
        datasets.Dataset.from_parquet(path, cache_dir=str(tmp_path / f"cache{at}")) for at, path in enumerate(paths)
    ]
    assert parts[0].features == parts[1].features
    assert datasets.concatenate_datasets(parts).to_list() == rows
