"""What is read before it can be sent is bounded: in requests, and in bytes if their bodies are long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from batchmix.engine.read_ahead import ReadAhead
from batchmix.records import Request


@pytest.mark.parametrize(("body_bytes", "most"), [(100, 512), (100_000, 100), (1 << 20, 70)])
async def test_reading_stops_while_enough_is_in_the_queue_and_goes_on_later(body_bytes: int, most: int) -> None:
    rules: Any = SimpleNamespace(prefixes=None, cache=None, limits=SimpleNamespace(concurrency=64))
    ahead = ReadAhead(rules, lambda: None)

    async def feed() -> AsyncIterator[list[Request]]:
        for row in range(0, 1000, 10):
            yield [Request(row + n, "m", 0, "h", "/chat/completions", bytes(body_bytes), 1, None) for n in range(10)]

    async def read() -> None:
        async for _ in ahead.read(feed(), lambda batch: batch):
            pass

    reading = asyncio.create_task(read())
    for _ in range(200):  # turns of the event loop
        await asyncio.sleep(0)
    assert most - 20 <= len(ahead.queue) <= most + 10
    seen = 0
    while not reading.done():
        while ahead.queue:
            ahead.sent(0.0, ahead.queue.popleft())
            seen += 1
        await asyncio.sleep(0)
    assert seen + len(ahead.queue) == 1000
