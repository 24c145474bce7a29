from __future__ import annotations

import gzip
import io
import os
import resource
import stat
from pathlib import Path
from typing import Any

import pytest
import zstandard

from batchmix.errors import InputError, NoSpace
from tests.load.conftest import jsonl, make_job, open_rows, prompts_of, stored

ROWS = [{"prompt": f"p{i}"} for i in range(7)]
TEXTS = [row["prompt"] for row in ROWS]


def _zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


@pytest.mark.parametrize(("suffix", "compress"), [("gz", gzip.compress), ("zst", _zstd)])
def test_compressed_files_are_read_to_their_last_member(
    suffix: str, compress: Any, rows_file: Any, spool: Path
) -> None:
    """Concatenated gzip members and zstd frames are one file, at any shard."""
    data = b"".join(compress(jsonl([row])) for row in ROWS)
    job = make_job(rows_file(data, f"rows.jsonl.{suffix}"))
    dataset = open_rows(job, spool)
    assert prompts_of(dataset, job) == TEXTS
    (folder,) = spool.iterdir()
    assert stat.S_IMODE(spool.stat().st_mode) == stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()] == [0o600]


@pytest.mark.parametrize(("suffix", "compress"), [("gz", gzip.compress), ("zst", _zstd)])
@pytest.mark.parametrize("cut", [3, 9, -1, -5])
def test_a_cut_off_file_is_refused(suffix: str, compress: Any, cut: int, rows_file: Any, spool: Path) -> None:
    """Wherever it was cut; nothing is left in the spool."""
    path = rows_file(compress(jsonl(ROWS))[:cut], f"rows.jsonl.{suffix}")
    with pytest.raises(
        InputError, match=rf"rows\.jsonl\.{suffix}: can't be decompressed; the file is cut off or damaged"
    ):
        open_rows(make_job(path), spool)
    assert list(spool.glob("*")) == []


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (gzip.compress(jsonl(ROWS)) + bytes(1000), "padded.jsonl.gz"),
        (gzip.compress(jsonl(ROWS[:3])) + bytes(3) + gzip.compress(jsonl(ROWS[3:])), "filled.jsonl.gz"),
        (gzip.compress(jsonl(ROWS)), "no_suffix.jsonl"),
        (_zstd(jsonl(ROWS)), "no_suffix.ndjson"),
        (gzip.compress(jsonl(ROWS)), "another.jsonl.zst"),
        (jsonl(ROWS), "plain.jsonl.gz"),
        (b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc" + _zstd(jsonl(ROWS)), "skippable.jsonl.zst"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_compressed_files_are_recognised_by_their_content(data: bytes, name: str, rows_file: Any, spool: Path) -> None:
    """Also padded with zeros, as tape and object stores do, or with a misleading name."""
    job = make_job(rows_file(data, name))
    assert prompts_of(open_rows(job, spool), job) == TEXTS


def test_data_after_a_gzip_file_is_skipped_and_reported(
    rows_file: Any, spool: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As gzip does; but data that begins like another member must be complete."""
    whole = gzip.compress(jsonl(ROWS))
    job = make_job(rows_file(whole + b"garbage", "rows.jsonl.gz"))
    assert prompts_of(open_rows(job, spool), job) == TEXTS
    assert "rows.jsonl.gz: the bytes after the end of its gzip data are not gzip" in caplog.text
    for number, damaged in enumerate((whole + whole[:-9], whole + whole[:20] + b"x" * 20, whole[:-8] + bytes(8))):
        with pytest.raises(InputError, match="can't be decompressed; the file is cut off or damaged"):
            open_rows(make_job(rows_file(damaged, f"damaged{number}.jsonl.gz")), spool)


@pytest.mark.parametrize("compress", [bytes, gzip.compress, _zstd])
def test_stdin_may_be_compressed(compress: Any, spool: Path) -> None:
    """It is recognised by its first bytes."""
    job = make_job("-")
    assert prompts_of(open_rows(job, spool, stdin=io.BytesIO(compress(jsonl(ROWS)))), job) == TEXTS


def test_messages_name_the_original(rows_file: Any, spool: Path) -> None:
    """`stdin:3` or the compressed file, not the spooled copy."""
    data = jsonl(ROWS[:1]) + b"\n[]\n"
    with pytest.raises(InputError, match=r"^1 bad row; nothing was sent:\n  stdin:3: is a list"):
        open_rows(make_job("-"), spool, stdin=io.BytesIO(data))
    with pytest.raises(InputError, match=r"rows\.jsonl\.gz:3: is a list"):
        open_rows(make_job(rows_file(gzip.compress(data), "rows.jsonl.gz")), spool)
    assert list(spool.iterdir()) == []


def test_empty_stdin_without_a_spool_is_refused(spool: Path) -> None:
    """The message says what to do."""
    with pytest.raises(InputError, match="stdin is empty; pipe the rows in"):
        open_rows(make_job("-"), spool, stdin=io.BytesIO())
    with pytest.raises(InputError, match="stdin: there are no rows in it"):
        open_rows(make_job("-"), spool, stdin=io.BytesIO(b"\n"))
    with pytest.raises(InputError, match="is Parquet, which can't be piped in; give the file's path"):
        open_rows(make_job("-"), spool, stdin=io.BytesIO(b"PAR1" + bytes(100)))


def test_empty_stdin_resumes(spool: Path) -> None:
    """From the spool, also after the run folder was moved, and when the job has another prompt."""
    job = make_job("-")
    scan = stored(open_rows(job, spool, stdin=io.BytesIO(jsonl(ROWS))).scan)
    dataset = open_rows(job, spool, previous=scan, stdin=io.BytesIO())
    assert dataset.scan == scan
    moved = spool.parent.rename(spool.parent.with_name("moved")) / "input"
    assert prompts_of(open_rows(job, moved, previous=scan, stdin=io.BytesIO()), job) == TEXTS
    job = make_job("-", prompt="Say {{ prompt }}")
    dataset = open_rows(job, moved, previous=scan, stdin=io.BytesIO(), limit=2)
    assert prompts_of(dataset, job) == ["Say p0", "Say p1"]
    assert len(list(moved.iterdir())) == 1
    for path in moved.rglob("*.jsonl"):
        path.unlink()
    with pytest.raises(InputError, match="the spooled copy of stdin is gone; pipe the rows in again"):
        open_rows(job, moved, previous=scan, stdin=io.BytesIO())


def test_the_same_stdin_keeps_the_existing_spool(spool: Path) -> None:
    """Other rows make a new spool; the existing one stays until it is dropped."""
    job = make_job("-")
    scan = stored(open_rows(job, spool, stdin=io.BytesIO(jsonl(ROWS))).scan)
    assert open_rows(job, spool, previous=scan, stdin=io.BytesIO(jsonl(ROWS))).scan == scan
    assert [path.name for path in spool.iterdir()] == ["000001"]
    refused = open_rows(job, spool, previous=scan, stdin=io.BytesIO(jsonl(ROWS[:4])))
    assert sorted(path.name for path in spool.iterdir()) == ["000001", "000002"]
    refused.discard()
    assert [path.name for path in spool.iterdir()] == ["000001"]
    accepted = open_rows(job, spool, previous=scan, stdin=io.BytesIO(jsonl(ROWS[:4])))
    accepted.drop_stale_spools()
    accepted.discard()
    assert [path.name for path in spool.iterdir()] == ["000002"]
    assert prompts_of(accepted, job) == TEXTS[:4]


def test_an_unfinished_spool_is_not_used(spool: Path) -> None:
    """It is ignored, and removed with the stale ones."""
    (spool / "000007.tmp").mkdir(parents=True)
    job = make_job("-")
    dataset = open_rows(job, spool, stdin=io.BytesIO(jsonl(ROWS)))
    assert prompts_of(dataset, job) == TEXTS
    dataset.drop_stale_spools()
    assert [path.name for path in spool.iterdir()] == ["000008"]


def test_an_unchanged_compressed_file_is_not_spooled_again(rows_file: Any, spool: Path) -> None:
    """Nor is one that was only touched; a changed one is spooled again."""
    path = rows_file(gzip.compress(jsonl(ROWS), mtime=0), "rows.jsonl.gz")
    job = make_job(path)
    scan = stored(open_rows(job, spool).scan)
    os.utime(path, (1, 1))
    assert open_rows(job, spool, previous=scan).scan.paths == scan.paths
    assert len(list(spool.iterdir())) == 1
    path.write_bytes(gzip.compress(jsonl(ROWS[:5])))
    assert prompts_of(open_rows(job, spool, previous=scan), job) == TEXTS[:5]


def test_no_space_left_leaves_no_spool(rows_file: Any, spool: Path) -> None:
    """A limit on file sizes stands in for a full disk."""
    path = rows_file(gzip.compress(jsonl([{"prompt": "x" * 1000}] * 3000)), "rows.jsonl.gz")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, hard))
    try:
        with pytest.raises(NoSpace, match="no space left to spool the input"):
            open_rows(make_job(path), spool)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(spool.iterdir()) == []
