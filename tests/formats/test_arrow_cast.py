from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from batchmix.formats.arrow_cast import fit, fitted, storable

_STRUCT = pa.struct([("a", pa.int64()), ("b", pa.string())])


@pytest.mark.parametrize(
    ("column", "kind", "wanted"),
    [
        (pa.array([1, None], pa.int32()), pa.int64(), [1, None]),
        (pa.nulls(2), _STRUCT, [None, None]),
        (pa.array(["x", None]).dictionary_encode(), pa.large_string(), ["x", None]),
        (pa.array([{"a": 1}, None], pa.struct([("a", pa.int8())])), _STRUCT, [{"a": 1, "b": None}, None]),
        (
            pa.array([{"b": "x", "a": 1}], pa.struct([("b", pa.large_string()), ("a", pa.int8())])),
            _STRUCT,
            [{"a": 1, "b": "x"}],
        ),
        (
            pa.array([[{"a": 1}], None, []], pa.list_(pa.struct([("a", pa.int8())]))),
            pa.large_list(_STRUCT),
            [[{"a": 1, "b": None}], None, []],
        ),
        (pa.array([[1], None, [2, 3]], pa.list_view(pa.int8())), pa.list_(pa.int8()), [[1], None, [2, 3]]),
        (pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int8(), 2)), pa.list_(pa.int64()), [[1, 2], None, [3, 4]]),
        (pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int8(), 2)), pa.list_(pa.int64(), 2), [[1, 2], None, [3, 4]]),
        (
            pa.array([[("k", 1)], None, [("l", 2), ("m", 3)]], pa.map_(pa.string(), pa.int8())),
            pa.map_(pa.string(), pa.int64()),
            [[("k", 1)], None, [("l", 2), ("m", 3)]],
        ),
        (
            pa.array(["y", None, "x"]).dictionary_encode(),
            pa.dictionary(pa.uint32(), pa.large_string(), ordered=True),
            ["y", None, "x"],
        ),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, pa.DataType) else "",
)
def test_a_column_is_cast_to_another_type(column: Any, kind: Any, wanted: Any) -> None:
    """Also from the middle of the column."""
    for start in range(len(column) + 1):
        found = fit(column.slice(start), kind)
        found.validate(full=True)
        assert found.type == kind
        assert found.to_pylist() == wanted[start:]


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (pa.array([2**53 + 1]), pa.float64()),
        (pa.array([2**62], pa.timestamp("s")), pa.timestamp("ns")),
        (pa.array([[2**53 + 1]]), pa.list_(pa.float64())),
        (pa.array([{"a": 2**63}], pa.struct([("a", pa.uint64())])), pa.struct([("a", pa.int64())])),
    ],
    ids=str,
)
def test_a_value_that_would_change_is_refused(column: Any, kind: Any) -> None:
    """At any depth."""
    with pytest.raises(pa.ArrowInvalid):
        fit(column, kind)


def test_views_and_nulls_are_stored_as_common_types() -> None:
    """At any depth; other types are unchanged."""
    inner = pa.struct([("v", pa.string_view()), ("l", pa.list_view(pa.binary_view()))])
    plain = pa.struct([("v", pa.string()), ("l", pa.list_(pa.binary()))])
    assert storable(pa.map_(pa.string_view(), inner)) == pa.map_(pa.string(), plain)
    assert storable(pa.null()) == pa.string()
    words = pa.dictionary(pa.int8(), pa.string())
    assert storable(pa.struct([("d", pa.list_(words))])) == pa.struct([("d", pa.list_(pa.string()))])
    assert storable(pa.dictionary(pa.uint32(), pa.string_view())) == pa.dictionary(pa.uint32(), pa.string())
    for kind in (words, pa.list_(pa.int8(), 2), _STRUCT, pa.decimal256(50, 1)):
        assert storable(kind) is kind


def test_a_batch_gets_the_columns_of_a_schema() -> None:
    """Missing columns are null."""
    batch = pa.record_batch({"x": pa.array([1], pa.int8()), "rest": pa.array([1])})
    schema = pa.schema([("y", pa.string()), ("x", pa.int64())])
    assert fitted(batch, schema).to_pylist() == [{"y": None, "x": 1}]
