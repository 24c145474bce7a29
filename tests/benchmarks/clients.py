"""What batchmix is measured beside: python -m tests.benchmarks.clients aiohttp|aiohttp-tuned|openai URL ROWS WORKERS.

Each sends ROWS different prompts with fixed workers and prints the seconds from the first request to the last answer;
starting Python, and importing, is not counted. Nothing is read from a file, nothing kept. `aiohttp-tuned` sets the garbage
collector as batchmix does, which is much of the time with thousands in flight, so that what batchmix adds itself can be
told.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import sys
import time


def messages(row: int) -> list[dict[str, str]]:
    """Return the prompt of a row, the same as in the runs of batchmix."""
    return [{"role": "user", "content": f"Say question {row}"}]


async def aiohttp_s(url: str, rows: int, workers: int) -> float:
    """Return the seconds of a bare aiohttp loop: one session, bodies ready as bytes, answers parsed."""
    import aiohttp
    import msgspec

    bodies = iter([json.dumps({"model": "m", "messages": messages(row)}).encode() for row in range(rows)])
    headers = {"Content-Type": "application/json", "Authorization": "Bearer none"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers) as session:

        async def work() -> None:
            for body in bodies:
                async with session.post(f"{url}/chat/completions", data=body) as response:
                    msgspec.json.decode(await response.read())

        began = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(workers)))
        return time.perf_counter() - began


async def openai_s(url: str, rows: int, workers: int) -> float:
    """Return the seconds of the openai package, one client for all workers.

    It is as it comes but for the time-out: with 2,000 in flight it gives up connecting after the usual 5 s.
    """
    import openai

    numbers = iter(range(rows))
    async with openai.AsyncOpenAI(base_url=url, api_key="none", timeout=600) as client:

        async def work() -> None:
            for row in numbers:
                await client.chat.completions.create(model="m", messages=messages(row))  # type: ignore[arg-type]

        began = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(workers)))
        return time.perf_counter() - began


async def tuned_s(url: str, rows: int, workers: int) -> float:
    """Return the seconds of the bare aiohttp loop with batchmix's settings of the garbage collector."""
    import aiohttp  # noqa: F401 - what is imported before the freeze is not looked through
    import msgspec  # noqa: F401

    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    return await aiohttp_s(url, rows, workers)


CLIENTS = {"aiohttp": aiohttp_s, "aiohttp-tuned": tuned_s, "openai": openai_s}

if __name__ == "__main__":
    import uvloop

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    name, base_url, row_count, worker_count = sys.argv[1:]
    print(uvloop.run(CLIENTS[name](base_url, int(row_count), int(worker_count))))
