"""Builds Arrow columns from Python values, without importing pandas into a program that does not use it.

`pyarrow.array` imports pandas, if it is installed, when it is first given a list. That takes 60 MB and a second, in
which no response is read. The command line keeps pyarrow from it (`pyarrow_setup`), but a program that calls batchmix
may use pandas later.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
from array import array
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import Any

import pyarrow as pa

from batchmix.formats import pyarrow_setup

_CODES = {pa.int64(): "q", pa.int32(): "i", pa.float64(): "d"}
"""The type codes of `array.array` for types whose values are numbers."""
_MAX_TEXT_BYTES = 2**31 - 1
"""The most bytes in one Arrow array of strings."""


MakeArray = Callable[[Iterable[Any], pa.DataType], pa.Array]
"""Makes an Arrow array of integers, doubles, booleans, strings, or times as numbers. None becomes null.

Raises `OverflowError`, `TypeError`, `ValueError` or `ArrowInvalid` for a value that does not fit the type.
"""


def array_maker() -> MakeArray:
    """Return `pyarrow.array`, or a function that does the same without pandas."""
    if pyarrow_setup.keeps_pandas_out() or "pandas" in sys.modules or not _pandas_is_installed():
        make: MakeArray = pa.array
        return make
    return array_of


def array_of(values: Iterable[Any], type_: pa.DataType) -> pa.Array:
    """Return an Arrow array as `MakeArray` says, built from buffers."""
    values = values if isinstance(values, list | tuple) else list(values)
    nulls = values.count(None)
    if type_ == pa.string():
        data = _strings(["" if value is None else value for value in values] if nulls else values)
    else:
        plain = [0 if value is None else value for value in values] if nulls else values
        has_bools = bool in (types := set(map(type, values)) - {type(None)})
        if has_bools if not pa.types.is_boolean(type_) else types - {bool}:
            raise TypeError(f"a column of {type_} holds {', '.join(sorted(one.__name__ for one in types))}")
        code = "q" if pa.types.is_timestamp(type_) else _CODES.get(type_)
        data = [pa.py_buffer(array(code, plain)) if code else _bits(plain)]
    validity = _bits([value is not None for value in values]) if nulls else None
    return pa.Array.from_buffers(type_, len(values), [validity, *data], nulls)


@functools.cache
def _pandas_is_installed() -> bool:
    return importlib.util.find_spec("pandas") is not None


def _strings(texts: Sequence[str]) -> list[pa.Buffer]:
    """Return the offsets and the bytes of an array of strings."""
    joined = "".join(texts)
    if joined.isascii():
        data, sizes = joined.encode(), map(len, texts)
    else:
        encoded = [text.encode() for text in texts]
        data, sizes = b"".join(encoded), map(len, encoded)
    if len(data) > _MAX_TEXT_BYTES:
        raise OverflowError("the texts of a batch are longer than 2 GB")
    return [pa.py_buffer(array("i", accumulate(sizes, initial=0))), pa.py_buffer(data)]


def _bits(values: Sequence[Any]) -> pa.Buffer:
    """Return booleans as bits, the first one in the lowest bit of the first byte."""
    digits = "".join(["1" if value else "0" for value in reversed(values)])
    return pa.py_buffer(int(digits or "0", 2).to_bytes((len(values) + 7) // 8, "little"))
