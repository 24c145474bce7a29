"""Arrow tables as DataFrames of pandas and Polars."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl


def to_pandas(table: pa.Table) -> pd.DataFrame:
    """Return an Arrow table as a pandas DataFrame.

    Integers and booleans become pandas' nullable types (`Int64`, `boolean`), so that nulls change no type.
    """
    frame: pd.DataFrame = table.replace_schema_metadata().to_pandas(types_mapper=_nullable_types().get)
    return frame


def pandas_array(column: pa.ChunkedArray) -> Any:
    """Return an Arrow column as an array of pandas, in the types of `to_pandas`."""
    return to_pandas(pa.table({"c": column}))["c"].array


def to_polars(table: pa.Table) -> pl.DataFrame:
    """Return an Arrow table as a Polars DataFrame."""
    import polars as pl

    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _nullable_types() -> dict[pa.DataType, Any]:
    import pandas as pd

    return {
        pa.int8(): pd.Int8Dtype(),
        pa.int16(): pd.Int16Dtype(),
        pa.int32(): pd.Int32Dtype(),
        pa.int64(): pd.Int64Dtype(),
        pa.uint8(): pd.UInt8Dtype(),
        pa.uint16(): pd.UInt16Dtype(),
        pa.uint32(): pd.UInt32Dtype(),
        pa.uint64(): pd.UInt64Dtype(),
        pa.bool_(): pd.BooleanDtype(),
    }
