"""Shards that are open in a run."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from batchmix.store import shard
from batchmix.store.open_shards import OpenShards
from batchmix.store.run_folder import Layout
from tests.polling import WITHIN_S


def test_a_lane_that_is_stopped_while_its_shard_is_read_leaves_no_file_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout(tmp_path)
    layout.make_folders()
    layout.journal_path(0, 0).write_text("no event\n")
    reading, stopped = threading.Event(), threading.Event()
    files: list[Any] = []
    read = shard.read_own_lines

    def held(file: Any, *more: Any) -> Any:
        files.append(file)
        reading.set()
        assert stopped.wait(WITHIN_S)
        return read(file, *more)

    monkeypatch.setattr(shard, "read_own_lines", held)

    async def stop() -> None:
        spec: Any = SimpleNamespace(header=None, damaged_parts=frozenset(), typed=None)
        opening = asyncio.create_task(OpenShards(layout, spec, 1, files.append).open(0))
        assert await asyncio.to_thread(reading.wait, WITHIN_S)
        opening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await opening
        stopped.set()

    asyncio.run(stop())  # it waits for the thread
    assert [file.closed for file in files] == [True]
