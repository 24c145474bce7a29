"""Short ways to make a job and to open its input."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from batchmix.job import CheckedJob, Model, read_job
from batchmix.load import Dataset, Scan, ScanOptions, open_dataset

MODEL = "gpt-4o-mini"


def make_job(
    path: str | Path, *, settings: dict[str, Any] | None = None, model: str | None = MODEL, **input_settings: Any
) -> CheckedJob:
    """Return a job over an input; `input_settings` are settings of [input]."""
    base: dict[str, Any] = {"input": {"path": str(path), **input_settings}, **(settings or {})}
    if model is not None:
        base["model"] = model
    return read_job(None, base, {})


def jsonl(rows: Iterable[Any]) -> bytes:
    """Return rows as JSON lines."""
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def open_rows(
    job: CheckedJob,
    spool: Path,
    *,
    shard_rows: int = 3,
    limit: int | None = None,
    reject_bad_rows: bool = False,
    reserved: frozenset[str] = frozenset(),
    on_progress: Callable[[int], None] = lambda _: None,
    **options: Any,
) -> Dataset:
    """Open a dataset, by default with small shards."""
    return open_dataset(
        job, ScanOptions(shard_rows, limit, reject_bad_rows, reserved, on_progress), spool=spool, **options
    )


def requests_of(dataset: Dataset, job: CheckedJob, shard: int, model: Model | None = None) -> list[Any]:
    """Return all requests of a shard to a model."""
    return [request for batch in dataset.requests(shard, model or job.models[0]) for request in batch]


def all_requests(dataset: Dataset, job: CheckedJob, model: Model | None = None) -> list[Any]:
    """Return all requests of all shards in order."""
    return [r for shard in range(len(dataset.scan.shards)) for r in requests_of(dataset, job, shard, model)]


def prompts_of(dataset: Dataset, job: CheckedJob) -> list[Any]:
    """Return the text of each request's last message, or the message of the failure in its place."""
    return [
        json.loads(r.body)["messages"][-1]["content"] if hasattr(r, "body") else r.failure.message
        for r in all_requests(dataset, job)
    ]


def carried_rows(dataset: Dataset) -> list[dict[str, Any]]:
    """Return the carried columns of all rows."""
    shards = range(len(dataset.scan.shards))
    return [row for shard in shards for batch in dataset.carried(shard) for row in batch.to_pylist()]


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files count as written long before they are read."""
    monkeypatch.setattr("batchmix.load.files._RACY_NS", -(10**15))


@pytest.fixture
def rows_file(tmp_path: Path) -> Callable[..., Path]:
    """Write rows (or bytes) into a file, and return its path."""

    def write(rows: Any, name: str = "rows.jsonl") -> Path:
        path = tmp_path / name
        path.write_bytes(rows if isinstance(rows, bytes) else jsonl(rows))
        return path

    return write


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """A run folder's `input/`, which is not there yet."""
    return tmp_path / "run" / "input"


def stored(scan: Scan) -> Scan:
    """Return a scan as it is read back from `run.json`."""
    return msgspec.json.decode(msgspec.json.encode(msgspec.to_builtins(scan)), type=Scan)
