"""Arrow tables of types that people seldom have, with values that hardly anything else can hold."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pyarrow as pa

_INT64 = 2**63 - 1
_Values = Callable[[random.Random], Any]

_NUMBERS: list[tuple[pa.DataType, list[Any]]] = [
    (pa.int8(), [-128, 0, 127]), (pa.uint64(), [0, 2**64 - 1]), (pa.int64(), [-(2**63), 2**53 + 1, _INT64]),
    (pa.float64(), [0.5, float("nan"), float("inf"), -0.0, 1e300]), (pa.float32(), [0.1, float("nan")]),
    (pa.bool_(), [True, False]), (pa.null(), [None]),
]  # fmt: skip
_TIMES: list[tuple[pa.DataType, list[int]]] = [
    (pa.timestamp("s"), [0, 10**12, -(10**12)]), (pa.timestamp("ms", "UTC"), [0, -1, 10**15]),
    (pa.timestamp("us", "+02:00"), [0, 1, 10**18]), (pa.timestamp("ns"), [1, _INT64, -_INT64]),
    (pa.timestamp("ns", "Europe/Berlin"), [1, 10**18]), (pa.date32(), [0, 2**31 - 1, -(2**31)]),
    (pa.date64(), [0, 86_400_000 * 10**7]), (pa.time32("s"), [0, 86_399]), (pa.time64("ns"), [1, 86_399_999_999_999]),
    (pa.duration("s"), [0, 10**15]), (pa.duration("ns"), [1, -_INT64]),
]  # fmt: skip
_TEXTS: list[tuple[pa.DataType, list[Any]]] = [
    (pa.string(), ["", "é\x00", "\x1b[31m", "x" * 300]), (pa.large_string(), ["y", ""]), (pa.binary(), [b"", b"\xff\x00"]),
    (pa.large_binary(), [b"z"]), (pa.binary(3), [b"abc"]), (pa.string_view(), ["view", "a longer view than twelve"]),
]  # fmt: skip


def odd_table(dice: random.Random, rows: int) -> pa.Table:
    """Return a table with a column `text`, and others of odd types; the same for the same dice."""
    columns: dict[str, pa.Array] = {"text": pa.array([f"word {row}" for row in range(rows)])}
    if dice.random() < 0.8:
        columns["n"] = odd_array(dice, rows, depth=0)
    if dice.random() < 0.5:
        columns["a b"] = odd_array(dice, rows, depth=1)
    for name in ("many", "extra.x", "id", "é"):
        if dice.random() < 0.4:
            columns[name] = odd_array(dice, rows, depth=2)
    if dice.random() < 0.1:
        columns["text"] = odd_array(dice, rows, depth=1)
    return pa.table(columns)


def odd_array(dice: random.Random, rows: int, depth: int) -> pa.Array:
    """Return an array of a random type, nested as deep as `depth` at the most, with nulls here and there."""
    nested = [_list, _struct, _map, _dictionary]
    if depth and dice.random() < 0.6:
        return dice.choice(nested)(dice, rows, depth)
    kind, values = dice.choice([*_NUMBERS, *_TIMES, *_TEXTS])
    picked = [dice.choice(values) if dice.random() < 0.8 else None for _ in range(rows)]
    if (kind, values) in _TIMES:  # by their numbers: Python has no such times
        width = pa.int32() if kind.bit_width == 32 else pa.int64()
        return pa.array(picked, width).view(kind)
    return pa.array(picked, kind)


def _list(dice: random.Random, rows: int, depth: int) -> pa.Array:
    lengths = [dice.randint(0, 2) for _ in range(rows)]
    offsets = [sum(lengths[:row]) for row in range(rows + 1)]
    items = odd_array(dice, max(1, offsets[-1]), depth - 1)
    if dice.random() < 0.3:
        return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), items)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), items)


def _struct(dice: random.Random, rows: int, depth: int) -> pa.Array:
    names = dice.sample(["k", "a b", "", "é", "x"], dice.randint(1, 3))
    missing = pa.array([dice.random() < 0.2 for _ in range(rows)])
    return pa.StructArray.from_arrays([odd_array(dice, rows, depth - 1) for _ in names], names, mask=missing)


def _map(dice: random.Random, rows: int, depth: int) -> pa.Array:
    lengths = [dice.randint(0, 2) for _ in range(rows)]
    offsets = [sum(lengths[:row]) for row in range(rows + 1)]
    count = max(1, offsets[-1])
    keys = pa.array([dice.choice(["k", "k", "l", ""]) for _ in range(count)])
    if dice.random() < 0.3:
        keys = pa.array([dice.randint(-2, 2) for _ in range(count)])
    return pa.MapArray.from_arrays(pa.array(offsets, pa.int32()), keys, odd_array(dice, count, depth - 1))


def _dictionary(dice: random.Random, rows: int, _: int) -> pa.Array:
    picked = [dice.choice([0, 1, 2, None]) for _ in range(rows)]
    return pa.DictionaryArray.from_arrays(pa.array(picked, pa.int8()), pa.array(["é", "", "word"]))
