"""One file of a run's results, whatever stands in its columns."""

from __future__ import annotations

import json
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchmix import reading
from tests.conftest import Bench

NAN, INF = float("nan"), float("inf")


def ran(bench: Bench, **columns: Any) -> None:
    """Run a table with a column `q` and others."""
    path = bench.root / "rows.parquet"
    pq.write_table(pa.table({"q": ["a", "b", "c"], **columns}), path)
    bench.settings["input"] = {"path": str(path), "prompt": "{{ q }}"}
    bench.run()


def test_json_lines_hold_what_json_knows(bench: Bench) -> None:
    """NaN and infinity are null; the rest is what a prompt would say, and DuckDB reads it."""
    ran(
        bench,
        score=pa.array([1.5, NAN, INF]),
        inside=pa.array([{"x": [NAN, 1.0]}, {"x": [-INF]}, None]),
        at=pa.array([1_700_000_000_000_000_001, None, 0], pa.timestamp("ns", "Europe/Berlin")),
        price=pa.array([1, 2, None]).cast(pa.decimal128(38, 2)),
        blob=pa.array([b"\xff\x00", b"", None]),
        tags=pa.array([[("k", 1)], [], None], pa.map_(pa.string(), pa.int32())),
    )
    out = bench.root / "all.jsonl"
    reading.export(bench.out, out)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    rows = [json.loads(line, parse_constant=refuse) for line in out.read_text().splitlines()]
    names = ("score", "inside", "at", "price", "blob", "tags")
    assert [tuple(row[name] for name in names) for row in rows] == [
        (1.5, {"x": [None, 1.0]}, "2023-11-14T23:13:20.000000001+01:00", "1.00", "/wA=", {"k": 1}),
        (None, {"x": [None]}, None, "2.00", "", {}),
        (None, None, "1970-01-01T01:00:00+01:00", None, None, None),
    ]
    assert rows[0]["sent_at"].endswith("Z")
    found = duckdb.sql(f"select count(*), max(sent_at) <= max(finished_at) from read_json('{out}')").fetchall()
    assert found == [(3, True)]


def test_csv_has_a_cell_for_everything(bench: Bench) -> None:
    """Text as it is, times in ISO 8601, nested values as JSON; nothing for null, and quotes for empty text."""
    ran(
        bench,
        view=pa.array(["x", "", None], pa.string_view()),
        half=pa.array([0.5, None, 2.0], pa.float32()).cast(pa.float16()),
        at=pa.array([1, None, 0], pa.timestamp("us", "+02:00")),
        took=pa.array([1500, None, 0], pa.duration("ms")),
        inside=pa.array([{"x": NAN}, None, {"x": 1.0}]),
        word=pa.array(["a", None, "a"]).dictionary_encode(),
    )
    out = bench.root / "all.csv"
    reading.export(bench.out, out)
    text = out.read_text()
    assert '"x","0.5","1970-01-01T02:00:00.000001+02:00","PT1.5S","{""x"":null}","a"' in text
    assert '"",,,,,' in text
    assert ',"2.0","1970-01-01T02:00:00+02:00","P0D","{""x"":1.0}","a"' in text
    assert duckdb.sql(f"select count(*) from read_csv('{out}')").fetchall() == [(3,)]


def test_parquet_keeps_the_columns_meaning(bench: Bench) -> None:
    """In the parts and in what is exported of them, for whoever knows it."""
    if not hasattr(pa, "json_"):
        pytest.skip("this pyarrow does not know them")
    made = pa.ExtensionArray.from_storage
    ran(
        bench,
        doc=pa.array([bytes(range(16)), None, b"\xff" * 16], pa.uuid()),
        facts=made(pa.json_(), pa.array(['{"a":1}', None, "[]"])),
        yes=made(pa.bool8(), pa.array([1, 0, None], pa.int8())),
        tags=pa.array([[("k", 1)], [], None], pa.map_(pa.string(), pa.int32())),
    )
    reading.export(bench.out, bench.root / "all.parquet")
    for path in (bench.out / "data/part-00000.parquet", bench.root / "all.parquet"):
        schema = pq.read_schema(path)
        with pq.ParquetFile(path) as file:
            types = [file.schema_arrow.field(name).type for name in ("doc", "facts", "yes", "tags")]
        assert types == [pa.uuid(), pa.json_(), pa.bool8(), pa.map_(pa.string(), pa.int32())], schema
        found = duckdb.sql(f"select typeof(doc), typeof(facts), doc::text, facts->>'a' from '{path}' limit 1")
        assert found.fetchall() == [("UUID", "JSON", "00010203-0405-0607-0809-0a0b0c0d0e0f", "1")]
    reading.export(bench.out, bench.root / "all.jsonl")
    row = json.loads((bench.root / "all.jsonl").read_text().splitlines()[0])
    wanted = ("00010203-0405-0607-0809-0a0b0c0d0e0f", {"a": 1}, True, {"k": 1})
    assert (row["doc"], row["facts"], row["yes"], row["tags"]) == wanted


def test_several_models_have_any_column_each(bench: Bench) -> None:
    """Their rows stand beside one another, with the same carried values; a part that is opened again as well."""
    bench.settings["models"] = [{"id": "one"}, {"id": "two"}]
    del bench.settings["model"]
    columns = {
        "view": pa.array(["x", None, "y"], pa.string_view()),
        "lists": pa.array([[b"\x00"], None, []], pa.list_view(pa.binary_view())),
        "at": pa.array([{"t": 2**62}, None, {"t": -(2**63)}], pa.struct([("t", pa.timestamp("us"))])),
        "words": pa.array([["a"], None, ["b"]], pa.list_(pa.dictionary(pa.int32(), pa.string()))),
    }
    bench.standin.behave("500[two]=1")
    bench.settings["retry"] = {"attempts": 1}
    ran(bench, **columns)
    bench.standin.behave()
    assert bench.run().totals.ok == 6
    table = pq.read_table(bench.out / "data").select(["model", *columns])
    assert table.column("model").to_pylist() == ["one", "two"] * 3
    for name in ("view", "lists", "words"):
        given = columns[name].to_pylist()
        assert table.column(name).to_pylist() == [value for value in given for _ in range(2)]
