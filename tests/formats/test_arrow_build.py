"""Columns built without `pyarrow.array` are those that it builds."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchmix.formats.arrow_build import array_of
from tests.conftest import Provider

MS = pa.timestamp("ms", tz="UTC")
VALUES: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.string(): st.text(st.characters(codec="utf-8")),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.int32(): st.integers(-(2**31), 2**31 - 1),
    pa.float64(): st.floats(allow_nan=False) | st.integers(-(2**53), 2**53),
    pa.bool_(): st.booleans(),
    MS: st.integers(-(2**62), 2**62),
}
COLUMNS = st.sampled_from(list(VALUES)).flatmap(
    lambda type_: st.tuples(st.just(type_), st.lists(st.none() | VALUES[type_], max_size=40))
)


@given(COLUMNS)
def test_a_column_is_that_of_pyarrow(column: tuple[pa.DataType, list[Any]]) -> None:
    type_, values = column
    array = array_of(iter(values), type_)
    array.validate(full=True)
    assert array.equals(pa.array(values, type_))
    assert array.null_count == values.count(None)


@pytest.mark.parametrize(
    ("values", "type_"),
    [
        ([1.5], pa.int64()), ([True], pa.int64()), ([2**63], pa.int64()), ([2**31], pa.int32()), (["1"], pa.float64()),
        ([None, True], pa.float64()), ([1], pa.bool_()), ([1], pa.string()), (["\ud800"], pa.string()), ([b"a"], pa.string()),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_refused(values: list[Any], type_: pa.DataType) -> None:
    with pytest.raises((OverflowError, TypeError, ValueError)):
        array_of(values, type_)


PROGRAM = """
import sys
import batchmix as bm
rows = [{"id": f"r{n}", "text": "ä" * n, "n": n, "x": n / 2, "yes": n % 2 == 0, "list": [n]} for n in range(30)]
run = bm.run(rows, "Say {{ text }}", model="m", base_url=sys.argv[1], provider={"api_key_env": ""}, out=sys.argv[2])
assert len(list(run)) == run.summary["ok"] == 30
assert "pandas" not in sys.modules
import pandas, pyarrow
assert pyarrow.array(pandas.Series([1, None], dtype="Int64")).null_count == 1
assert pyarrow.array([pandas.NA, "a"], from_pandas=True).null_count == 1
assert run.to_pandas().shape[0] == 30
"""


def test_a_program_that_calls_batchmix_has_pandas_only_if_it_imports_it(standin: Provider, tmp_path: Any) -> None:
    subprocess.run([sys.executable, "-c", PROGRAM, standin.url, tmp_path / "run"], check=True)
