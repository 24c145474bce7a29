from __future__ import annotations

import datetime
import decimal
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchmix.errors import InputError
from batchmix.job.columns import checked_type
from batchmix.load.column_types import ColumnType
from tests.load.conftest import all_requests, carried_rows, jsonl, make_job, open_rows, stored

_D, _UTC = decimal.Decimal, datetime.UTC
NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("name", "given", "wanted"),
    [
        ("string", ["a", 1, 1.0, 0.5, True, {"a": [1]}, None, "\ud800"], ["a", "1", "1", "0.5", "true", '{"a":[1]}', None, "\ufffd"]),
        ("int64", [1, 2.0, "3", " -4 ", "5.0", NAN, None], [1, 2, 3, -4, 5, None, None]),
        ("uint64", [2**64 - 1, "18446744073709551615"], [2**64 - 1] * 2),
        ("int8", [-128, "127"], [-128, 127]),
        ("double", [1, 0.5, "1e3", ".5", "-inf", "NaN", INF, 2**53], [1.0, 0.5, 1000.0, 0.5, -INF, None, INF, 2.0**53]),
        ("bool", [True, 0, "TRUE", "false", "1"], [True, False, True, False, True]),
        ("decimal(5,2)", [1, 0.1, "123.45", "-1e2", 999.99], [_D("1.00"), _D("0.10"), _D("123.45"), _D("-100.00"), _D("999.99")]),
        ("decimal(2,2)", ["0.99", 0], [_D("0.99"), _D("0.00")]),
        ("decimal(38,0)", ["9" * 38], [_D("9" * 38)]),
        ("date", ["2026-02-28", "2024-02-29T00:00:00", "1969-12-31"], [datetime.date(2026, 2, 28), datetime.date(2024, 2, 29), datetime.date(1969, 12, 31)]),
        ("time", ["23:59", "23:59:30.5"], [datetime.time(23, 59), datetime.time(23, 59, 30, 500_000)]),
        ("timestamp", ["2026-01-02 03:04:05.000006", "2026-01-02T03:04", "2026-01-02"], [datetime.datetime(2026, 1, 2, 3, 4, 5, 6), datetime.datetime(2026, 1, 2, 3, 4), datetime.datetime(2026, 1, 2)]),
        ("timestamp[s]", ["0001-01-01T00:00:00"], [datetime.datetime(1, 1, 1)]),
        ("timestamptz", ["2026-01-02T03:04:05Z", "2026-01-02T03:04:05+02:00", "2026-01-02 03:04:05 UTC", "2026-01-02T03:04:05-0330"], [datetime.datetime(2026, 1, 2, hour, minute, 5, tzinfo=_UTC) for hour, minute in ((3, 4), (1, 4), (3, 4), (6, 34))]),
        ("json", [{"a": 1}, "[1, 2]", None, 5, "null"], ['{"a":1}', "[1, 2]", None, "5", "null"]),
    ],
)  # fmt: skip
def test_values_get_the_configured_type(name: str, given: Any, wanted: Any) -> None:
    """From JSON's own values, or from text as CSV has it."""
    configured = ColumnType(checked_type(name))
    assert [configured.problem("c", value) for value in given] == [None] * len(given)
    found = configured.array(given)
    assert found.type == configured.type
    assert found.to_pylist() == wanted


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("int64", [0.5, "a", "", "1e3", 2**63, True, [1], "1_000", "٣"]),
        ("int8", [128, "-129"]),
        ("double", [2**53 + 1, "9007199254740993", "1,5", "", "0x1", True, "1e999", {}]),
        ("bool", [2, "yes", "", 0.5, []]),
        ("decimal(5,2)", [1000, "0.001", "1e999999999", "x", True, "nan", INF]),
        ("decimal(2,2)", [1]),
        ("date", ["2026-02-29", "2026-13-01", "2026-01-01T01:00:00", "1.2.2026", 5, "20260101"]),
        ("time", ["24:00", "1:00", 5]),
        ("timestamp", ["2026-01-02T03:04:05Z", "2026-01-02T25:00", 1700000000, "now", "2026-01-02T03:04:05.0000001"]),
        ("timestamp[ns]", ["9999-01-01"]),
        (
            "timestamptz",
            ["2026-01-02T03:04:05", "2026-01-02", "2026-01-02T03:04:05+99:00", "2026-01-02T03:04:05-01:60"],
        ),
        ("json", ["{", "", "text"]),
    ],
)
def test_a_value_that_is_not_of_the_type_is_reported(name: str, bad: Any) -> None:
    """In a rejected row it is null."""
    configured = ColumnType(checked_type(name))
    for value in bad:
        problem = configured.problem("c", value)
        assert problem is not None, value
        assert problem.startswith("column 'c' is ")
        assert f"which is no {name}" in problem
    assert configured.array(bad).null_count == len(bad)


def test_values_that_do_not_fit_refuse_the_file_or_reject_their_rows(rows_file: Any, spool: Path) -> None:
    """The error names file and line; a later input in which the column is all null keeps its type."""
    rows = [{"id": 1.0, "prompt": "p", "score": value} for value in ("1.5", None, "n/a\x1b[2J", 2)]
    path = rows_file(rows)
    job = make_job(path, columns=["prompt", {"from": "score", "to": "s", "type": "double"}])
    with pytest.raises(
        InputError, match=r"rows.jsonl:3: column 'score' is 'n/a\\\\x1b\[2J', which is no double\n.*--bad-rows reject"
    ):
        open_rows(job, spool)
    dataset = open_rows(job, spool, reject_bad_rows=True)
    assert [row["s"] for row in carried_rows(dataset)] == [1.5, None, None, 2.0]
    assert [row["custom_id"] for row in carried_rows(dataset)] == ["1"] * 4
    refused = [request for request in all_requests(dataset, job) if hasattr(request, "failure")]
    assert [request.row for request in refused] == [2]
    path.write_bytes(jsonl([{"prompt": "p", "score": None}, {"prompt": "p"}]))
    dataset = open_rows(job, spool)
    assert dataset.carried_schema.field("s").type == pa.float64()
    assert [row["s"] for row in carried_rows(dataset)] == [None, None]


def test_an_earlier_scan_is_reused_only_for_the_types_that_it_checked(rows_file: Any, spool: Path) -> None:
    path = rows_file([{"prompt": "p", "c": "x"}])
    dataset = open_rows(make_job(path, columns=["c"]), spool)
    previous = stored(dataset.scan)
    with pytest.raises(InputError, match="'x', which is no int64"):
        open_rows(make_job(path, columns=[{"from": "c", "type": "int64"}]), spool, previous=previous)
    configured = open_rows(make_job(path, columns=[{"from": "c", "type": "string"}]), spool, previous=previous).scan
    assert open_rows(make_job(path, columns=["c"]), spool, previous=stored(configured)).scan == configured


def test_the_id_column_gets_its_configured_type_too(rows_file: Any, spool: Path) -> None:
    path = rows_file([{"prompt": "p", "key": value} for value in ("007", 8, 9.0, None)])
    columns = [{"from": "key", "type": "int64"}]
    dataset = open_rows(make_job(path, id="key", columns=columns), spool)
    assert carried_rows(dataset) == [
        {"custom_id": "7", "key": 7}, {"custom_id": "8", "key": 8}, {"custom_id": "9", "key": 9},
        {"custom_id": "3", "key": None},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("column", "kind", "wanted"),
    [
        (pa.array(["1.5", None]), "double", [1.5, None]),
        (pa.array([1.0, NAN]), "int64", [1, None]),
        (pa.array([7, 8]), "double", [7.0, 8.0]),
        (pa.array([_D("1.50"), None]), "double", [1.5, None]),
        (pa.array([10**18 + 1, None], pa.timestamp("ns")), "string", ["2001-09-09T01:46:40.000000001", None]),
        (pa.array([10**15, None], pa.timestamp("us", "Europe/Berlin")), "timestamptz", [datetime.datetime(2001, 9, 9, 1, 46, 40, tzinfo=_UTC), None]),
        (pa.array([{"a": 1}, None]), "json", ['{"a":1}', None]),
        (pa.array([10**18 + 1, None], pa.timestamp("ns")), "timestamp[ns]", None),
        (pa.nulls(2), "date", [None, None]),
    ],
    ids=str,
)  # fmt: skip
def test_parquet_columns_get_the_configured_types(
    column: Any, kind: str, wanted: Any, tmp_path: Path, spool: Path
) -> None:
    """A column that has the type already is carried as it is."""
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"prompt": ["a", "b"], "c": column}), path)
    dataset = open_rows(make_job(path, columns=[{"from": "c", "type": kind}]), spool)
    (batch,) = dataset.carried(0)
    assert batch.column("c").type == ColumnType(kind).type
    assert batch.column("c").equals(column) if wanted is None else batch.column("c").to_pylist() == wanted


def test_parquet_values_that_do_not_fit_refuse_the_file_or_reject_their_rows(tmp_path: Path, spool: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"prompt": ["a", "b"], "c": [0.5, 1.0]}), path)
    job = make_job(path, columns=[{"from": "c", "type": "int64"}])
    with pytest.raises(InputError, match=r"rows.parquet, row 0: column 'c' is '0.5', which is no int64"):
        open_rows(job, spool)
    dataset = open_rows(job, spool, reject_bad_rows=True)
    assert [row["c"] for row in carried_rows(dataset)] == [None, 1]
    bodies = [json.loads(request.body) for request in all_requests(dataset, job) if hasattr(request, "body")]
    assert [body["messages"][0]["content"] for body in bodies] == ["b"]


def test_csv_columns_get_the_configured_types(tmp_path: Path, spool: Path) -> None:
    """Other cells are text; an empty cell is null, and a wrong one is reported with its line."""
    path = tmp_path / "rows.csv"
    path.write_text('id,prompt,score,facts,day\n1,a,1.5,"{""a"": 1}",2026-01-31\n2,"b\nc",,,\n')
    configured = {"score": "double", "facts": "json", "day": "date"}
    columns = [{"from": name, "type": kind} for name, kind in configured.items()]
    job = make_job(path, columns=columns)
    assert carried_rows(open_rows(job, spool)) == [
        {"custom_id": "1", "score": 1.5, "facts": '{"a": 1}', "day": datetime.date(2026, 1, 31)},
        {"custom_id": "2", "score": None, "facts": None, "day": None},
    ]
    with path.open("a") as file:
        file.write("3,d,1;5,,\n")
    with pytest.raises(InputError, match=r"rows.csv:5: column 'score' is '1;5', which is no double"):
        open_rows(job, spool)
