"""Columns of a run beside a table: the same kind, order, index and types; another table is refused."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import datasets
import duckdb
import msgspec
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pytest

from batchmix.errors import UsageError
from batchmix.tables.alignment import check_aligned
from batchmix.tables.frames import to_pandas, to_polars
from batchmix.tables.join import joined_table
from batchmix.tables.rows_of_run import RunColumns, one_per_row
from tests.tables.test_memory_rows import KINDS, ROWS

ANSWERS = pa.chunked_array([["yes"], ["no", None]])
TOKENS = pa.chunked_array([[7, None], [9]], pa.int64())
COLUMNS = {"answer": ANSWERS, "tokens": TOKENS}
PLAIN = {"answer": ["yes", "no", None], "tokens": [7, None, 9]}
CARRIED = pa.table({"text": pa.array(ROWS["text"], pa.string()), "id": pa.array(ROWS["id"])})


def joined(data: Any, columns: dict[str, pa.ChunkedArray], name_of_text: str = "prompt", carried: Any = None) -> Any:
    """Join columns by their own names, after comparing those that the run carries."""
    compared = [] if carried is None else carried.schema.names
    table = pa.table({f"result {name}": column for name, column in columns.items()})
    table = numbered(table)
    for name in compared:
        table = table.append_column(name, carried.column(name))
    sources = {name: f"result {name}" for name in columns}
    return joined_table(data, RunColumns(table.to_reader(), table.num_rows, sources, compared), name_of_text)


def numbered(table: pa.Table) -> pa.Table:
    return table.append_column("row", pa.array(range(table.num_rows)))


def plain(data: Any) -> dict[str, list[Any]]:
    """Return any table's columns as lists of Python's values."""
    if isinstance(data, dict):
        return {name: pa.array(column).to_pylist() for name, column in data.items()}
    if isinstance(data, pd.DataFrame):
        data = pa.Table.from_pandas(data, preserve_index=False)
    if isinstance(data, pl.LazyFrame):
        data = data.collect()
    if isinstance(data, pl.DataFrame):
        return data.to_dict(as_series=False)
    if isinstance(data, duckdb.DuckDBPyRelation):
        data = pa.RecordBatchReader.from_stream(data)
    if isinstance(data, datasets.Dataset | datasets.IterableDataset):
        data = list(data)
    if isinstance(data, pa.RecordBatchReader):
        data = data.read_all()
    if isinstance(data, pa.Table | pa.RecordBatch):
        return data.to_pydict()
    rows = list(data)
    return {name: [row[name] for row in rows] for name in rows[0]}


BECOMES = {"arrow dataset": pa.RecordBatchReader, "arrow scanner": pa.RecordBatchReader, "arrow stream": pa.Table}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_table_stays_what_it_is(kind: str) -> None:
    data = KINDS[kind]()
    result = joined(data, COLUMNS, carried=CARRIED)
    assert type(result) is BECOMES.get(kind, type(data))
    assert plain(result) == ROWS | PLAIN


@pytest.mark.parametrize("kind", KINDS)
def test_another_table_is_refused(kind: str) -> None:
    """With both numbers of rows, or the row and the column that differ. A one-shot reader is refused as it is read."""
    message = "the table has (3 rows and the run has 2|more rows than the run, which has 2)"
    with pytest.raises(UsageError, match=message):
        plain(joined(KINDS[kind](), {"answer": ANSWERS.slice(0, 2)}))
    other = CARRIED.set_column(1, "id", pa.array([1, 2, 4]))
    message = "row 2 of the table is not row 2 of the run: the column 'id' is '3' in the table and '4' in the run; join"
    with pytest.raises(UsageError, match=message):
        plain(joined(KINDS[kind](), {"answer": ANSWERS}, carried=other))
    longer = pa.concat_tables([CARRIED, CARRIED.slice(0, 1)])
    with pytest.raises(UsageError, match="the table has 3 rows and the run has 4"):
        plain(joined(KINDS[kind](), {"answer": pa.chunked_array([["a", "b", "c", "d"]])}, carried=longer))


@pytest.mark.parametrize("kind", KINDS)
def test_a_column_that_exists_is_refused(kind: str) -> None:
    with pytest.raises(UsageError, match="the table has 'text' already; choose another name"):
        joined(KINDS[kind](), {"text": ANSWERS})


def test_a_pandas_table_keeps_its_index_its_types_and_itself() -> None:
    index = pd.MultiIndex.from_tuples([("b", 1), ("a", 2), ("b", 1)], names=["x", "y"])
    frame = pd.DataFrame(
        {"c": pd.Categorical(["u", "v", "u"]), "i": [1, 2, 3], 7: [dt.date(2026, 1, 1)] * 3}, index=index
    )
    frame.attrs["source"] = "me"
    before = frame.copy()
    result = joined(frame, {**COLUMNS, "when": pa.chunked_array([[0, None, 1]], pa.timestamp("ms", "UTC"))})
    pd.testing.assert_frame_equal(frame, before)
    pd.testing.assert_frame_equal(result[frame.columns], before)
    assert result.attrs == {"source": "me"}
    assert result["tokens"].dtype == pd.Int64Dtype()
    assert result["tokens"].tolist() == [7, pd.NA, 9]
    assert result["answer"].dtype == pd.Series(["yes"]).dtype
    assert result["when"].dtype == pd.DatetimeTZDtype("ms", "UTC")
    if pd.__version__ >= "3":
        assert np.shares_memory(result["i"].to_numpy(), frame["i"].to_numpy())


def test_a_pandas_series_becomes_a_table_with_its_index() -> None:
    result = joined(pd.Series(["a", "b", "c"], index=[5, 5, 6], name="other"), COLUMNS, "text")
    assert result.index.tolist() == [5, 5, 6]
    assert plain(result) == {"text": ["a", "b", "c"]} | PLAIN


def test_a_lazy_table_stays_lazy(tmp_path: Any) -> None:
    """Filters that are pushed into the scan of a file leave the new columns beside their rows."""
    count = 100_000
    pl.DataFrame({"a": range(count)}).write_parquet(tmp_path / "a.parquet", row_group_size=1000)
    numbers = pa.chunked_array([range(count)])
    result = joined(pl.scan_parquet(tmp_path / "a.parquet").filter(pl.col("a") >= 0), {"b": numbers})
    for engine in ("in-memory", "streaming"):
        some = result.filter(pl.col("a") % 1000 == 7).collect(engine=engine)
        assert some["a"].to_list() == some["b"].to_list() == list(range(7, count, 1000))


def test_a_relation_stays_in_its_connection_with_its_types() -> None:
    connection = duckdb.connect()
    connection.execute(
        "create table t as select 1::hugeint h, 'a'::enum('a','b') e, uuid() u, interval 1 day i, '10'::bit b"
    )
    relation = connection.sql("from t")
    result = joined(relation, {"answer": pa.chunked_array([["yes"]])})
    again = joined(result, {"second": pa.chunked_array([["no"]])})
    assert again.types[:-2] == relation.types
    assert connection.sql("select e, answer, second from again").fetchall() == [("a", "yes", "no")]
    assert connection.sql("show all tables").fetchall()[0][2] == "t"
    connection.execute("set python_enable_replacements = false")
    with pytest.raises(UsageError, match="python_enable_replacements"):
        joined(relation, {"answer": pa.chunked_array([["yes"]])})


def test_a_long_relation_keeps_its_order() -> None:
    count = 300_000
    relation = duckdb.sql(f"select i as a from range({count}) t(i) order by i desc")
    result = joined(relation, {"b": pa.chunked_array([range(count - 1, -1, -1)])})
    assert result.filter("a <> b").count("*").fetchall() == [(0,)]


def test_a_dataset_keeps_its_format_and_shows_no_bar(capfd: pytest.CaptureFixture[str]) -> None:
    data = KINDS["datasets"]().with_format("numpy", columns=["id"])
    result = joined(data, COLUMNS)
    assert result.format["type"] == "numpy"
    assert result["answer"][:].tolist() == PLAIN["answer"]
    assert result.features["tokens"] == datasets.Value("int64")
    assert capfd.readouterr() == ("", "")
    assert not datasets.are_progress_bars_disabled()


class Point(msgspec.Struct):
    id: int


def test_rows_become_new_dictionaries() -> None:
    rows: list[Any] = [{"id": 1, "extra": object()}, Point(2), {"id": 3}]
    result = joined(rows, {"answer": ANSWERS})
    assert result == [{**rows[0], "answer": "yes"}, {"id": 2, "answer": "no"}, {"id": 3, "answer": None}]
    assert rows[2] == {"id": 3}
    assert joined(("a", "b", "c"), {"answer": ANSWERS}, "text") == (
        {"text": "a", "answer": "yes"}, {"text": "b", "answer": "no"}, {"text": "c", "answer": None},
    )  # fmt: skip


def test_rows_with_a_column_of_that_name_are_refused() -> None:
    with pytest.raises(UsageError, match="row 2 has 'answer' already"):
        joined([{"id": 1}, {"id": 2}, {"answer": 3}], {"answer": ANSWERS})


def test_an_iterator_is_joined_as_it_is_read() -> None:
    asked = 0

    def rows(count: int) -> Iterator[dict[str, int]]:
        nonlocal asked
        for number in range(count):
            asked += 1
            yield {"id": number}

    columns = {"answer": pa.chunked_array([[str(number) for number in range(3000)]])}
    result = joined(rows(3000), columns)
    assert next(result) == {"id": 0, "answer": "0"}
    assert asked <= 1024
    assert [row["answer"] for row in result] == [str(number) for number in range(1, 3000)]
    used_up = rows(3000)
    list(used_up)
    with pytest.raises(
        UsageError, match="the table has 0 rows and the run has 3,000; a reader or an iterator is used up"
    ):
        list(joined(used_up, columns))
    with pytest.raises(UsageError, match="the table has 2,999 rows and the run has 3,000"):
        list(joined(rows(2999), columns))
    with pytest.raises(UsageError, match="more rows than the run, which has 3,000"):
        list(joined(rows(3001), columns))


def test_rows_are_compared_as_the_run_carries_them() -> None:
    """Whole numbers beside fractions are doubles, mixed values JSON text, NaN and missing values null."""
    rows = [
        {
            "number": 1,
            "mixed": "a",
            "object": {"b": [1]},
            "day": dt.date(2026, 1, 2),
            "long": 2**70,
            "float": float("nan"),
        },
        {"number": 0.5, "mixed": 1, "object": None, "float": float("inf")},
    ]
    carried = pa.table(
        {
            "number": [1.0, 0.5],
            "mixed": ['"a"', "1"],
            "object": ['{"b":[1]}', None],
            "day": ["2026-01-02", None],
            "long": [str(2**70), None],
            "float": [None, float("inf")],
            "elsewhere": ["x", "y"],
        }
    )
    check_aligned(rows, numbered(carried), carried.schema.names)
    with pytest.raises(UsageError, match=r"row 0 .* the column 'mixed' is 'a' in the table and 'b' in the run"):
        check_aligned(rows, numbered(carried.set_column(1, "mixed", pa.array(["b", "1"]))), carried.schema.names)


def test_nan_and_other_types_of_the_same_values_are_equal() -> None:
    frame = pd.DataFrame(
        {"f": [np.nan, 0.5], "c": pd.Categorical([1, 2]), "m": pd.PeriodIndex(["2026-01", "2026-02"], freq="M")}
    )
    carried = pa.table({"f": [None, 0.5], "c": [1, 2], "m": ["2026-01", "2026-02"]})
    check_aligned(frame, numbered(carried), carried.schema.names)
    with pytest.raises(UsageError, match=r"row 0 .* the column 'f' is null in the table and '1' in the run"):
        check_aligned(frame, numbered(pa.table({"f": [1, 0.5]})), ["f"])


def test_a_difference_far_behind_is_found() -> None:
    numbers = list(range(5000))
    other = [*numbers[:4321], -1, *numbers[4322:]]
    with pytest.raises(UsageError, match="row 4321 of the table"):
        check_aligned(pd.DataFrame({"n": numbers}), numbered(pa.table({"n": other})), ["n"])


def results(rows: list[tuple[int, str, int]]) -> pa.RecordBatchReader:
    """Return a run's results in batches of two rows."""
    columns = {name: [row[at] for row in rows] for at, name in enumerate(("row", "model", "sample"))}
    table = pa.table(columns, schema=pa.schema([("row", pa.int64()), ("model", pa.string()), ("sample", pa.int32())]))
    return pa.RecordBatchReader.from_batches(table.schema, table.to_batches(2))


def test_each_row_has_one_result_or_nulls() -> None:
    """Of the chosen model and sample, also where a canary left gaps, before, between and after its rows."""
    found = [(1, "a", 0), (1, "b", 0), (1, "b", 1), (2, "b", 1), (5000, "a", 1), (5000, "b", 1)]
    there = one_per_row(results(found), 12_000, {"model": "b", "sample": 1}).read_all()
    assert there.num_rows == 12_000
    assert there.filter(there.column("row").is_valid()).column("row").to_pylist() == [1, 2, 5000]
    assert [there.column("row")[row].as_py() for row in (1, 2, 5000)] == [1, 2, 5000]
    whole = [(row, "a", 0) for row in range(7)]
    assert one_per_row(results(whole), 7, {"sample": 0}).read_all().column("row").to_pylist() == list(range(7))
    assert one_per_row(results([]), 3, {"sample": 0}).read_all().column("row").to_pylist() == [None] * 3


def test_frames_have_types_that_nulls_do_not_change() -> None:
    table = pa.table(
        {
            "i": pa.array([1, None], pa.int32()),
            "b": pa.array([True, None]),
            "f": [0.5, None],
            "t": ["a", None],
            "when": pa.array([0, None], pa.timestamp("ms", "UTC")),
        },
        metadata={"pandas": "not what pandas writes"},
    )
    frame = to_pandas(table)
    assert [str(dtype) for dtype in frame.dtypes[:3]] == ["Int32", "boolean", "float64"]
    assert str(frame["when"].dtype) == "datetime64[ms, UTC]"
    assert to_polars(table).schema == {
        "i": pl.Int32, "b": pl.Boolean, "f": pl.Float64, "t": pl.String, "when": pl.Datetime("ms", "UTC"),
    }  # fmt: skip
    assert to_polars(table).rows() == [tuple(row.values()) for row in table.to_pylist()]


def test_a_path_is_no_table() -> None:
    with pytest.raises(UsageError, match=r"^rows\.jsonl: is a path, .*; read the file first$"):
        joined("rows.jsonl", COLUMNS)


@pytest.mark.parametrize("rows", [[{"a": 1}] * 4, iter([{"a": 1}] * 4)])
def test_a_table_with_more_rows_may_be_joined_in_part(rows: Any) -> None:
    with pytest.raises(UsageError, match="or only its first rows if the run has a limit"):
        list(joined(rows, COLUMNS))
