"""Arrow tables of random, nested types, with values that often break readers."""

from __future__ import annotations

import decimal
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

_TEXTS = ["", "a", "é\U0001f600", "\x00", "=1+1", 'quo"te', "two\nlines", "NaN", "{{ x }}", "\x1b[2J", "x" * 300]
_INT64 = [0, 1, -1, 2**53 + 1, 2**63 - 1, -(2**63), 86_400_000, 253_402_300_800]
_ZONES = [None, "UTC", "Europe/Berlin", "+02:00", "-09:30", "Mars/Olympus"]
Leaf = tuple[pa.DataType, Callable[[], Any]]


class OddTables:
    """Makes the same columns for the same seed."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)

    def table(self, columns: int, rows: int) -> pa.Table:
        """Return a table with columns c0, c1 and so on."""
        return pa.table({f"c{number}": self.column(self._dice.randint(0, 3), rows) for number in range(columns)})

    def column(self, depth: int, rows: int) -> pa.Array:
        """Return a column nested to exactly this depth."""
        made = self._dice.choice([self._leaf] if depth == 0 else [self._struct, self._list, self._map, self._fixed])
        return made(rows) if made == self._leaf else made(depth, rows)

    def _holes(self, rows: int) -> pa.Array:
        share = self._dice.choice([0.0, 0.3, 1.0])
        return pa.array([self._dice.random() < share for _ in range(rows)], pa.bool_())

    def _struct(self, depth: int, rows: int) -> pa.Array:
        children = [self.column(depth - 1, rows) for _ in range(self._dice.randint(1, 3))]
        names = self._dice.sample(["a", "b.c", "Größe", "items", ""], len(children))
        return pa.StructArray.from_arrays(children, names=names, mask=self._holes(rows))

    def _offsets(self, rows: int, kind: pa.DataType) -> pa.Array:
        offsets = [0]
        for _ in range(rows):
            offsets.append(offsets[-1] + self._dice.randint(0, 3))
        return pa.array(offsets, kind)

    def _list(self, depth: int, rows: int) -> pa.Array:
        made, kind = self._dice.choice([(pa.ListArray, pa.int32()), (pa.LargeListArray, pa.int64())])
        offsets = self._offsets(rows, kind)
        return made.from_arrays(offsets, self.column(depth - 1, offsets[-1].as_py()), mask=self._holes(rows))

    def _map(self, depth: int, rows: int) -> pa.Array:
        offsets = self._offsets(rows, pa.int32())
        count = offsets[-1].as_py()
        texts = [self._dice.choice(_TEXTS) for _ in range(count)]
        keys = self._dice.choice([pa.array(texts, pa.string()), pa.array(range(count), pa.int32())])
        return pa.MapArray.from_arrays(offsets, keys, self.column(depth - 1, count))

    def _fixed(self, depth: int, rows: int) -> pa.Array:
        size = self._dice.randint(1, 3)
        return pa.FixedSizeListArray.from_arrays(self.column(depth - 1, rows * size), size)

    def _leaf(self, rows: int) -> pa.Array:
        kind, value = self._dice.choice(self._leaves())
        holes = self._holes(rows).to_pylist()
        given = [None if hole else value() for hole in holes]
        if pa.types.is_temporal(kind):
            return pa.array(given, pa.int32() if kind.bit_width == 32 else pa.int64()).view(kind)
        if isinstance(kind, pa.BaseExtensionType):
            return pa.ExtensionArray.from_storage(kind, pa.array(given, kind.storage_type))
        return pa.array(given, kind)

    def _leaves(self) -> list[Leaf]:
        dice = self._dice
        pick = lambda values: lambda: dice.choice(values)  # noqa: E731
        days = pick([0, -1, 2**31 - 1, -(2**31), 2_932_897, -719_163])
        of_day = lambda size: lambda: dice.randrange(86_400 * size)  # noqa: E731
        found: list[Leaf] = [
            (pa.null(), lambda: None),
            (pa.bool_(), pick([True, False])),
            *((kind, pick([0, 1, 127])) for kind in (pa.int8(), pa.uint8(), pa.int16(), pa.uint16(), pa.int32())),
            (pa.int64(), pick(_INT64)),
            (pa.uint64(), pick([0, 2**64 - 1])),
            (pa.float16(), lambda: np.float16(dice.choice([0.5, float("nan"), float("-inf")]))),
            *((kind, pick([0.1, -0.0, float("nan"), float("inf"), 1e300, 5e-324])) for kind in (pa.float64(),)),
            (pa.float32(), pick([0.1, float("nan"), float("-inf")])),
            *((kind, pick(_TEXTS)) for kind in (pa.string(), pa.large_string())),
            (pa.dictionary(pa.int32(), pa.string()), pick(_TEXTS)),
            *((kind, pick([b"", b"\xff\x00", b"text"])) for kind in (pa.binary(), pa.large_binary())),
            (pa.binary(3), pick([b"abc", b"\xff\xfe\x00"])),
            (pa.decimal128(38, 10), pick([decimal.Decimal("0"), decimal.Decimal("-1234567890123456789.0123456789")])),
            (pa.decimal256(76, 0), pick([decimal.Decimal(10**75), decimal.Decimal(-1)])),
            (pa.date32(), days),
            *((pa.timestamp(unit, zone), pick(_INT64)) for unit in ("ms", "us", "ns") for zone in _ZONES),
            *((pa.time32(unit), of_day(size)) for unit, size in (("s", 1), ("ms", 10**3))),
            *((pa.time64(unit), of_day(size)) for unit, size in (("us", 10**6), ("ns", 10**9))),
            *((pa.duration(unit), pick(_INT64)) for unit in ("s", "ms", "us", "ns")),
        ]
        if hasattr(pa, "json_"):
            found += [
                (pa.uuid(), pick([b"\x00" * 16, b"0123456789abcdef"])),
                (pa.json_(), pick(['{"a": [1, null]}', "null", '"text"', "123456789012345678901234567890"])),
                (pa.bool8(), pick([0, 1])),
            ]
        return found
