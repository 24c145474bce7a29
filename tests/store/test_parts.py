"""A part is read exactly as it was written, or reported as damaged."""

from __future__ import annotations

import contextlib
import errno
import random
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchmix.errors import PartDamaged
from batchmix.store.parts import SealHooks, list_parts, open_part, read_part, row_groups, seal_part, write_rows
from batchmix.store.schema import RESULT_SCHEMA, PartFooter, RunIdentity, Seal, part_schema
from batchmix.store.totals import Totals

ROWS = 40


def rows(first: int, count: int) -> pa.RecordBatch:
    found = [
        {"row": row, "custom_id": f"r{row}", "model": "m", "sample": 0, "status": "ok", "response": f"answer {row}",
         "prompt_tokens": row, "attempts": 1, "maybe_billed": 0, "request_hash": f"{row:032x}", "raw": f'{{"id":{row}}}'}
        for row in range(first, first + count)
    ]  # fmt: skip
    return pa.RecordBatch.from_pylist(found, schema=RESULT_SCHEMA)


@pytest.fixture
def part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A part of two row groups."""
    monkeypatch.setattr("batchmix.store.parts._GROUP_ROWS", ROWS // 2)
    path, noted = tmp_path / "part-00003.parquet", []

    def batches() -> Iterator[pa.RecordBatch]:
        yield rows(0, ROWS // 2)
        yield rows(ROWS // 2, ROWS // 2)

    footer = PartFooter(3, 0, ROWS, "digest", "columns", Totals(ok=ROWS), rehearsal=False, shard_rows=ROWS)
    schema = part_schema(pa.schema([pa.field("custom_id", pa.string())]), RunIdentity("job", "run"))

    def note(stored: PartFooter, seal: Seal) -> None:
        assert not path.exists()  # called before the part exists
        noted.append((stored, seal))

    seal_part(path, tmp_path, schema, batches(), SealHooks(lambda: None, lambda: footer, note))
    found, seal = read_part(path)
    assert noted == [(footer, seal)]
    assert (found.job, found.shard, seal.size) == ("job", 3, path.stat().st_size)
    assert list_parts(tmp_path) == {3: path}
    return path


def test_a_flipped_bit_is_never_read_as_other_data(part: Path) -> None:
    whole, footer = pa.concat_tables(row_groups(part, None, [])), read_part(part)
    data = part.read_bytes()
    random_, seen = random.Random(1), {"refused": 0, "left out": 0, "same": 0}
    for _ in range(300):
        at = random_.randrange(len(data) * 8)
        flipped = bytearray(data)
        flipped[at // 8] ^= 1 << at % 8
        part.write_bytes(flipped)
        damage: list[str] = []
        try:
            read = pa.concat_tables([*row_groups(part, None, damage), whole.slice(0, 0)])
            stored = read_part(part)[0]
        except PartDamaged:
            seen["refused"] += 1
            continue
        assert stored == footer[0]
        seen["left out" if damage else "same"] += 1
        kept = read["row"].to_pylist()
        assert read.equals(whole.filter(pa.compute.is_in(whole["row"], pa.array(kept))))
        assert damage or len(kept) == ROWS, at
    assert seen["refused"] > 50
    assert seen["left out"] > 25


def test_a_damaged_part_without_checksums_does_not_crash_readers(part: Path) -> None:
    table, footer = pq.read_table(part), pq.read_metadata(part).metadata[b"batchmix.part"]
    with pq.ParquetWriter(part, table.schema, compression="none") as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({b"batchmix.part": footer})
    assert pa.concat_tables(row_groups(part, None, [])).equals(table)
    data = part.read_bytes()
    pages = len(data) - int.from_bytes(data[-8:-4], "little")
    random_, damage = random.Random(2), []
    for _ in range(200):
        at = random_.randrange(pages * 8)
        flipped = bytearray(data)
        flipped[at // 8] ^= 1 << at % 8
        part.write_bytes(flipped)
        with contextlib.suppress(PartDamaged):
            for group in row_groups(part, None, damage):
                group.to_pylist()
    assert damage


def test_intact_row_groups_of_a_damaged_part_are_read(part: Path) -> None:
    with pq.ParquetFile(part) as file:
        column = file.metadata.row_group(0).column(RESULT_SCHEMA.names.index("raw"))
    data = bytearray(part.read_bytes())
    data[(column.dictionary_page_offset or column.data_page_offset) + column.total_compressed_size - 3] ^= 1
    part.write_bytes(data)
    damage: list[str] = []
    kept = pa.concat_tables(row_groups(part, None, damage))
    assert kept["row"].to_pylist() == list(range(ROWS // 2, ROWS))
    assert damage == [f"{part}: is damaged, {ROWS // 2} of its {ROWS} rows can't be read"]
    assert sum(group.num_rows for group in row_groups(part, ["row"], [])) == ROWS  # the damaged column is not read
    with pytest.raises(PartDamaged, match="is damaged"), open_part(part) as file:
        file.read()


@pytest.mark.parametrize("length", [0, 3, 11, 12, 200, -1, -8, -500])
def test_a_truncated_part_is_reported_by_name(length: int, part: Path) -> None:
    part.write_bytes(part.read_bytes()[:length])
    with pytest.raises(PartDamaged, match=r"part-00003\.parquet: is damaged"):
        read_part(part)


@pytest.mark.parametrize("tags", [None, [["a"], None]])
def test_long_texts_are_compressed_and_have_no_statistics(tags: list[list[str] | None] | None, tmp_path: Path) -> None:
    """Also beside a nested column. Short columns are only compressed among short rows, of which a group has many."""
    path = tmp_path / "rows.parquet"
    columns = {"n": [1, 2], "text": ["word " * 2000, None], **({"tags": tags} if tags else {})}
    batch = pa.RecordBatch.from_pydict(columns)
    path.touch()
    write_rows(path, batch.schema, iter([batch, batch]), lambda: None)
    assert pq.read_table(path).to_pydict() == {name: values * 2 for name, values in columns.items()}
    number, text = (pq.read_metadata(path).row_group(0).column(at) for at in range(2))
    assert (number.compression, text.compression) == ("ZSTD" if tags else "UNCOMPRESSED", "ZSTD")
    assert number.statistics.max == 2
    assert text.statistics is None


def test_groups_of_long_rows_are_larger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A group takes the same time for each column, however few rows it has."""
    monkeypatch.setattr("batchmix.store.parts._GROUP_BYTES", 40_000)
    monkeypatch.setattr("batchmix.store.parts._LONG_GROUP_BYTES", 80_000)
    sizes = []
    for length in (1_000, 10_000):
        batch = pa.RecordBatch.from_pydict({"text": ["x" * length] * (10_000 // length)})
        path = tmp_path / f"{length}.parquet"
        path.touch()
        write_rows(path, batch.schema, iter([batch] * 16), lambda: None)
        metadata = pq.read_metadata(path)
        sizes.append([metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)])
    assert sizes == [[40] * 4, [8] * 2]


@pytest.mark.parametrize("length", [10, 10_000])
def test_an_error_of_writing_is_raised(length: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long rows are written in another thread; the error stops the next batch, or comes after the last."""
    monkeypatch.setattr("batchmix.store.parts._GROUP_BYTES", 1)
    monkeypatch.setattr("batchmix.store.parts._LONG_GROUP_BYTES", 1)
    batch = pa.RecordBatch.from_pydict({"text": ["x" * length]})
    made: list[pa.RecordBatch] = []

    def batches(count: int) -> Iterator[pa.RecordBatch]:
        for _ in range(count):
            made.append(batch)
            yield batch

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", fail)
    for count in (1, 9):
        (tmp_path / "rows").touch()
        with pytest.raises(OSError, match="full"):
            write_rows(tmp_path / "rows", batch.schema, batches(count), lambda: None)
    assert len(made) <= 1 + 2
