"""A run in object storage that is killed between any two writes there goes on, and nothing that is there is lost."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.store import MemoryStore

from batchmix.engine import reader
from batchmix.engine.local_output import local_output
from batchmix.engine.run import Options, run_job
from batchmix.engine.run_status import RunStatus
from batchmix.errors import RunError
from batchmix.job import read_job
from batchmix.redact import Secrets
from batchmix.remote.objects import Objects
from batchmix.store import mirror, working_copy
from batchmix.store.remote_lock import LOCK
from tests.conftest import Bench
from tests.killing import fetch

URL = "s3://bucket/run"
ROWS = 30


class Recorded(Objects):
    """Objects in memory. All that is written is recorded."""

    store: Any = None
    writes: list[tuple[str, bytes | None]] = []  # noqa: RUF012 - set anew by each test
    lock = threading.Lock()

    def __init__(self, url: str) -> None:
        super().__init__(url, self.store)

    def put(self, key: str, data: bytes, expected: str | None) -> str | None:
        with self.lock:
            etag = super().put(key, data, expected)
            self.writes.append((key, bytes(data)))
            return etag

    def delete(self, keys: list[str]) -> None:
        with self.lock:
            for key in keys:
                super().delete([key])
                self.writes.append((key, None))


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[Recorded]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(working_copy, "Objects", Recorded)
    monkeypatch.setattr("batchmix.remote.stubs.Objects", Recorded)
    for name in ("_JOURNAL_S", "_FILES_S"):  # so that all orders of the two threads come up
        monkeypatch.setattr(mirror, name, 0.001)
    Recorded.store, Recorded.writes = MemoryStore(), []
    return Recorded


def run(bench: Bench, **options: Any) -> None:
    with local_output(read_job(None, bench.settings, {})) as job:
        run_job(job, Secrets(""), Options(**options), RunStatus())


def answered() -> set[int]:
    """Return the rows whose answers are there."""
    with working_copy.read_copy(URL) as folder:
        return {row for batch in reader.results(folder, ["row"]) for row in batch.column("row").to_pylist()}


def restored(writes: list[tuple[str, bytes | None]]) -> MemoryStore:
    """Return a store with the outcome of these writes, but for the lock, whose holder is dead."""
    store = MemoryStore()
    for key, data in dict(writes).items():
        if data is not None and key != LOCK:
            obstore.put(store, key, data)
    return store


def check(bench: Bench, recorded: type[Recorded], step: int) -> None:
    """Run the job, and go on with it after each `step`-th of its writes."""
    bench.settings["output"]["path"] = URL
    run(bench)
    writes = list(recorded.writes)
    pieces = [data for key, data in writes if key.startswith("journal/") and data]
    assert pieces
    for line in b"\n".join(pieces).splitlines():
        json.loads(line or b"{}")
    for kill in range(0, len(writes) + 1, step):
        recorded.store, recorded.writes = restored(writes[:kill]), []
        try:
            there = answered()
        except RunError:  # no run.json yet: nothing was sent
            there = set()
        fetch(bench.standin.url, "reset", "")
        run(bench)
        assert answered() == set(range(ROWS))
        asked = {int(record["prompt"].rsplit(" ", 1)[1]) for record in fetch(bench.standin.url, "ledger")}
        assert asked == set(range(ROWS)) - there, f"killed after {writes[kill - 1][0] if kill else 'nothing'}"
        left = {key for key, data in dict(writes[:kill] + recorded.writes).items() if data is not None}
        assert not [key for key in left if key.startswith("journal/")]


def test_a_kill_after_some_of_the_writes(bench: Bench, recorded: type[Recorded]) -> None:
    bench.standin.behave("latency=0.005")
    bench.write(ROWS)
    check(bench, recorded, 7)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_a_kill_after_any_write(bench: Bench, recorded: type[Recorded], seed: int) -> None:
    bench.standin.behave(f"latency=0.001-0.02&seed={seed}")
    bench.write(ROWS)
    check(bench, recorded, 1)
