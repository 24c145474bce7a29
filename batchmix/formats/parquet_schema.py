"""The types in which Parquet stores a table of any library."""

from __future__ import annotations

import io
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq

from batchmix.errors import InputError
from batchmix.formats.arrow_cast import storable
from batchmix.formats.arrow_values import is_extension, is_text
from batchmix.formats.display import clean, quoted

Types = pa.types


def no_column(name: str, error: Exception, dtype: str = "") -> InputError:
    """Return the error for a column that Arrow or Parquet can't hold."""
    kind = f", of the type {clean(dtype, 80)}," if dtype else ""
    return InputError(f"the column {quoted(name)}{kind} can't be read: {first_line(error)}; convert it or leave it out")


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, for a message of one line."""
    return clean(str(error).splitlines()[0] if str(error) else type(error).__name__)


def parquet_schema(schema: pa.Schema) -> pa.Schema:
    """Return the schema with which to write a table, without metadata. Types that Parquet lacks become similar ones.

    Raises `InputError` if there is no column, two have one name, or one has a type that Parquet can't store.
    """
    if not schema.names:
        raise InputError("the table has no columns")
    for name, count in Counter(schema.names).items():
        if count > 1:
            raise InputError(f"the table has {count} columns named {quoted(name)}")
    fields = [pa.field(field.name, _stored(field.type)) for field in schema]
    first_of_type = {field.type: field for field in reversed(fields)}
    for field in first_of_type.values():
        try:
            pq.write_table(pa.table({field.name: pa.nulls(1, field.type)}), io.BytesIO())
        except (pa.ArrowException, TypeError) as error:
            raise no_column(field.name, error, str(field.type)) from error
    return pa.schema(fields)


def _stored(dtype: pa.DataType) -> pa.DataType:
    if is_extension(dtype) and not dtype.extension_name.startswith("arrow."):
        # Another process, which has not imported the type's library, would read its storage.
        return _stored(dtype.storage_type)
    dtype = storable(dtype)
    if Types.is_dictionary(dtype) and not is_text(dtype.value_type):
        return _stored(dtype.value_type)
    return dtype
