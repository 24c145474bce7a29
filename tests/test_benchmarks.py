"""What the benchmarks rely on: a server with the configured latency, and a table that shows a missed bound."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tests.benchmarks.servers import ANSWER
from tests.benchmarks.table import Bound, Line, conditions, in_columns, markdown
from tests.benchmarks.waiting import RESPONSE, serve

REQUEST = b'POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\ncontent-length: 12\r\n\r\n{"model": 1}'


@pytest.mark.parametrize("piece", [1, 50, 10_000])
async def test_the_waiting_server_answers_each_request_once_however_its_bytes_are_cut(piece: int) -> None:
    async with await serve(0, 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        sent = REQUEST * 3
        for at in range(0, len(sent), piece):
            writer.write(sent[at : at + piece])
            await writer.drain()
            await asyncio.sleep(0)
        assert await reader.readexactly(3 * len(RESPONSE)) == RESPONSE * 3
        writer.close()
        await writer.wait_closed()


async def test_the_waiting_server_delays_answers_by_its_latency() -> None:
    async with await serve(0.1, 0.1) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        began = time.perf_counter()
        writer.write(REQUEST)
        assert (await reader.readexactly(len(RESPONSE))).endswith(ANSWER.encode())
        assert time.perf_counter() - began >= 0.099
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    ("line", "verdict"),
    [
        (Line("a", 80, "/s", "b", 100, 0.8, Bound("≥", 0.8)), "ok"),
        (Line("a", 79, "/s", "b", 100, 0.79, Bound("≥", 0.8)), "miss"),
        (Line("a", 0.3, " s", "b", 0.2, 1.51, Bound("≤", 1.5)), "miss"),
        (Line("a", 150, " MB", bound=Bound("≤", 150, " MB")), "ok"),
        (Line("a", 150.4, " MB", bound=Bound("≤", 150, " MB")), "miss"),
        (Line("a", 80, "/s", "b", 4, 20.0), ""),
    ],
)
def test_a_bound_is_compared_with_the_ratio_or_else_the_figure(line: Line, verdict: str) -> None:
    assert line.verdict == verdict


def test_both_tables_show_every_cell() -> None:
    line = Line("64 in flight", 8123.4, "/s", "bare aiohttp", 10000, 0.812, Bound("≥", 0.8))
    assert " ".join(in_columns(line.cells()).split()) == "64 in flight 8,123/s bare aiohttp: 10,000/s 0.81 ≥ 0.8 ok"
    shown = markdown([line], conditions("so"))
    assert "| 64 in flight | 8,123/s | bare aiohttp: 10,000/s | 0.81 | ≥ 0.8 | ok |\n" in shown
    assert shown.count("\n| ") == 2
    assert "so. " in shown.splitlines()[-1]


def test_every_benchmark_is_in_the_readme_and_every_one_in_the_readme_exists() -> None:
    here = Path(__file__).parent
    lines = (here / "README.md").read_text().splitlines()
    named = {line.split()[2] for line in lines if line.startswith("python -m tests.")}
    runnable = {path for path in (here / "benchmarks").glob("*.py") if '__name__ == "__main__"' in path.read_text()}
    runnable |= {path.parent for path in (here / "benchmarks").glob("*/__main__.py")}
    servers = {"clients", "waiting"}  # started by other benchmarks
    assert named == {"tests.benchmarks", *(f"tests.benchmarks.{path.stem}" for path in runnable)} - {
        "tests.benchmarks.__main__",
        *(f"tests.benchmarks.{name}" for name in servers),
    }
