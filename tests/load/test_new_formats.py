"""A format that is only an entry in the table of formats is read, recognised and listed like the others."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from batchmix.errors import InputError
from batchmix.load.carried_columns import CarriedColumns, ColumnMaker
from batchmix.load.column_types import ColumnType
from batchmix.load.files import Source
from batchmix.load.jsonl_rows import JsonlReader
from batchmix.load.prompts import PromptSource
from batchmix.load.row_reader import Line, Row, RowReader, ScannedRows, changed
from batchmix.load.scan import RowChecker, Scan, ScanOptions, ShardRange
from batchmix.load.sources import FORMATS, InputFormat
from tests.load.conftest import carried_rows, jsonl, make_job, open_rows, prompts_of

SIGNATURE = b"\x00BLK1"
BLOCK = 16


def blocks(*prompts: str) -> bytes:
    """Return a file of the binary format: a signature, then one block of bytes per prompt."""
    return SIGNATURE + b"".join(prompt.encode().ljust(BLOCK, b"\x00") for prompt in prompts)


class BlockReader:
    """Reads the binary format from a single file."""

    is_a_run = False

    def __init__(self, sources: tuple[Source, ...], paths: tuple[str, ...]) -> None:
        self.columns: list[str] | None = ["prompt"]
        self._source, self._path = sources[0], paths[0]

    def _block(self, first: int, stop: int) -> bytes:
        return Path(self._path).read_bytes()[len(SIGNATURE) :][first * BLOCK : stop * BLOCK]

    def _rows(self, first: int, stop: int) -> list[dict[str, Any]]:
        read = self._block(first, stop)
        return [{"prompt": read[at : at + BLOCK].rstrip(b"\x00").decode()} for at in range(0, len(read), BLOCK)]

    def _digest(self, first: int, stop: int) -> str:
        return hashlib.sha256(self._block(first, stop)).hexdigest()

    def first_row(self) -> Mapping[str, Any]:
        return self._rows(0, 1)[0]

    def scan(self, prompts: PromptSource, checker: RowChecker, options: ScanOptions) -> ScannedRows:
        rows = self._rows(0, 1 << 20)
        for index, row in enumerate(rows):
            if problem := checker.problem(row):
                checker.bad(self.place(index, None), problem, index + 1)
        ranges = [
            (first, min(first + options.shard_rows, len(rows))) for first in range(0, len(rows), options.shard_rows)
        ]
        shards = tuple(ShardRange(first, stop, self._digest(first, stop)) for first, stop in ranges)
        return ScannedRows(len(rows), shards, {"prompt": 0})

    def rows(self, shard: ShardRange, prompts: PromptSource, model: str) -> Iterator[list[Row]]:
        yield [(index, row, None) for index, row in enumerate(self._rows(shard.first, shard.stop), shard.first)]

    def carried(self, shard: ShardRange, columns: CarriedColumns, scan: Scan) -> Iterator[pa.RecordBatch]:
        yield columns.from_json(list(enumerate(self._rows(shard.first, shard.stop), shard.first)))
        if not self.is_unchanged(shard, scan):
            raise changed(shard)

    def is_unchanged(self, shard: ShardRange, scan: Scan) -> bool:
        return self._digest(shard.first, shard.stop) == shard.digest

    def has_same_bytes(self, scan: Scan) -> bool:
        return all(self.is_unchanged(shard, scan) for shard in scan.shards)

    def place(self, row: int, line: Line) -> str:
        return f"{self._source.name}, block {row}"

    def column(self, name: str, configured: ColumnType | None, scan: Scan) -> ColumnMaker:
        return pa.string(), lambda values: pa.array(values, pa.string())

    def prove(self, columns: CarriedColumns, scan: Scan) -> dict[str, str]:
        return scan.proven


def tags_to_json(parts: Iterator[bytes], source: Source) -> Iterator[bytes]:
    """Convert the text format, one prompt in angle brackets per line, to JSON lines."""
    for line in b"".join(parts).decode().splitlines():
        yield json.dumps({"prompt": line.strip("<>")}).encode() + b"\n"


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    reader: type[RowReader] = BlockReader  # the contract, as the type checker sees it
    binary = InputFormat(name="blocks", suffixes=(".blk",), reader=reader, signatures=(SIGNATURE,), compressible=False)
    text = InputFormat(name="tags", suffixes=(".tags", ".tag"), reader=JsonlReader, to_json_lines=tags_to_json)
    monkeypatch.setattr("batchmix.load.sources.FORMATS", (*FORMATS, binary, text))


def _refused(path: Path, spool: Path) -> str:
    with pytest.raises(InputError) as caught:
        open_rows(make_job(path), spool)
    return str(caught.value)


def test_a_binary_format_is_read_by_its_own_reader(tmp_path: Path, spool: Path) -> None:
    """All rows over several shards, with their carried columns; and again from an earlier scan."""
    path = tmp_path / "rows.blk"
    path.write_bytes(blocks("a", "b", "ç", "d"))
    job = make_job(path, columns=["prompt"])
    dataset = open_rows(job, spool)
    assert prompts_of(dataset, job) == ["a", "b", "ç", "d"]
    assert [row["prompt"] for row in carried_rows(dataset)] == ["a", "b", "ç", "d"]
    assert open_rows(job, spool, previous=dataset.scan).scan.rows == 4


@pytest.mark.parametrize(("name", "pack"), [("rows.tags", bytes), ("rows.tag", bytes), ("rows.tags.gz", gzip.compress)])
def test_a_text_format_is_converted(tmp_path: Path, spool: Path, name: str, pack: Any) -> None:
    """Also compressed, and although its files begin like XML."""
    path = tmp_path / name
    path.write_bytes(pack("<a>\n<ß>\n".encode()))
    job = make_job(path)
    assert prompts_of(open_rows(job, spool), job) == ["a", "ß"]


def test_files_of_new_formats_are_recognised_under_wrong_names(tmp_path: Path, spool: Path) -> None:
    """The signature decides, whatever the file name."""
    for name in ("a.jsonl", "a.csv", "a.parquet", "a.tags", "a.bin"):
        (tmp_path / name).write_bytes(blocks("a"))
    for name in ("a.jsonl", "a.csv", "a.parquet", "a.tags"):
        refused = _refused(tmp_path / name, spool)
        assert "is Blocks: mv" in refused
        assert refused.endswith(f"{tmp_path.name}/a.blk")
    assert "it holds Blocks: mv" in _refused(tmp_path / "a.bin", spool)
    (tmp_path / "lines.blk").write_bytes(jsonl([{"prompt": "a"}]))
    assert "is JSON lines, not Blocks: mv" in _refused(tmp_path / "lines.blk", spool)
    (tmp_path / "binary.tags").write_bytes(bytes(range(256)))
    assert "is binary data, not text" in _refused(tmp_path / "binary.tags", spool)
    (tmp_path / "latin.tags").write_bytes("<Straße>\n".encode("latin-1"))
    refused = _refused(tmp_path / "latin.tags", spool)
    assert "text in WINDOWS-1252" in refused
    assert refused.endswith("latin-new.tags")


def test_new_formats_are_listed_in_messages_and_found_in_folders(tmp_path: Path, spool: Path) -> None:
    """The list of suffixes, the files of a folder, near names, and inputs of two formats."""
    folder = tmp_path / "rows"
    folder.mkdir()
    listed = (
        "batchmix reads .jsonl, .ndjson, .csv, .tsv, .tags, .tag (these also with .gz or .zst), .parquet, .pq, .arrow,"
        " .arrows, .feather, .ipc, .blk"
    )
    assert listed in _refused(folder, spool)
    (folder / "a.blk").write_bytes(blocks("a"))
    job = make_job(folder)
    assert prompts_of(open_rows(job, spool), job) == ["a"]
    assert "did you mean" in _refused(folder / "a.jsonl", spool)
    (folder / "b.tags").write_bytes(b"<b>\n")
    assert "can't be one input; give a glob such as *.blk" in _refused(folder, spool)
