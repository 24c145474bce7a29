"""Columns of several Parquet files: carried without loss, or refused before anything is sent."""

from __future__ import annotations

import datetime
import decimal
import re
import struct
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchmix.errors import InputError
from batchmix.load.table_reader import TableReader
from tests.load.conftest import carried_rows, make_job, open_rows, prompts_of

_D = decimal.Decimal
_TIME = datetime.datetime(2026, 1, 2, 3, 4, 5)


def folder_of(tmp_path: Path, *columns: Any) -> Path:
    """Write each column to its own file, as `c` next to a prompt."""
    folder = tmp_path / "rows"
    folder.mkdir(parents=True)
    for number, column in enumerate(columns):
        prompts = [f"p{number}" for _ in range(len(column))]
        pq.write_table(pa.table({"prompt": pa.array(prompts, pa.string()), "c": column}), folder / f"{number}.parquet")
    return folder


@pytest.mark.parametrize(
    ("one", "other", "kind"),
    [
        (pa.array([1], pa.int8()), pa.array([2], pa.int32()), pa.int32()),
        (pa.array([1], pa.uint8()), pa.array([-2], pa.int8()), pa.int16()),
        (pa.array([1], pa.uint64()), pa.array([-2], pa.int8()), pa.int64()),
        (pa.array([1, None]), pa.array([0.5]), pa.float64()),
        (pa.array([0.5], pa.float32()), pa.array([1.5]), pa.float64()),
        (pa.array([_D("1.5")], pa.decimal128(5, 1)), pa.array([_D("2.25")], pa.decimal128(4, 2)), pa.decimal128(6, 2)),
        (pa.array([_D("1.5")], pa.decimal128(5, 1)), pa.array([7]), pa.decimal128(21, 1)),
        (pa.array([_TIME], pa.timestamp("us")), pa.array([_TIME], pa.timestamp("ns")), pa.timestamp("ns")),
        (pa.array([1], pa.timestamp("us", "UTC")), pa.array([1], pa.timestamp("ms", "+02:00")), pa.timestamp("us", "UTC")),
        (pa.array(["a"]), pa.array(["b"], pa.large_string()), pa.large_string()),
        (pa.array(["a"]).dictionary_encode(), pa.array(["b"]), pa.string()),
        (pa.array(["a", None]).dictionary_encode(), pa.array(["b"]).dictionary_encode(), pa.dictionary(pa.int32(), pa.string())),
        (pa.array([b"a"]), pa.array([b"bc"], pa.binary(2)), pa.binary()),
        (pa.nulls(1), pa.array([[1]]), pa.list_(pa.int64())),
        (pa.nulls(1), pa.nulls(1), pa.string()),
        (pa.array([[1]], pa.list_(pa.field("item", pa.int8(), nullable=False))), pa.array([[2]]), pa.list_(pa.int64())),
        (pa.array([[1, 2]], pa.list_(pa.int8(), 2)), pa.array([[1]], pa.large_list(pa.int8())), pa.large_list(pa.int8())),
        (
            pa.array([{"a": 1}]),
            pa.array([{"b": "x", "a": 0.5}]),
            pa.struct([("a", pa.float64()), ("b", pa.string())]),
        ),
        (
            pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int8())),
            pa.array([[("k", 2)]], pa.map_(pa.string(), pa.int16())),
            pa.map_(pa.string(), pa.int16()),
        ),
        (pa.array([datetime.timedelta(1)], pa.duration("ms")), pa.array([datetime.timedelta(2)]), pa.duration("us")),
        (pa.array([datetime.date(2026, 1, 2)]), pa.array([datetime.date(2026, 1, 3)], pa.date64()), pa.date32()),
        (pa.array([[1, 2]], pa.list_(pa.int8(), 2)), pa.array([[3, 4]], pa.list_(pa.int16(), 2)), pa.list_(pa.int16(), 2)),
        (pa.array(['{"a": 1}'], pa.json_()), pa.array(["x"]), pa.string()),
    ],
    ids=str,
)  # fmt: skip
def test_compatible_types_are_carried_as_the_wider_one(
    one: Any, other: Any, kind: Any, tmp_path: Path, spool: Path
) -> None:
    """In any order of the files, and without loss."""
    for turn, columns in enumerate(((one, other), (other, one))):
        dataset = open_rows(make_job(folder_of(tmp_path / str(turn), *columns)), spool)
        if not pa.types.is_struct(kind):
            assert dataset.carried_schema.field("c").type == kind
        found = [row["c"] for row in carried_rows(dataset)]
        given = [value for column in columns for value in column.to_pylist()]
        assert list(map(_without_nulls, found)) == given


def _without_nulls(value: Any) -> Any:
    return {key: item for key, item in value.items() if item is not None} if isinstance(value, dict) else value


@pytest.mark.parametrize(
    ("one", "other", "reason"),
    [
        (pa.array([1, 2**53 + 1]), pa.array([0.5]), r"0.parquet, row 1: the column 'c' holds 9007199254740993, which"),
        (pa.array([2**63], pa.uint64()), pa.array([1]), "0.parquet, row 0: .* does not fit into int64"),
        (pa.array([2**61], pa.timestamp("ms")), pa.array([1], pa.timestamp("ns")), r"0.parquet, row 0: .*\[ns\]"),
        (pa.array(["a"]), pa.array([1]), "the column 'c' is string in .*0.parquet and int64 in .*1.parquet"),
        (pa.array([True]), pa.array([1]), "is bool in .*0.parquet and int64 in .*1.parquet"),
        (pa.array([1], pa.timestamp("us")), pa.array([1], pa.timestamp("us", "UTC")), "is timestamp"),
        (pa.array([[1]]), pa.array([1]), "is list"),
        (pa.array([[1]]), pa.array([["x"]]), "is list<element: int64> in .*0.parquet and list<element: string> in"),
        (pa.array([{"a": 1}]), pa.array([{"a": "x"}]), "is struct<a: int64> in .*0.parquet and struct<a: string> in"),
        (pa.array([b"x" * 16], pa.uuid()), pa.array(["x"]), r"is extension<arrow.uuid> in .*0.parquet and string in"),
        (
            pa.array([1], pa.decimal256(76, 0)),
            pa.array([_D("0.5")], pa.decimal256(76, 70)),
            r"is decimal256\(76, 0\) in",
        ),
    ],
    ids=str,
)
def test_values_that_would_change_are_refused(
    one: Any, other: Any, reason: str, tmp_path: Path, spool: Path
) -> None:  # fmt: skip
    """The message names the files, the column and a solution, and the solution works."""
    folder = folder_of(tmp_path, one, other)
    with pytest.raises(InputError, match=reason) as refusal:
        open_rows(make_job(folder), spool)
    assert "0.parquet" in str(refusal.value)
    assert "1.parquet" in str(refusal.value)
    proposed = re.search(r'columns = \[\{from = "(\w+)", type = "(\w+)"\}\]', str(refusal.value))
    assert proposed
    job = make_job(folder, columns=[{"from": proposed[1], "type": proposed[2]}])
    assert all(isinstance(row["c"], str) for row in carried_rows(open_rows(job, spool)))
    assert carried_rows(open_rows(make_job(folder, columns=["prompt"]), spool))
    limited = carried_rows(open_rows(make_job(folder, columns=["prompt"]), spool, limit=1))
    assert limited == [{"custom_id": "0", "prompt": "p0"}]


def test_files_without_rows_do_not_affect_the_columns(tmp_path: Path, spool: Path) -> None:
    """Whatever types an empty table has, and whether or not it has the columns."""
    folder = folder_of(tmp_path, pa.array([], pa.float64()), pa.array([1]))
    pq.write_table(pa.table({"other": pa.array([], pa.string())}), folder / "2.parquet")
    pq.write_table(
        pa.table({"prompt": pa.array([], pa.float64()), "c": pa.array([], pa.bool_())}), folder / "3.parquet"
    )
    dataset = open_rows(make_job(folder), spool)
    assert dataset.carried_schema == pa.schema([("custom_id", pa.string()), ("prompt", pa.string()), ("c", pa.int64())])
    assert carried_rows(dataset) == [{"custom_id": "0", "prompt": "p1", "c": 1}]


def test_a_column_that_some_files_lack_is_null_there(tmp_path: Path, spool: Path) -> None:
    """If it is only carried; the columns may be in any order."""
    folder = folder_of(tmp_path, pa.array([1]))
    pq.write_table(pa.table({"d": ["x"], "prompt": ["q"]}), folder / "1.parquet")
    assert carried_rows(open_rows(make_job(folder), spool)) == [
        {"custom_id": "0", "prompt": "p0", "c": 1, "d": None},
        {"custom_id": "1", "prompt": "q", "c": None, "d": "x"},
    ]


def test_required_fields_are_carried_when_their_struct_is_null(tmp_path: Path, spool: Path) -> None:
    """As Spark and Avro write them; also in a file that lacks the column."""
    kind = pa.struct([pa.field("a", pa.struct([pa.field("b", pa.int64(), nullable=False)]), nullable=False)])
    fields = [pa.StructArray.from_arrays([pa.array([1, 0])], fields=list(kind.field("a").type))]
    column = pa.StructArray.from_arrays(fields, fields=list(kind), mask=pa.array([False, True]))
    folder = folder_of(tmp_path, column)
    dataset = open_rows(make_job(folder), spool)
    assert dataset.carried_schema.field("c").type == kind
    assert [row["c"] for row in carried_rows(dataset)] == [{"a": {"b": 1}}, None]
    pq.write_table(pa.table({"prompt": ["q"]}), folder / "1.parquet")
    dataset = open_rows(make_job(folder), spool)
    assert [row["c"] for row in carried_rows(dataset)] == [{"a": {"b": 1}}, None, None]
    pq.write_table(pa.Table.from_batches(list(dataset.carried(0))), tmp_path / "written.parquet")


def test_a_file_without_a_column_of_the_template_is_refused(tmp_path: Path, spool: Path) -> None:
    """The message names it, as for a line of JSONL; a template that tests for the column accepts its absence."""
    folder = folder_of(tmp_path, pa.array([1]))
    pq.write_table(pa.table({"prompt": ["q"]}), folder / "1.parquet")
    with pytest.raises(InputError, match=r"1.parquet, row 0: has no column 'c', which the template names; it has"):
        open_rows(make_job(folder, prompt="{{ c }}"), spool)
    job = make_job(folder, prompt="{{ c if c is defined else 'none' }}")
    assert prompts_of(open_rows(job, spool), job) == ["1", "none"]
    pq.write_table(pa.table({"c": [2]}), folder / "2.parquet")
    with pytest.raises(InputError, match=r"2.parquet, row 0: has neither messages nor prompt; it has 'c'"):
        open_rows(make_job(folder), spool)


def test_a_file_that_was_verified_is_not_read_again(tmp_path: Path, spool: Path, monkeypatch: Any) -> None:
    """Except for columns that are carried for the first time."""
    folder = folder_of(tmp_path, pa.array([1]), pa.array([2**53 + 1]), pa.array([0.5]))
    dataset = open_rows(make_job(folder, columns=["prompt"]), spool)
    tried: list[str] = []
    real = TableReader._try
    monkeypatch.setattr(TableReader, "_try", lambda self, maker, name, *rest: tried.append(name) or real(self, maker, name, *rest))  # fmt: skip
    open_rows(make_job(folder, columns=["prompt"]), spool, previous=dataset.scan)
    assert tried == []
    with pytest.raises(InputError, match="holds 9007199254740993"):
        open_rows(make_job(folder, columns=["prompt", "c"]), spool, previous=dataset.scan)
    assert tried == ["c", "c"]


def test_a_damaged_column_is_found_although_no_request_uses_it(tmp_path: Path, spool: Path) -> None:
    """At once, and not only when it is to be carried, after the answers were paid for."""
    folder = folder_of(tmp_path, pa.array(["x" * 1000 for _ in range(50)]))
    path = folder / "0.parquet"
    column = pq.read_metadata(path).row_group(0).column(1)
    content = bytearray(path.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    content[start : start + 20] = b"\xff" * 20
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"0.parquet: can't be read as Parquet"):
        open_rows(make_job(folder), spool)


def test_an_enum_is_text(tmp_path: Path, spool: Path) -> None:
    """As Java programs write it: bytes with an annotation that pyarrow does not report."""
    path = tmp_path / "enum.parquet"
    pq.write_table(pa.table({"q": [1], "e": pa.array(["red"]).cast(pa.string())}), path, store_schema=False)
    text, enum = b"\x25\x00\x4c\x1c\x00\x00", b"\x25\x08\x4c\x4c\x00\x00"  # ConvertedType and LogicalType in the footer
    content = path.read_bytes()
    assert content.count(text) == 1
    path.write_bytes(content.replace(text, enum))
    assert pq.read_metadata(path).schema.column(1).logical_type.type == "ENUM"
    job = make_job(path, prompt="{{ e }}")
    dataset = open_rows(job, spool)
    assert prompts_of(dataset, job) == ["red"]
    assert carried_rows(dataset) == [{"custom_id": "0", "q": 1, "e": "red"}]


def test_an_interval_is_text(tmp_path: Path, spool: Path) -> None:
    """As DuckDB writes it, also nested: twelve bytes that only Parquet's older ConvertedType identifies."""
    path = tmp_path / "interval.parquet"
    value = struct.pack("<III", 1, 2, 3500)
    values = pa.array([value, None], pa.binary(12))
    table = {
        "v": values,
        "l": pa.array([[value], []], pa.list_(pa.binary(12))),
        "s": pa.array([{"inner": value}, None], pa.struct([("inner", pa.binary(12))])),
        "m": pa.array([[("k", value)], []], pa.map_(pa.string(), pa.binary(12))),
        "f": pa.array([[value, value], None], pa.list_(pa.binary(12), 2)),
        "u": pa.array([b"0123456789abcdef", None], pa.uuid()),
        "bytes": values,
    }
    pq.write_table(pa.table(table), path, store_schema=False)
    # In the footer: type 7 of length 12, repetition, name, and then ConvertedType 21, which is INTERVAL.
    content = path.read_bytes()
    for name, count in ((b"v", 1), (b"element", 2), (b"inner", 1), (b"value", 1)):
        element = b"\x18" + bytes([len(name)]) + name
        assert content.count(element + b"\x00") == count
        content = content.replace(element + b"\x00", element + b"\x25\x2a\x00")
    end = len(content) - 8
    grown = int.from_bytes(content[end : end + 4], "little") + 10
    path.write_bytes(content[:end] + grown.to_bytes(4, "little") + content[end + 4 :])
    assert pq.read_metadata(path).schema.column(0).converted_type == "INTERVAL"
    job = make_job(path, prompt="{% if v is none %}-{% else %}{{ v }} {{ l[0] }} {{ bytes }}{% endif %}")
    dataset = open_rows(job, spool)
    assert prompts_of(dataset, job) == ["P1M2DT3.5S P1M2DT3.5S AQAAAAIAAACsDQAA", "-"]
    assert [row["l"] for row in carried_rows(dataset)] == [["P1M2DT3.5S"], []]
    assert [row["s"] for row in carried_rows(dataset)] == [{"inner": "P1M2DT3.5S"}, None]
    assert [row["f"] for row in carried_rows(dataset)] == [["P1M2DT3.5S"] * 2, None]
    assert [row["m"] for row in carried_rows(dataset)] == [[("k", "P1M2DT3.5S")], []]
    assert dataset.carried_schema.field("v").type == pa.string()
    assert dataset.carried_schema.field("bytes").type == pa.binary(12)


def test_view_types_are_carried_as_common_types(tmp_path: Path, spool: Path) -> None:
    """Also for several models, for which rows are taken again."""
    folder = folder_of(tmp_path, pa.array(["x"], pa.string_view()), pa.array(["y"]))
    dataset = open_rows(make_job(folder), spool)
    assert dataset.carried_schema.field("c").type == pa.string()
    batch = next(iter(dataset.carried(0)))
    assert batch.take(pa.array([0, 0])).column("c").to_pylist() == ["x", "x"]
