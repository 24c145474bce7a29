"""Input in object storage is read as files on a disk are."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from batchmix.errors import InputChanged, InputError, JobError
from batchmix.load.jsonl_rows import JsonlReader
from batchmix.remote import files
from batchmix.remote.objects import ANY, Objects
from tests.load.conftest import carried_rows, jsonl, make_job, open_rows, prompts_of
from tests.object_storage import BUCKET, object_storage

ROWS = [{"prompt": f"p{number}", "score": number / 2} for number in range(10)]


@pytest.fixture(scope="module")
def _server() -> Iterator[dict[str, str]]:
    with object_storage() as env:
        yield env


@pytest.fixture
def url(_server: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a folder that is still empty."""
    for name, value in _server.items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{tmp_path.name}"


def put(url: str, name: str, data: bytes) -> str:
    Objects(url).put(name, data, ANY)
    return f"{url}/{name}"


def as_file(tmp_path: Path, write: Callable[[str], Any]) -> bytes:
    path = tmp_path / "file"
    write(str(path))
    return path.read_bytes()


TABLE = pa.Table.from_pylist(ROWS)
CSV = "prompt,score\n" + "".join(f"{row['prompt']},{row['score']}\n" for row in ROWS)


def arrow_stream(path: str) -> None:
    with pa.ipc.new_stream(path, TABLE.schema) as writer:
        writer.write_table(TABLE, max_chunksize=4)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("rows.jsonl", lambda path: Path(path).write_bytes(jsonl(ROWS))),
        ("rows.jsonl.gz", lambda path: Path(path).write_bytes(gzip.compress(jsonl(ROWS)))),
        ("rows.csv", lambda path: Path(path).write_text(CSV)),
        ("rows.parquet", lambda path: pq.write_table(TABLE, path, row_group_size=4)),
        ("rows.arrow", lambda path: pa.feather.write_feather(TABLE, path, chunksize=4, compression="uncompressed")),
        ("rows.arrows", arrow_stream),
    ],
)
def test_each_format_is_read_as_from_a_disk(
    name: str, write: Callable[[str], Any], url: str, tmp_path: Path, spool: Path
) -> None:
    data = as_file(tmp_path, write)
    (tmp_path / name).write_bytes(data)
    jobs = [make_job(tmp_path / name), make_job(put(url, name, data))]
    local, remote = (open_rows(job, spool) for job in jobs)
    assert prompts_of(remote, jobs[1]) == prompts_of(local, jobs[0]) == [row["prompt"] for row in ROWS]
    assert carried_rows(remote) == carried_rows(local)
    assert remote.scan.shards == local.scan.shards


def test_folders_and_globs(url: str, spool: Path) -> None:
    for number, name in enumerate(["b.jsonl", "a.jsonl", "deep/c.jsonl", "notes.txt", ".hidden.jsonl", "x/1/d.jsonl"]):
        put(url, name, jsonl([{"prompt": f"p{number}"}]))

    def prompts(path: str) -> list[str]:
        job = make_job(path)
        return prompts_of(open_rows(job, spool), job)

    assert prompts(url) == prompts(f"{url}/") == prompts(f"{url}/*.jsonl") == prompts(f"{url}/?.jsonl") == ["p1", "p0"]
    assert prompts(f"{url}/*/c.jsonl") == ["p2"]
    assert prompts(f"{url}/x/*/[a-e].jsonl") == ["p5"]


def test_an_unchanged_object_is_not_scanned_again(url: str, spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job(put(url, "rows.jsonl", jsonl(ROWS)))
    scan = open_rows(job, spool).scan
    monkeypatch.setattr(JsonlReader, "scan", None)
    monkeypatch.setattr(JsonlReader, "has_same_bytes", None)
    dataset = open_rows(job, spool, previous=scan)
    assert prompts_of(dataset, job) == [row["prompt"] for row in ROWS]
    put(url, "rows.jsonl", jsonl([*ROWS, {"prompt": "one more"}]))
    monkeypatch.undo()


def test_appended_rows_leave_earlier_shards_as_they_are(url: str, spool: Path) -> None:
    job = make_job(put(url, "rows.jsonl", jsonl(ROWS)))
    scan = open_rows(job, spool).scan
    put(url, "rows.jsonl", jsonl([*ROWS, {"prompt": "one more", "score": 1.5}]))
    again = open_rows(job, spool, previous=scan).scan
    assert again.rows == 11
    assert again.shards[:3] == scan.shards[:3]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet"])
def test_an_object_that_changes_during_the_run_stops_it(name: str, url: str, tmp_path: Path, spool: Path) -> None:
    def data(rows: list[dict[str, Any]]) -> bytes:
        table = pa.Table.from_pylist(rows)
        return jsonl(rows) if name == "rows.jsonl" else as_file(tmp_path, lambda path: pq.write_table(table, path))

    job = make_job(put(url, name, data(ROWS)))
    dataset = open_rows(job, spool)
    put(url, name, data([{**row, "prompt": "other"} for row in ROWS]))
    with pytest.raises(InputChanged, match="again"):
        carried_rows(dataset)
    put(url, name, b"")
    with pytest.raises(InputChanged, match="again"):
        carried_rows(dataset)
    Objects(url).delete([name])
    with pytest.raises(InputChanged, match="no such object"):
        carried_rows(dataset)


def test_a_file_is_read_in_one_version(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_BLOCK_BYTES", 1000)
    data = json.dumps(list(range(5000))).encode()
    path = put(url, "x.jsonl", data)
    with files.open_url(path) as file:
        assert file.read(10) == data[:10]
        put(url, "x.jsonl", data.upper() + b" ")
        with pytest.raises(files.FileError, match="replaced while it was read"):
            file.read()


@pytest.mark.parametrize("stop", [None, 3210])
def test_a_file_is_read_from_any_byte(url: str, stop: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_BLOCK_BYTES", 1000)
    data = bytes(range(256)) * 40
    with files.open_url(put(url, "x.jsonl", data), stop) as file:
        assert file.read(3000) + file.read() == data
        assert file.seek(-5, 2) == len(data) - 5
        assert file.read() == data[-5:]
        file.seek(777)
        parts = []
        while part := file.read(333):
            parts.append(part)
        assert b"".join(parts) == data[777:]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (f"s3://{BUCKET}/no/such.jsonl", ["no such object"]),
        (f"s3://{BUCKET}/no/*.jsonl", ["no such object"]),
        ("s3://no-such-bucket/rows.jsonl", ["no-such-bucket", "bucket"]),
    ],
)
def test_what_is_not_there_is_refused(path: str, words: list[str], url: str, spool: Path) -> None:
    with pytest.raises(InputError) as caught:
        open_rows(make_job(path), spool)
    assert all(word in str(caught.value) for word in words)


def test_what_can_not_be_reached_or_read_is_refused(url: str, spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(url, "rows.xlsx", b"PK\x03\x04")
    with pytest.raises(InputError, match="unsupported file type"):
        open_rows(make_job(path), spool)
    path = put(url, "rows.jsonl", b"[1, 2]")
    with pytest.raises(InputError, match=r"rows\.jsonl"):
        open_rows(make_job(path), spool)
    put(url, "texts/a.txt", b"x")
    with pytest.raises(InputError, match="nothing to read in this folder"):
        open_rows(make_job(f"{url}/texts"), spool)
    monkeypatch.setattr("batchmix.remote.objects._RETRIES", {"max_retries": 0})
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(InputError, match="credentials in the environment"):
        open_rows(make_job(path), spool)


def test_bad_rows_are_named_with_their_url(url: str, spool: Path) -> None:
    path = put(url, "rows.jsonl", jsonl(ROWS) + b"{\n")
    with pytest.raises(InputError, match=f"{path}:11"):
        open_rows(make_job(path), spool)


def test_a_relative_path_stays_one(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="s3://"):
        make_job("s3:/bucket/rows.jsonl")
    assert make_job("s3://bucket/data/*.parquet").name == "batch"
