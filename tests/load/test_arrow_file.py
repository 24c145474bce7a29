"""Arrow files in both formats, and folders of `datasets`, are read as Parquet is: typed, and from any row on."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import polars
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from pyarrow import ipc

from batchmix.errors import InputChanged, InputError
from batchmix.formats.arrow_values import row_values
from batchmix.load.arrow_file import ArrowFile
from batchmix.load.table_input import Cursor, TableInput
from tests.load.conftest import carried_rows, make_job, open_rows, prompts_of, requests_of
from tests.odd_tables import OddTables

pytestmark = pytest.mark.usefixtures("settled")
KINDS = [(kind, packing) for kind in ("file", "stream") for packing in (None, "lz4", "zstd")]


def written(path: Path, table: pa.Table, kind: str = "file", packing: str | None = None, rows: int = 4) -> Path:
    """Write a table in record batches of some rows."""
    options = ipc.IpcWriteOptions(compression=packing, emit_dictionary_deltas=kind == "file")
    new = ipc.new_file if kind == "file" else ipc.new_stream
    with new(path, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=rows)
    return path


def tagged(first: int = 0) -> pa.Table:
    """Return ten prompts with a tag each, whose dictionaries grow from chunk to chunk."""
    tags = pa.chunked_array(
        [pa.array([f"t{n % 7}" for n in part]).dictionary_encode() for part in ([0, 1, 2, 3], [4, 5, 6, 7], [8, 9])]
    )
    prompts = pa.chunked_array([[f"p{first + n}" for n in part] for part in ([0, 1, 2, 3], [4, 5, 6, 7], [8, 9])])
    return pa.table({"prompt": prompts, "tag": pa.chunked_array(_delta(tags)), "n": pa.array(range(10))})


def _delta(tags: pa.ChunkedArray) -> list[pa.Array]:
    """Return the chunks with dictionaries that each begin with the last one, as the file format needs it."""
    values: list[str] = []
    chunks = []
    for chunk in tags.chunks:
        values = [*values, *(v for v in dict.fromkeys(chunk.to_pylist()) if v not in values)]
        indices = pa.array([values.index(v) for v in chunk.to_pylist()], pa.int32())
        chunks.append(pa.DictionaryArray.from_arrays(indices, pa.array(values)))
    return chunks


@pytest.mark.parametrize(("kind", "packing"), KINDS)
def test_rows_can_be_read_from_any_row_on(kind: str, packing: str | None, tmp_path: Path) -> None:
    """Across record batches and files, with the dictionaries that came before."""
    paths = [str(written(tmp_path / f"{n}.arrow", tagged(n * 10), kind, packing)) for n in range(2)]
    files = TableInput(paths, ArrowFile)
    assert files.rows == 20
    for first in (0, 3, 4, 9, 10, 17, 19):
        found = [row for part in Cursor(files, ["tag", "prompt"]).read(first, 20) for row in part.to_pylist()]
        assert [row["prompt"] for row in found] == [f"p{n}" for n in range(first, 20)]
        assert [row["tag"] for row in found] == [f"t{n % 10 % 7}" for n in range(first, 20)]


@pytest.mark.parametrize("seed", range(3))
def test_any_table_gives_the_same_rows_as_from_parquet(seed: int, tmp_path: Path, spool: Path) -> None:
    table = OddTables(seed).table(15, 12)
    pq.write_table(table, tmp_path / "rows.parquet")
    written(tmp_path / "rows.arrow", pq.read_table(tmp_path / "rows.parquet"), rows=5)
    found = []
    for name in ("rows.parquet", "rows.arrow"):
        job = make_job(tmp_path / name, prompt=" ".join(f"{{{{ {name}|tojson }}}}" for name in table.column_names))
        dataset = open_rows(job, spool)
        batches = (batch for shard in range(4) for batch in dataset.carried(shard))
        found.append((prompts_of(dataset, job), [row for b in batches for row in row_values(b)]))
    assert repr(found[0]) == repr(found[1])


def test_types_that_parquet_lacks_are_read_too(tmp_path: Path, spool: Path) -> None:
    table = pa.table(
        {
            "prompt": pa.array(["a", "b"], pa.string_view()),
            "blob": pa.array([b"x", None], pa.binary_view()),
            "runs": pa.RunEndEncodedArray.from_arrays(pa.array([2], pa.int32()), pa.array(["r"])),
            "views": pa.array([[1], [2, 3]], pa.list_view(pa.int64())),
        }
    )
    job = make_job(written(tmp_path / "rows.arrow", table))
    dataset = open_rows(job, spool)
    assert prompts_of(dataset, job) == ["a", "b"]
    assert carried_rows(dataset) == [
        {"custom_id": "0", "prompt": "a", "blob": b"x", "runs": "r", "views": [1]},
        {"custom_id": "1", "prompt": "b", "blob": None, "runs": "r", "views": [2, 3]},
    ]


@pytest.mark.parametrize(
    "write",
    [
        lambda table, path: feather.write_feather(table, path),
        lambda table, path: polars.from_arrow(table).write_ipc(path, compression="zstd"),
        lambda table, path: polars.from_arrow(table).write_ipc_stream(path),
        lambda table, path: table.to_pandas().to_feather(path),
    ],
    ids=["pyarrow", "polars", "polars-stream", "pandas"],
)  # fmt: skip
def test_files_of_other_programs_are_read(write: Callable[..., None], tmp_path: Path, spool: Path) -> None:
    write(pa.table({"prompt": ["a", "é", "c"], "n": [1, 2, None]}), tmp_path / "rows.feather")
    job = make_job(tmp_path / "rows.feather")
    dataset = open_rows(job, spool, shard_rows=2)
    assert prompts_of(dataset, job) == ["a", "é", "c"]
    assert [row["n"] for row in carried_rows(dataset)] == [1, 2, None]


def test_a_changed_batch_is_noticed(tmp_path: Path, spool: Path) -> None:
    """And the shards before it stay what they were."""
    path = tmp_path / "rows.arrow"
    write = lambda *parts: written(path, pa.concat_tables(pa.table({"prompt": part}) for part in parts))  # noqa: E731
    write(["a", "b", "c", "d"], ["e", "f", "g", "h"])
    job = make_job(path)
    first = open_rows(job, spool, shard_rows=4)
    write(["a", "b", "c", "d"], ["e", "f", "X", "h"])
    second = open_rows(job, spool, shard_rows=4, previous=first.scan)
    assert [a == b for a, b in zip(first.scan.shards, second.scan.shards, strict=True)] == [True, False]
    assert requests_of(first, job, 0)
    with pytest.raises(InputChanged):
        list(first.carried(1))


def test_a_file_that_is_cut_off_during_the_run_is_noticed(tmp_path: Path, spool: Path) -> None:
    """Its mapped bytes are not touched then, since that would end the process."""
    path = written(tmp_path / "rows.arrow", pa.table({"prompt": ["x" * 100_000] * 40}), rows=40)
    batches = open_rows(make_job(path), spool, shard_rows=40).carried(0)
    assert next(batches).num_rows < 40
    os.truncate(path, 150_000)
    with pytest.raises(InputChanged, match="has become shorter"):
        list(batches)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda whole: whole[: len(whole) // 2], "can't be read as Arrow"),
        (lambda whole: whole[:-6], "Not an Arrow file"),
        (lambda whole: whole[:6], "can't be read as Arrow"),
        (lambda whole: b"", "it is empty"),
        (lambda whole: b"FEA1" + whole, "is a Feather file of the first version"),
    ],
    ids=["half", "no end", "no schema", "empty", "first version"],
)  # fmt: skip
def test_damaged_files_are_refused(damage: Any, reason: str, tmp_path: Path, spool: Path) -> None:
    path = written(tmp_path / "rows.arrow", tagged())
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=reason):
        open_rows(make_job(path), spool)


def test_two_streams_in_one_file_are_refused(tmp_path: Path, spool: Path) -> None:
    """Arrow would read the first and nothing else."""
    path = written(tmp_path / "rows.arrow", tagged(), "stream")
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(InputError, match="holds more than one stream"):
        open_rows(make_job(path), spool)


def test_offsets_beyond_the_batch_are_refused(tmp_path: Path, spool: Path) -> None:
    """Reading them would end the process."""
    path = written(tmp_path / "rows.arrow", pa.table({"prompt": ["a" * 64, "b" * 64, "c" * 64]}))
    raw = path.read_bytes()
    offsets = b"".join(n.to_bytes(4, "little") for n in (0, 64, 128, 192))
    assert raw.count(offsets) == 1
    path.write_bytes(raw.replace(offsets, offsets[:4] + (1 << 30).to_bytes(4, "little") + offsets[8:]))
    with pytest.raises(InputError, match="can't be read as Arrow"):
        open_rows(make_job(path, prompt="{{ prompt }}!"), spool)


def saved(folder: Path, count: int, **shards: Any) -> None:
    """Save a dataset as users do."""
    datasets.Dataset.from_dict({"prompt": [f"p{n}" for n in range(count)]}).save_to_disk(folder, **shards)


def test_a_dataset_that_was_saved_to_disk_is_read(tmp_path: Path, spool: Path) -> None:
    """In the order of its shards, and without what `datasets` caches beside them."""
    saved(tmp_path / "saved", 7, num_shards=2)
    written(tmp_path / "saved" / "cache-1a.arrow", tagged(50), "stream")
    job = make_job(tmp_path / "saved")
    assert prompts_of(open_rows(job, spool), job) == [f"p{n}" for n in range(7)]
    (tmp_path / "saved" / "data-00001-of-00002.arrow").unlink()
    with pytest.raises(InputError, match=r"names a file that is not there: data-00001-of-00002\.arrow"):
        open_rows(job, spool)


def test_pictures_of_a_dataset_are_carried(tmp_path: Path, spool: Path) -> None:
    """As the bytes and the path that `datasets` stores."""
    image = pa.array([{"bytes": b"\x89PNG", "path": None}], pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    table = pa.table({"prompt": ["p"], "image": image, "kind": [1]})
    features = {"prompt": datasets.Value("string"), "image": datasets.Image(), "kind": datasets.ClassLabel(names=["a", "b"])}  # fmt: skip
    info = datasets.DatasetInfo(features=datasets.Features(features))
    datasets.Dataset(datasets.table.InMemoryTable(table), info=info).save_to_disk(tmp_path / "saved")
    found = carried_rows(open_rows(make_job(tmp_path / "saved"), spool))
    assert found == [{"custom_id": "0", "prompt": "p", "image": {"bytes": b"\x89PNG", "path": None}, "kind": 1}]


def test_of_several_splits_one_must_be_named(tmp_path: Path, spool: Path) -> None:
    saved(tmp_path / "all" / "train", 2)
    saved(tmp_path / "all" / "test", 1)
    splits = {name: datasets.load_from_disk(tmp_path / "all" / name) for name in ("train", "test")}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "both")
    with pytest.raises(InputError, match=r"several splits: train, test; name one, as in .*both/train"):
        open_rows(make_job(tmp_path / "both"), spool)
    job = make_job(tmp_path / "both" / "test")
    assert prompts_of(open_rows(job, spool), job) == ["p0"]
