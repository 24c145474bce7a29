"""Data in memory arrives in a file: each kind, with its types, the same digest for the same content, nothing left behind."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import errno
import gc
import io
import json
import pathlib
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import datasets
import duckdb
import msgspec
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pydantic
import pytest

from batchmix.errors import InputError, NoSpace
from batchmix.formats.arrow_values import values
from batchmix.tables.content_digest import ContentDigest
from batchmix.tables.memory_rows import memory_rows
from batchmix.tables.row_dicts import json_line
from tests.odd_tables import OddTables

ROWS = {"id": [1, 2, 3], "text": ["a", None, "é\U0001f600"]}
UTC = dt.UTC


def table_of(data: Any, tmp_path: Path) -> pa.Table:
    """Return what a run would read of a table."""
    rows = memory_rows(data, tmp_path, "prompt")
    with rows.file:
        assert rows.format == "parquet"
        table = pq.read_table(rows.file)
    assert rows.rows == table.num_rows
    return table


def lines_of(data: Any, tmp_path: Path) -> list[dict[str, Any]]:
    """Return the JSON lines that a run would read."""
    rows = memory_rows(data, tmp_path, "prompt")
    with rows.file:
        assert rows.format == "jsonl"
        lines = [json.loads(line) for line in rows.file]
    assert rows.rows == len(lines)
    return lines


def digest_of(data: Any, tmp_path: Path) -> str:
    rows = memory_rows(data, tmp_path, "prompt")
    rows.file.close()
    return rows.digest


def types_of(table: pa.Table) -> dict[str, str]:
    return {field.name: str(field.type) for field in table.schema}


def relation() -> duckdb.DuckDBPyRelation:
    return duckdb.sql("select * from (values (1, 'a'), (2, null), (3, 'é\U0001f600')) t(id, text) order by id")


def hugging_face() -> datasets.Dataset:
    """Return a dataset with the rows in another order than they are stored in."""
    return datasets.Dataset.from_dict({"id": [3, 9, 1, 2], "text": [ROWS["text"][2], "z", "a", None]}).select([2, 3, 0])


class ArrowStream:
    """Anything that has Arrow's interface and nothing else."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return pa.table(ROWS).__arrow_c_stream__(requested_schema)


KINDS = {
    "pandas": lambda: pd.DataFrame(ROWS),
    "pandas with an index": lambda: pd.DataFrame(ROWS, index=pd.MultiIndex.from_tuples([(1, "x")] * 3)),
    "polars": lambda: pl.DataFrame(ROWS),
    "polars lazy": lambda: pl.LazyFrame(ROWS),
    "arrow table": lambda: pa.table(ROWS),
    "arrow batch": lambda: pa.record_batch(ROWS),
    "arrow reader": lambda: pa.table(ROWS).to_reader(),
    "arrow dataset": lambda: pyarrow.dataset.dataset(pa.table(ROWS)),
    "arrow scanner": lambda: pyarrow.dataset.dataset(pa.table(ROWS)).scanner(),
    "arrow stream": ArrowStream,
    "duckdb": relation,
    "datasets": hugging_face,
    "datasets streamed": lambda: hugging_face().to_iterable_dataset(),
    "columns": lambda: {"id": np.array(ROWS["id"]), "text": ROWS["text"]},
    "columns of libraries": lambda: {"id": pl.Series(ROWS["id"]), "text": pd.Series(ROWS["text"])},
}
"""The same three rows in each kind of table."""


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_table_arrives_with_its_rows_and_without_its_index(kind: str, tmp_path: Path) -> None:
    assert table_of(KINDS[kind](), tmp_path).to_pydict() == ROWS
    assert digest_of(KINDS[kind](), tmp_path) == digest_of(KINDS[kind](), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_types_of_pandas_stay(tmp_path: Path) -> None:
    number = uuid.uuid4()
    frame = pd.DataFrame(
        {
            "i": pd.array([1, None], dtype="Int32"),
            "f": [np.nan, 0.5],
            "category": pd.Categorical(["x", "y"]),
            "category of numbers": pd.Categorical([1, 2]),
            "when": pd.to_datetime(["2026-01-02T00:00:00.000000001"] * 2).tz_localize("Europe/Berlin"),
            "took": pd.to_timedelta([1, 2]),
            "month": pd.PeriodIndex(["2026-01", pd.NaT], freq="M"),
            "range": pd.interval_range(0, 2),
            "sparse": pd.arrays.SparseArray([0, 1]),
            "arrow": pd.Series([1, 2], dtype="uint8[pyarrow]"),
            "object": [{"a": 1}, None],
            "id": [number, None],
            7: [True, False],
        }
    )
    table = table_of(frame, tmp_path)
    assert types_of(table) == {
        "i": "int32",
        "f": "double",
        "category": "dictionary<values=string, indices=int8, ordered=0>",
        "category of numbers": "int64",
        "when": "timestamp[ns, tz=Europe/Berlin]",
        "took": "duration[ns]",
        "month": str(table.schema.field("month").type),
        "range": "struct<left: int64, right: int64>",
        "sparse": "int64",
        "arrow": "uint8",
        "object": "struct<a: int64>",
        "id": "extension<arrow.uuid>",
        "7": "bool",
    }
    assert values(table["month"].chunk(0)) == ["2026-01", None]
    assert values(table["f"].chunk(0)) == [None, 0.5]
    assert table["f"].null_count == 1
    assert values(table["when"].chunk(0))[0] == "2026-01-02T00:00:00.000000001+01:00"
    assert values(table["id"].chunk(0)) == [str(number), None]


def test_the_types_of_polars_stay(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "category": pl.Series(["x", "y"], dtype=pl.Categorical),
            "enum": pl.Series(["x", "y"], dtype=pl.Enum(["x", "y"])),
            "null": [None, None],
            "decimal": [decimal.Decimal("1.10")] * 2,
            "list": [["a"], None],
            "categories": pl.Series([["x"], ["y"]], dtype=pl.List(pl.Categorical)),
            "struct": [{"a": "b"}, None],
            "when": [dt.datetime(2026, 1, 2, tzinfo=UTC)] * 2,
            "array": pl.Series([[1, 2], [3, 4]], dtype=pl.Array(pl.Int64, 2)),
            "bytes": [b"\xff", None],
            "took": [dt.timedelta(1)] * 2,
            "time": [dt.time(1, 2)] * 2,
        }
    )
    for data in (frame, frame.lazy()):
        table = table_of(data, tmp_path)
        assert types_of(table) == {
            "category": "dictionary<values=string, indices=uint32, ordered=0>",
            "enum": "dictionary<values=string, indices=uint8, ordered=1>",
            "null": "string",
            "decimal": f"decimal128({frame['decimal'].dtype.precision}, {frame['decimal'].dtype.scale})",
            "list": "large_list<element: string>",
            "categories": "large_list<element: string>",
            "struct": "struct<a: string>",
            "when": "timestamp[us, tz=UTC]",
            "array": "fixed_size_list<element: int64>[2]",
            "bytes": "binary",
            "took": "duration[us]",
            "time": "time64[ns]",
        }
        assert table.to_pydict() == frame.to_arrow().to_pydict()


def test_the_types_of_duckdb_stay(tmp_path: Path) -> None:
    made = duckdb.sql(
        "select 'x' as t, [1] as l, {'k': 1} as s, timestamptz '2026-01-02 00:00:00+00' as w, 1.5::decimal(10,2) as d,"
        " 'a'::enum('a','b') as e, 1::hugeint as h, null as n, date '2026-01-01' as da, time '01:00' as ti,"
        " map{'a': 1} as m, '\\xff'::blob as b, uuid '00000000-0000-0000-0000-000000000001' as u"
    )
    table = table_of(made, tmp_path)
    types = types_of(table)
    assert types["e"] == "dictionary<values=string, indices=uint8, ordered=0>"
    assert (types["d"], types["h"], types["n"], types["da"]) == (
        "decimal128(10, 2)", "decimal128(38, 0)", "string", "date32[day]",
    )  # fmt: skip
    assert values(table["m"].chunk(0)) == [{"a": 1}]
    assert values(table["s"].chunk(0)) == [{"k": 1}]
    assert values(table["u"].chunk(0)) == ["00000000-0000-0000-0000-000000000001"]
    assert values(table["b"].chunk(0)) == ["/w=="]


def test_the_types_of_datasets_stay(tmp_path: Path) -> None:
    features = datasets.Features(
        {
            "grid": datasets.Array2D((2, 2), "int32"),
            "label": datasets.ClassLabel(names=["no", "yes"]),
            "messages": [{"role": datasets.Value("string"), "content": datasets.Value("string")}],
            "note": datasets.Value("large_string"),
        }
    )
    row = {"grid": [[1, 2], [3, 4]], "label": 1, "messages": [{"role": "user", "content": "x"}], "note": None}
    stored = datasets.Dataset.from_list([row, row], features=features)

    def rows() -> Iterator[dict[str, Any]]:
        yield row
        yield row

    streamed = datasets.IterableDataset.from_generator(rows, features=features)
    for data in (stored, streamed, stored.with_format("numpy", columns=["label"])):
        table = table_of(data, tmp_path)
        assert table.to_pylist() == [row, row]
        assert types_of(table)["grid"] == "list<element: list<element: int32>>"
        assert types_of(table)["note"] == "large_string"


def test_a_dataset_without_features_is_read_row_by_row(tmp_path: Path) -> None:
    """Its batches may differ in their types: here the first row has only nulls."""

    def rows() -> Iterator[dict[str, Any]]:
        yield {"a": None}
        yield {"a": "x"}

    assert lines_of(datasets.IterableDataset.from_generator(rows), tmp_path) == [{"a": None}, {"a": "x"}]


@pytest.mark.parametrize("data", [pd.Series(["a", "b"]), pl.Series("other", ["a", "b"]), pa.array(["a", "b"])])
def test_a_series_is_a_table_with_one_column(data: Any, tmp_path: Path) -> None:
    assert table_of(data, tmp_path).to_pydict() == {"prompt": ["a", "b"]}


@dataclasses.dataclass
class Point:
    at: dt.datetime


class Tree(msgspec.Struct):
    name: str
    child: Tree | None = None


class Model(pydantic.BaseModel):
    day: dt.date


Named = collections.namedtuple("Named", "a b")


def test_objects_are_rows_by_their_fields(tmp_path: Path) -> None:
    rows = [
        Point(dt.datetime(2026, 1, 2)), Tree("a", Tree("b")), Model(day=dt.date(2026, 1, 2)), Named(1, 2), "text",
        collections.OrderedDict(a=1), {"deep": [Tree("c"), Point(dt.datetime(2026, 1, 2, tzinfo=UTC))]},
    ]  # fmt: skip
    assert lines_of(tuple(rows), tmp_path) == [
        {"at": "2026-01-02T00:00:00"},
        {"name": "a", "child": {"name": "b", "child": None}},
        {"day": "2026-01-02"},
        {"a": 1, "b": 2},
        {"prompt": "text"},
        {"a": 1},
        {"deep": [{"name": "c", "child": None}, {"at": "2026-01-02T00:00:00Z"}]},
    ]


ARROW_VALUES = [
    dt.datetime(2026, 1, 2, 3, 4, 5), dt.datetime(1, 1, 1), dt.datetime(2026, 1, 2, 3, 4, 5, 600, UTC),
    dt.datetime(2026, 1, 2, tzinfo=dt.timezone(dt.timedelta(hours=-9, minutes=-30))),
    dt.date(2026, 1, 2), dt.time(1, 2), dt.time(1, 2, 3, 4), decimal.Decimal("1E+3"), decimal.Decimal("-1.10"),
    b"\xff", np.float32(0.1), np.int8(3), np.bool_(True), np.datetime64("2026-01-02T03:04:05.000000001"),
    dt.timedelta(seconds=5),
]  # fmt: skip


@pytest.mark.parametrize("value", ARROW_VALUES, ids=repr)
def test_values_that_json_lacks_are_written_as_if_they_came_from_parquet(value: Any) -> None:
    line = json.loads(json_line({"a": value, "b": [value]}, 0))
    assert line == {"a": values(pa.array([value]))[0], "b": values(pa.array([value]))}


def test_other_values_that_json_lacks(tmp_path: Path) -> None:
    row = {
        "missing": [pd.NaT, pd.NA, np.datetime64("NaT"), np.float32("nan"), decimal.Decimal("NaN")],
        "timestamp": pd.Timestamp("2026-01-02T00:00:00.000000001Z"),
        "day": np.datetime64("2026-01-02"),
        "grid": np.array([[1, 2], [3, 4]], dtype="int8"),
        "texts": np.array(["a", "b"]),
        "scalar": np.array(1.5),
        "path": pathlib.PurePosixPath("a/b"),
        "uuid": uuid.UUID(int=1),
        "month": pd.Period("2026-01"),
        "infinite": float("inf"),
        "long": 2**70,
        "surrogate": "\ud800",
    }
    assert lines_of([row], tmp_path) == [
        {
            "missing": [None] * 5,
            "timestamp": "2026-01-02T00:00:00.000000001Z",
            "day": "2026-01-02",
            "grid": [[1, 2], [3, 4]],
            "texts": ["a", "b"],
            "scalar": 1.5,
            "path": "a/b",
            "uuid": "00000000-0000-0000-0000-000000000001",
            "month": "2026-01",
            "infinite": float("inf"),
            "long": 2**70,
            "surrogate": "\ud800",
        }
    ]


def open_files() -> int:
    """Return the number of open files, where the system says it."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def looping() -> list[Any]:
    items: list[Any] = []
    items.append(items)
    return items


class UnknownTable:
    """Iterates over the names of its columns, as most tables do."""

    columns = ("a", "b")
    dtypes = ("int", "int")

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)


async def asynchronous() -> AsyncIterator[dict[str, Any]]:
    yield {}


REFUSED = {
    "one dictionary": ({"a": 1}, "the values must be columns|whose values must be columns, but 'a' is of the type int"),
    "a text as a column": ({"a": "text"}, "but 'a' is of the type str"),
    "columns of two lengths": ({"a": [1], "b": [1, 2]}, "'a' has 1, 'b' has 2"),
    "a column of two types": ({"a": [1, "x"]}, "the column 'a' can't be read"),
    "an object column": (pd.DataFrame({"a": ["x", None, 1]}), r"'a' holds values of two types, str \(in row 0\) and int \(in row 2\)"),
    "complex numbers": (pd.DataFrame({"b": [1], "a": [1j]}), "the column 'a' can't be read"),
    "two columns of one name": (pd.DataFrame([[1, 2]], columns=["a", "a"]), "2 columns named 'a'"),
    "two columns of one name as text": (pd.DataFrame([[1, 2]], columns=[1, "1"]), "2 columns named '1'"),
    "levels of columns": (pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([("a", "b")])), "several levels"),
    "no columns": (pd.DataFrame(), "no columns"),
    "objects of Polars": (pl.DataFrame({"a": pl.Series([object()], dtype=pl.Object)}), "'a', of the type Object"),
    "wide numbers": (pl.DataFrame({"a": pl.Series([1], dtype=getattr(pl, "Int128", pl.Object))}), "'a', of the type (Int128|Object)"),
    "intervals": (duckdb.sql("select 1 as b, interval 1 day as a"), "'a', of the type month_day_nano_interval"),
    "splits": (datasets.DatasetDict({"train": hugging_face()}), r"several splits.*data\['train'\]"),
    "a set as a value": ([{"b": 1}, {"a": {1}}], "row 1: the column 'a': a set has no order"),
    "a number as a row": ([{}, 1], "row 1 is of the type int; a row is a dictionary"),
    "an odd object": ([{"a": [1j]}], "row 0: the column 'a': JSON has no form for values of the type complex"),
    "a number as a name": ([{1: 2}], "row 0: the name of a column must be a string, not 1"),
    "an endless list": ([{"a": looping()}], "row 0: the column 'a': Circular reference"),
    "nothing": (None, "of the type NoneType; batchmix takes a DataFrame"),
    "a text": ("rows.jsonl", "of the type str; batchmix takes"),
    "a set": ({"a", "b"}, "a set, which has another order in each process"),
    "an open file": (io.StringIO("a"), "an open file; pass its path"),
    "a table of another library": (UnknownTable(), "UnknownTable; batchmix takes a DataFrame"),
    "an async iterator": (asynchronous(), r"\[row async for row in rows\]"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_taken_is_refused_with_its_row_and_column(kind: str, tmp_path: Path) -> None:
    data, message = REFUSED[kind]
    with pytest.raises(InputError, match=message):
        memory_rows(data, tmp_path, "prompt")
    assert list(tmp_path.iterdir()) == []


def test_an_exception_of_an_iterator_passes_and_leaves_nothing(tmp_path: Path) -> None:
    def rows() -> Iterator[dict[str, int]]:
        yield {"a": 1}
        raise KeyError("mine")

    def batches() -> Iterator[pa.RecordBatch]:
        yield pa.record_batch({"a": [1]})
        raise KeyError("mine")

    for data in (rows(), pa.RecordBatchReader.from_batches(pa.schema({"a": pa.int64()}), batches())):
        gc.collect()  # what other tests have left
        before = open_files()
        with pytest.raises(KeyError, match="mine"):
            memory_rows(data, tmp_path, "prompt")
        assert list(tmp_path.iterdir()) == []
        gc.collect()
        assert open_files() == before


def test_a_full_disk_is_said_so(tmp_path: Path) -> None:
    def rows() -> Iterator[dict[str, int]]:
        yield {"a": 1}
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(NoSpace, match="make room"):
        memory_rows(rows(), tmp_path, "prompt")


def test_the_digest_is_that_of_the_content(tmp_path: Path) -> None:
    """However it is cut into batches, whatever lies under nulls, and in whatever order a dictionary has its values."""
    odd = OddTables(7)
    for _ in range(30):
        table = odd.table(4, 40)
        pieces = [table.slice(0, 1), table.slice(1, 25), table.slice(26)]
        digests = set()
        for tables in ([table], pieces, [pa.concat_tables(pieces).combine_chunks()]):
            digest = ContentDigest(table.schema)
            for batch in (batch for each in tables for batch in each.to_batches()):
                digest.update(batch)
            digests.add(digest.hexdigest())
        assert len(digests) == 1
    hidden = [
        pa.Array.from_buffers(pa.int64(), 2, [pa.py_buffer(b"\x01"), pa.array([7, x]).buffers()[1]]) for x in (1, 2)
    ]
    orders = [
        pa.DictionaryArray.from_arrays(pa.array(at), texts)
        for at, texts in (([0, 1], ["x", "y"]), ([1, 0], ["y", "x"]))
    ]
    for pair in (hidden, orders):
        first, second = (digest_of(pa.table({"a": column}), tmp_path) for column in pair)
        assert first == second


def test_other_content_has_another_digest(tmp_path: Path) -> None:
    tables: list[Any] = [
        {"a": [1, 2]}, {"a": [2, 1]}, {"b": [1, 2]}, {"a": [1, None]}, {"a": [None, 1]}, {"a": [1]}, {"a": []},
        {"a": ["1", "2"]}, {"a": ["12", ""]}, {"a": [["1"], ["2"]]}, {"a": [["1", "2"], []]}, {"a": [["1", "2"], None]},
        {"a": [{"x": 1}, None]}, {"a": [{"x": 1}, {"x": None}]}, {"a": [1.0, 2.0]}, {"a": [1, 2], "b": [1, 2]},
        {"a": [True, False]}, {"a": [False, True]}, {"a": [b"1", b"2"]},
        [{"a": 1}, {"a": 2}], [{"a": 2}, {"a": 1}], [{"a": 1}], [],
    ]  # fmt: skip
    assert len({digest_of(table, tmp_path) for table in tables}) == len(tables)


def test_another_process_finds_the_same_digest(tmp_path: Path) -> None:
    made = 'pd.DataFrame({"t": ["a", None], "c": pd.Categorical(["x", "y"]), "l": [[1], None], "f": [0.5, None]})'
    program = (
        "import pandas as pd, pathlib; from batchmix.tables.memory_rows import memory_rows;"
        f"print(memory_rows({made}, pathlib.Path({str(tmp_path)!r}), 'prompt').digest)"
    )
    frame = pd.DataFrame({"t": ["a", None], "c": pd.Categorical(["x", "y"]), "l": [[1], None], "f": [0.5, None]})
    there = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert there.stdout.strip() == digest_of(frame, tmp_path)


def test_odd_tables_arrive_or_are_refused_by_column(tmp_path: Path) -> None:
    odd, refused = OddTables(3), 0
    for _ in range(60):
        table = odd.table(1, 30)
        try:
            there = table_of(table, tmp_path)
        except InputError as error:
            refused += "'c0'" in str(error) or pytest.fail(str(error))
        else:
            assert [values(chunk) for chunk in there.combine_chunks()["c0"].chunks] == [
                values(chunk) for chunk in table.combine_chunks()["c0"].chunks
            ]
    assert refused < 10


def test_row_groups_can_be_entered(tmp_path: Path) -> None:
    table = pa.table({"text": ["x" * 10_000 + str(number) for number in range(2000)]})
    rows = memory_rows(table, tmp_path, "prompt")
    with rows.file, pq.ParquetFile(rows.file) as file:
        assert file.num_row_groups > 2


def test_no_library_is_imported(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from batchmix.tables.memory_rows import memory_rows;"
        f"memory_rows([{{'a': 1}}], pathlib.Path({str(tmp_path)!r}), 'prompt');"
        "print([name for name in ('pandas', 'polars', 'duckdb', 'datasets', 'pydantic') if name in sys.modules])"
    )
    there = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert there.stdout.strip() == "[]"
