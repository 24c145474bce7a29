from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchmix.errors import InputError
from batchmix.load import Scan, scanner
from batchmix.load.jsonl_rows import JsonlReader
from batchmix.load.table_reader import TableReader
from tests.load.conftest import carried_rows, make_job, open_rows, prompts_of, stored

ROWS = [{"prompt": f"p{i}", "x": i} for i in range(7)]


@pytest.fixture
def scans(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Records each full scan."""
    made: list[str] = []
    jsonl, parquet = JsonlReader.scan, TableReader.scan
    monkeypatch.setattr(JsonlReader, "scan", lambda self, *args: made.append("jsonl") or jsonl(self, *args))
    monkeypatch.setattr(TableReader, "scan", lambda self, *args: made.append("parquet") or parquet(self, *args))
    return made


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Records each reading of all bytes."""
    made: list[Any] = []
    real = scanner._same_bytes
    monkeypatch.setattr(scanner, "_same_bytes", lambda scan: made.append(scan) or real(scan))
    return made


@pytest.fixture(params=["jsonl", "parquet"])
def rescan(request: Any, rows_file: Any, tmp_path: Path, spool: Path) -> tuple[Path, Scan]:
    """A file and its scan."""
    path = tmp_path / f"rows.{request.param}"
    if request.param == "jsonl":
        rows_file(ROWS)
    else:
        pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=3)
    return path, stored(open_rows(make_job(path), spool).scan)


@pytest.mark.usefixtures("settled")
def test_an_unchanged_file_is_not_read(
    rows_file: Any, tmp_path: Path, spool: Path, scans: list[str], hashed: list[Any]
) -> None:
    """Its file status proves that it is the same; after a change of status it is read, but not parsed."""
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "rows.parquet")
    for path in (rows_file(ROWS), tmp_path / "rows.parquet"):
        scan = stored(open_rows(make_job(path), spool).scan)
        scans.clear()
        hashed.clear()
        assert open_rows(make_job(path), spool, previous=scan).scan == scan
        assert (scans, hashed) == ([], [])
        os.utime(path, (5, 5))
        again = open_rows(make_job(path), spool, previous=scan).scan
        assert (scans, len(hashed)) == ([], 1)
        assert again == msgspec.structs.replace(scan, stamps=again.stamps)
        assert open_rows(make_job(path), spool, previous=again).scan == again
        assert (scans, len(hashed)) == ([], 1)


def test_a_file_written_just_before_its_scan_is_read_again(
    rescan: tuple[Path, Scan], spool: Path, scans: list[str], hashed: list[Any]
) -> None:
    """It may have been changed within the resolution of the clock."""
    path, scan = rescan
    scans.clear()
    open_rows(make_job(path), spool, previous=scan)
    assert (scans, len(hashed)) == ([], 1)


def test_a_change_of_the_same_size_is_detected(rescan: tuple[Path, Scan], spool: Path, scans: list[str]) -> None:
    """Even if size and modification time are the same."""
    path, scan = rescan
    status = path.stat()
    if path.suffix == ".jsonl":
        path.write_bytes(path.read_bytes().replace(b"p3", b"P3"))
    else:
        rows = [{**row, "prompt": row["prompt"].replace("p3", "P3")} for row in ROWS]
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=3)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    scans.clear()
    dataset = open_rows(make_job(path), spool, previous=scan)
    assert prompts_of(dataset, make_job(path))[3] == "P3"
    assert len(scans) == 1
    pairs = zip(dataset.scan.shards, scan.shards, strict=True)
    assert [new.digest == old.digest for new, old in pairs] == [True, False, True]


@pytest.mark.parametrize("appended", [0, 1])
def test_a_scan_of_an_earlier_version_is_still_compared(
    appended: int, rescan: tuple[Path, Scan], spool: Path, scans: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its digests are SHA-256. The file is hashed in the same way again, so unchanged shards keep their digests."""
    path, scan = rescan
    with monkeypatch.context() as earlier:
        earlier.setattr("batchmix.load.digests.xxhash.xxh3_128", hashlib.sha256)
        before = open_rows(make_job(path), spool).scan
    assert all(old.digest != new.digest for old, new in zip(before.shards, scan.shards, strict=True))
    if path.suffix == ".jsonl":
        assert (
            before.shards[0].digest
            == hashlib.sha256(b"".join(path.read_bytes().splitlines(keepends=True)[:3])).hexdigest()[:32]
        )
    rows = [*ROWS, *[{"prompt": "new", "x": 7}] * appended]
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=3)
    scans.clear()
    dataset = open_rows(make_job(path), spool, previous=stored(before))
    assert dataset.scan.shards[:2] == before.shards[:2]
    assert (dataset.scan.shards == before.shards) == (not appended)
    assert len(scans) == appended
    assert len(carried_rows(dataset)) == len(rows)


@pytest.mark.usefixtures("settled")
def test_a_file_time_set_back_does_not_hide_a_change(rows_file: Any, spool: Path) -> None:
    """The time of the status change (ctime) cannot be set."""
    path = rows_file(ROWS)
    scan = stored(open_rows(make_job(path), spool).scan)
    status = path.stat()
    with path.open("r+b") as file:
        file.write(path.read_bytes().replace(b"p3", b"P3"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    again = open_rows(make_job(path), spool, previous=scan).scan
    assert [new.digest == old.digest for new, old in zip(again.shards, scan.shards, strict=True)] == [True, False, True]


def test_appended_rows_leave_earlier_shards_as_they_are(rows_file: Any, spool: Path) -> None:
    """Full shards keep their digests; a shard that grew does not."""
    path = rows_file(ROWS)
    scan = stored(open_rows(make_job(path), spool).scan)
    rows_file([*ROWS, {"prompt": "new"}])
    again = open_rows(make_job(path), spool, previous=scan).scan
    assert again.rows == 8
    assert again.shards[:2] == scan.shards[:2]
    assert again.shards[2].digest != scan.shards[2].digest


@pytest.mark.parametrize(
    ("input_settings", "options"),
    [
        ({"prompt": "{{ x }}"}, {}),
        ({}, {"limit": 3}),
        ({}, {"shard_rows": 5}),
    ],
)
def test_a_scan_with_other_options_is_not_reused(
    rescan: tuple[Path, Scan], input_settings: Any, options: Any, spool: Path, scans: list[str]
) -> None:
    """Another mode, limit or shard size needs another scan."""
    path, scan = rescan
    scans.clear()
    open_rows(make_job(path, **input_settings), spool, previous=scan, **options)
    assert len(scans) == 1


def test_a_template_that_uses_more_columns_is_checked(rows_file: Any, spool: Path, scans: list[str]) -> None:
    """One that uses fewer is not."""
    path = rows_file(ROWS)
    scan = open_rows(make_job(path, prompt="{{ x }}{{ prompt }}"), spool).scan
    scans.clear()
    open_rows(make_job(path, prompt="{{ x }}!"), spool, previous=scan)
    assert scans == []
    with pytest.raises(InputError, match="no column 'y'"):
        open_rows(make_job(path, prompt="{{ y }}"), spool, previous=scan)


def test_bad_rows_that_were_accepted_once_are_refused_later(rows_file: Any, spool: Path) -> None:
    """Unless they are still accepted."""
    path = rows_file([*ROWS, {"prompt": 5}])
    scan = open_rows(make_job(path), spool, reject_bad_rows=True).scan
    assert open_rows(make_job(path), spool, previous=scan, reject_bad_rows=True).scan.bad_rows == 1
    with pytest.raises(InputError, match="prompt is a number"):
        open_rows(make_job(path), spool, previous=scan)


def test_batch_models_follow_the_job(rows_file: Any, spool: Path) -> None:
    """The models of the lines are used only if the job names none."""
    path = rows_file([{"custom_id": "a", "body": {"model": "m"}}])
    own = open_rows(make_job(path, model=None), spool).scan
    named = open_rows(make_job(path), spool, previous=own).scan
    assert (own.models, named.models) == (("m",), ())
    assert open_rows(make_job(path, model=None), spool, previous=named).scan.models == ("m",)


def test_the_scan_of_another_file_is_not_reused(rows_file: Any, spool: Path) -> None:
    """Although the file has the same name in another job."""
    scan = open_rows(make_job(rows_file(ROWS)), spool).scan
    job = make_job(rows_file(ROWS[:2], "other.jsonl"))
    assert prompts_of(open_rows(job, spool, previous=scan), job) == ["p0", "p1"]
