from __future__ import annotations

import datetime
import decimal
import json
import random
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from batchmix.formats.arrow_cast import fit, storable, with_valid_utf8
from batchmix.formats.arrow_values import row_values, values
from batchmix.formats.iso_times import date_text, days_of, duration_text, timestamp_text
from tests.odd_tables import OddTables

DAY, S_2023 = 19_675, 1_700_000_000


@pytest.mark.parametrize(
    ("column", "wanted"),
    [
        (pa.array([1.5, float("nan"), float("inf"), None]), [1.5, None, float("inf"), None]),
        (
            pa.array([0.1, 19.99, 1e-7, 16777216.0, float("-inf"), float("nan"), None], pa.float32()),
            [0.1, 19.99, 1e-7, 16777216.0, float("-inf"), None, None],
        ),
        (pa.array([np.float16(0.5), np.float16("nan")], pa.float16()), [0.5, None]),
        (pa.array([[float("nan"), 1.0]]), [[None, 1.0]]),
        (pa.array([S_2023 * 10**9 + 1, None], pa.timestamp("ns")), ["2023-11-14T22:13:20.000000001", None]),
        (pa.array([S_2023], pa.timestamp("s", "UTC")), ["2023-11-14T22:13:20Z"]),
        (pa.array([S_2023], pa.timestamp("s", "+02:00")), ["2023-11-15T00:13:20+02:00"]),
        (pa.array([S_2023], pa.timestamp("s", "Europe/Berlin")), ["2023-11-14T23:13:20+01:00"]),
        (pa.array([S_2023], pa.timestamp("s", "Mars/Olympus")), ["2023-11-14T22:13:20Z"]),
        (pa.array([2**62], pa.timestamp("s", "Europe/Berlin")), ["+146138514283-06-19T07:45:04Z"]),
        (pa.array([-(2**31), 2**31 - 1], pa.int32()).view(pa.date32()), ["-5877641-06-23", "+5881580-07-11"]),
        (pa.array([1], pa.time64("ns")), ["00:00:00.000000001"]),
        (pa.array([86_399_999], pa.time32("ms")), ["23:59:59.999000"]),
        (pa.array([90_000_000_000_001, -1], pa.duration("ns")), ["P1DT3600.000000001S", "-PT0.000000001S"]),
        (pa.array([(1, 2, -500_000_000)], pa.month_day_nano_interval()), ["P1M2DT-0.5S"]),
        (pa.array([decimal.Decimal("1.20")], pa.decimal256(50, 2)), ["1.20"]),
        (pa.array([b"ab", None]), ["YWI=", None]),
        (pa.array([{"t": 1}], pa.struct([("t", pa.timestamp("ns"))])), [{"t": "1970-01-01T00:00:00.000000001"}]),
        (pa.array([[("k", 1), ("k", 2)], None], pa.map_(pa.string(), pa.int32())), [{"k": 2}, None]),
        (pa.array([[(1, "a")]], pa.map_(pa.int32(), pa.string())), [{"1": "a"}]),
        (pa.array(["a", None, "a"]).dictionary_encode(), ["a", None, "a"]),
        (pa.RunEndEncodedArray.from_arrays(pa.array([2], pa.int32()), pa.array(["a"])), ["a", "a"]),
        (pa.array(["a", None], pa.string_view()), ["a", None]),
        (pa.array([[1], None, [2, 3]], pa.list_view(pa.int8())), [[1], None, [2, 3]]),
        (
            pa.UnionArray.from_dense(
                pa.array([0, 1], pa.int8()), pa.array([0, 0], pa.int32()), [pa.array([1]), pa.array(["x"])]
            ),
            [1, "x"],
        ),
        (
            pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], names=["same", "same"]),
            [{"same": 2}],
        ),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_any_column_can_be_converted_to_json(column: Any, wanted: Any) -> None:
    """Also from the middle of the column."""
    assert values(column) == wanted
    assert values(column.slice(1)) == wanted[1:]


def test_logical_types_become_their_logical_values() -> None:
    """A UUID becomes text, JSON its value, a bool8 true or false, a tensor its numbers."""
    if not hasattr(pa, "json_"):
        pytest.skip("this pyarrow does not know them")
    made = pa.ExtensionArray.from_storage
    uuid = made(pa.uuid(), pa.array([bytes(range(16)), None], pa.binary(16)))
    assert values(uuid) == ["00010203-0405-0607-0809-0a0b0c0d0e0f", None]
    assert values(made(pa.json_(), pa.array(['{"a":1}', "{]", None]))) == [{"a": 1}, "{]", None]
    assert values(made(pa.bool8(), pa.array([0, 5], pa.int8()))) == [False, True]
    tensor = pa.fixed_shape_tensor(pa.int32(), [2])
    assert values(made(tensor, pa.array([[1, 2], None], pa.list_(pa.int32(), 2)))) == [[1, 2], None]


def test_times_are_written_as_python_and_msgspec_write_them() -> None:
    """Prompts of earlier versions keep their text, and so their hash."""
    dice = random.Random(1)
    epoch = datetime.datetime(1970, 1, 1)
    for _ in range(2000):
        day = dice.randrange(-719_162, 2_932_896)
        date = datetime.date(1970, 1, 1) + datetime.timedelta(day)
        assert date_text(day) == date.isoformat()
        assert days_of(date.year, date.month, date.day) == day
        us = dice.randrange(-62_135_596_800 * 10**6, 253_402_300_799 * 10**6)
        moment = epoch + datetime.timedelta(microseconds=us)
        assert timestamp_text(us, "us", None) == moment.isoformat()
        took = datetime.timedelta(microseconds=dice.randrange(-(10**15), 10**15))
        assert duration_text(took // datetime.timedelta(microseconds=1), "us") == msgspec.to_builtins(took)


def test_invalid_utf8_becomes_the_replacement_character() -> None:
    """At any depth, in read and in carried columns."""
    raw = pa.py_buffer(b"a\xffb")
    broken = pa.Array.from_buffers(pa.string(), 2, [None, pa.py_buffer(b"\0\0\0\0\x02\0\0\0\x03\0\0\0"), raw])
    inside = pa.StructArray.from_arrays([pa.ListArray.from_arrays(pa.array([0, 2], pa.int32()), broken)], names=["t"])
    assert values(broken) == ["a\ufffd", "b"]
    assert with_valid_utf8(broken).to_pylist() == ["a\ufffd", "b"]
    assert with_valid_utf8(inside).to_pylist() == [{"t": ["a\ufffd", "b"]}]
    good = pa.array(["a"])
    assert with_valid_utf8(good) is good


@pytest.mark.parametrize("seed", range(40))
def test_odd_columns_survive_the_way_through_json(seed: int) -> None:
    """Any nested types, with nulls, slices and values beyond Python's range."""
    tables = OddTables(seed)
    table = tables.table(4, 12)
    batch = table.to_batches()[0]
    for part in (batch, batch.slice(5, 4), batch.slice(12)):
        rows = row_values(part)
        assert len(rows) == part.num_rows
        json.loads(msgspec.json.encode(rows))
        for column in part.columns:
            whole = values(column)
            assert whole == [value for one in range(len(column)) for value in values(column.slice(one, 1))]
            again = fit(column, storable(column.type))
            again.validate(full=True)
            assert values(again) == whole
