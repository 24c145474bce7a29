"""What batchmix is measured beside: python -m tests.benchmarks.clients NAME URL ROWS WORKERS PROMPT_BYTES MODE.

NAME is aiohttp, aiohttp-tuned or openai, MODE is plain or streamed. Each sends ROWS different prompts with fixed workers
and prints the seconds from the first request to the last answer, and the CPU seconds meanwhile; starting Python, and
importing, is not counted. Nothing is read from a file, nothing kept. `aiohttp-tuned` sets the garbage collector as
batchmix does, which is much of the time with thousands in flight, so that what batchmix adds itself can be told.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

from tests.killing import words

Taken = tuple[float, float]
"""Seconds, and CPU seconds."""


async def timed(work: Callable[[], Coroutine[Any, Any, None]], workers: int) -> Taken:
    """Let so many workers work, and return what they take."""
    began, before = time.perf_counter(), time.process_time()
    await asyncio.gather(*(work() for _ in range(workers)))
    return time.perf_counter() - began, time.process_time() - before


def messages(row: int, prompt_bytes: int) -> list[dict[str, str]]:
    """Return the prompt of a row, the same as in the runs of batchmix."""
    return [{"role": "user", "content": f"Say question {row}{words(prompt_bytes)}"}]


async def aiohttp_s(url: str, rows: int, workers: int, prompt_bytes: int, mode: str) -> Taken:
    """Return what is taken by a bare aiohttp loop: one session, bodies ready as bytes, answers parsed."""
    import aiohttp
    import msgspec

    fixed: dict[str, Any] = {"model": "m", **({"stream": True} if mode == "streamed" else {})}
    bodies = iter([json.dumps({**fixed, "messages": messages(row, prompt_bytes)}).encode() for row in range(rows)])
    parse = joined if mode == "streamed" else msgspec.json.decode
    headers = {"Content-Type": "application/json", "Authorization": "Bearer none"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers) as session:

        async def work() -> None:
            for body in bodies:
                async with session.post(f"{url}/chat/completions", data=body) as response:
                    parse(await response.read())

        return await timed(work, workers)


def joined(body: bytes) -> str:
    """Return the text of a stream that has arrived as a whole, in the least time that Python takes for it."""
    import msgspec

    events = [msgspec.json.decode(line[6:]) for line in body.split(b"\n\n") if line.startswith(b"data: {")]
    return "".join(choice["delta"].get("content", "") for event in events for choice in event["choices"])


async def openai_s(url: str, rows: int, workers: int, prompt_bytes: int, _mode: str) -> Taken:
    """Return what is taken by the openai package, one client for all workers.

    It is as it comes but for the time-out: with 2,000 in flight it gives up connecting after the usual 5 s.
    """
    import openai

    numbers = iter(range(rows))
    async with openai.AsyncOpenAI(base_url=url, api_key="none", timeout=600) as client:

        async def work() -> None:
            for row in numbers:
                await client.chat.completions.create(model="m", messages=messages(row, prompt_bytes))  # type: ignore[arg-type]

        return await timed(work, workers)


async def tuned_s(url: str, rows: int, workers: int, prompt_bytes: int, mode: str) -> Taken:
    """Return what is taken by the bare aiohttp loop with batchmix's settings of the garbage collector."""
    import aiohttp  # noqa: F401 - what is imported before the freeze is not looked through
    import msgspec  # noqa: F401

    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    return await aiohttp_s(url, rows, workers, prompt_bytes, mode)


CLIENTS = {"aiohttp": aiohttp_s, "aiohttp-tuned": tuned_s, "openai": openai_s}

if __name__ == "__main__":
    import uvloop

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    name, base_url, *numbers, how = sys.argv[1:]
    print(*uvloop.run(CLIENTS[name](base_url, *map(int, numbers), how)))
