"""What interrupts a call drains the run: nothing is lost, nothing is paid for twice, no thread and no task is left."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import batchmix as bm
from batchmix.store.result_feed import ResultFeed
from tests.conftest import Provider
from tests.killing import fetch
from tests.polling import until, wait_until

ROWS = [{"text": f"word {number}"} for number in range(60)]
PROMPT = "Say {{ text }}"


@pytest.fixture
def at(standin: Provider, tmp_path: Path) -> dict[str, Any]:
    standin.behave("latency=0.2")
    return {
        "model": "m", "base_url": standin.url, "provider": {"api_key_env": ""}, "out": str(tmp_path / "run"), "concurrency": 10,
    }  # fmt: skip


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Any:
    before = threading.active_count()
    handler = signal.getsignal(signal.SIGINT)
    yield
    assert threading.active_count() == before
    assert signal.getsignal(signal.SIGINT) is handler


def check_whole(standin: Provider, run: bm.Run, interrupted: int) -> None:
    """Check that the rest was sent once, and what had been answered before not at all."""
    assert run.summary["ok"] == len(ROWS)
    assert set(Counter(standin.prompts()).values()) == {1}
    assert 0 < interrupted < len(ROWS)
    assert run.summary["maybe_billed"] == 0


def test_cancelling_drains_and_the_rest_is_sent_later(standin: Provider, at: Any) -> None:
    async def cancelled() -> None:
        task = asyncio.create_task(bm.arun(ROWS, PROMPT, **at))
        await until(lambda: standin.request_count() >= 15)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(cancelled())
    before = len(bm.open(at["out"]))
    assert before == standin.request_count()
    check_whole(standin, bm.run(ROWS, PROMPT, **at), before)


def test_a_timeout_drains_too_and_a_second_cancellation_cuts(standin: Provider, at: Any) -> None:
    standin.behave("latency=60")

    async def twice() -> None:
        task = asyncio.create_task(bm.arun(ROWS, PROMPT, **at))
        await until(lambda: standin.request_count() == 10)
        task.cancel()
        await asyncio.sleep(0.1)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(twice())
    assert bm.open(at["out"]).summary["maybe_billed"] == 10
    standin.behave("latency=0.2")

    async def timed_out() -> None:
        async with asyncio.timeout(0.5):
            await bm.arun(ROWS, PROMPT, **at)

    with pytest.raises(TimeoutError):
        asyncio.run(timed_out())
    assert bm.run(ROWS, PROMPT, **at).summary["ok"] == 60


SCRIPT = """
import signal, sys, threading
import batchmix as bm
before = signal.getsignal(signal.SIGINT)
rows = [{"text": f"word {n}"} for n in range(60)]
try:
    bm.run(rows, "Say {{ text }}", model="m", base_url=sys.argv[1], provider={"api_key_env": ""}, out=sys.argv[2], concurrency=10)
except bm.Interrupted as error:
    print(type(error.run).__name__, error.run.status, len(error.run), error.exit_code, str(error).split("\\n"))
    print(threading.active_count(), signal.getsignal(signal.SIGINT) is before)
"""


OWN_HANDLER = "signal.signal(signal.SIGINT, lambda *_: exec('raise KeyboardInterrupt'))\n"


@pytest.mark.parametrize("handler", ["", pytest.param(OWN_HANDLER, marks=pytest.mark.slow)], ids=["", "own handler"])
def test_ctrl_c_drains_then_raises_an_error_that_has_the_run(standin: Provider, at: Any, handler: str) -> None:
    script = SCRIPT.replace("before =", f"{handler}before =", 1)
    process = subprocess.Popen(
        [sys.executable, "-c", script, standin.url, at["out"]],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: standin.request_count() >= 15)
    process.send_signal(signal.SIGINT)
    shown, errors = process.communicate(timeout=60)
    answered = standin.request_count()
    assert shown.split("\n")[:2] == [
        f"Run unfinished {answered} 130 ['interrupted by SIGINT', 'To go on, call it again, or error.run.go_on(), or in a"
        f" shell: batchmix resume {at['out']}']",
        "1 True",
    ]
    assert errors == ""
    check_whole(standin, bm.run(ROWS, PROMPT, **at), answered)


def test_a_second_ctrl_c_cuts_the_requests_in_flight(standin: Provider, at: Any) -> None:
    standin.behave("latency=60")
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, standin.url, at["out"]], stdout=subprocess.PIPE, text=True
    )
    wait_until(lambda: standin.request_count() == 10)
    process.send_signal(signal.SIGINT)
    wait_until(lambda: fetch(standin.url, "totals") and bm.open(at["out"]).status == "running")
    process.send_signal(signal.SIGINT)
    shown, _ = process.communicate(timeout=60)
    assert shown.startswith("Run unfinished 0 130")
    assert bm.open(at["out"]).summary["maybe_billed"] == 10


def test_a_stop_raises_with_the_run(standin: Provider, at: Any) -> None:
    standin.behave("401=1")
    with pytest.raises(bm.Stopped) as caught:
        bm.run(ROWS, PROMPT, **at)
    assert caught.value.run  # although it has no result
    assert caught.value.run.status == "unfinished"
    standin.behave()
    assert caught.value.run.go_on().summary["ok"] == 60


def stream(at: Any, **more: Any) -> Any:
    return bm.stream(ROWS, PROMPT, **at | more)


def test_each_result_comes_once_as_it_is_answered(standin: Provider, at: Any) -> None:
    async def consume() -> tuple[list[bm.Result], int]:
        results, first = [], 0
        async for result in stream(at):
            first = first or standin.request_count()
            results.append(result)
        return results, first

    results, first = asyncio.run(consume())
    assert sorted(result.row for result in results) == list(range(60))
    assert first < 60
    assert {type(result.status) for result in results} == {str}
    in_folder = {result.row: result for result in bm.open(at["out"])}
    for result in results:
        kept = in_folder[result.row]
        assert {name: getattr(result, name) for name in result.__struct_fields__ if name != "raw"} == {
            name: getattr(kept, name) for name in kept.__struct_fields__ if name != "raw"
        }


@pytest.mark.parametrize("how", ["break", "exception", "cancel"])
def test_a_consumer_that_stops_drains_the_run_and_another_gets_all(standin: Provider, at: Any, how: str) -> None:
    async def consume() -> None:
        async with contextlib.aclosing(stream(at)) as results:
            async for result in results:
                if how == "break":
                    break
                if how == "exception":
                    raise LookupError(result.row)
                asyncio.current_task().cancel()
                await asyncio.sleep(0)

    expected = {
        "break": contextlib.nullcontext(),
        "exception": pytest.raises(LookupError),
        "cancel": pytest.raises(asyncio.CancelledError),
    }
    with expected[how]:
        asyncio.run(consume())
    before = len(bm.open(at["out"]))
    assert before == standin.request_count()

    async def all_rows() -> list[int]:
        return [result.row async for result in stream(at)]

    assert sorted(asyncio.run(all_rows())) == list(range(60))
    check_whole(standin, bm.open(at["out"]), before)


def test_without_aclosing_the_end_of_the_loop_closes_the_stream(standin: Provider, at: Any) -> None:
    async def consume() -> None:
        async for _ in stream(at):
            raise LookupError

    with pytest.raises(LookupError):
        asyncio.run(consume())
    assert len(bm.open(at["out"])) == standin.request_count() < 60


def test_a_finished_run_is_streamed_without_a_request_in_any_shard_size(standin: Provider, at: Any) -> None:
    at |= {"output": {"shard_rows": 7}}
    bm.run(ROWS, PROMPT, **at)

    async def all_rows() -> list[tuple[int, str]]:
        return [(result.row, result.input["text"]) async for result in stream(at)]

    assert asyncio.run(all_rows()) == [(number, row["text"]) for number, row in enumerate(ROWS)]
    assert standin.request_count() == 60


def test_a_slow_consumer_holds_the_sending_back(standin: Provider, at: Any) -> None:
    standin.behave()
    rows = [{"text": f"word {number}"} for number in range(6000)]

    async def consume() -> tuple[int, int]:
        results = bm.stream(rows, PROMPT, **at)
        await anext(results)
        sent = -1
        while sent < standin.request_count():  # until nothing more is sent
            sent = standin.request_count()
            await asyncio.sleep(1)
        return sent, 1 + len([result async for result in results])

    sent, results = asyncio.run(consume())
    assert 1000 <= sent < 3000
    assert results == 6000


def test_failures_are_streamed_and_an_early_stop_is_raised_at_the_end(standin: Provider, at: Any) -> None:
    standin.behave("400=0.3")

    async def consume() -> list[bm.Result]:
        return [result async for result in stream(at, keep_going=True)]

    results = asyncio.run(consume())
    assert {result.status for result in results} == {"ok", "rejected"}
    assert all(result.error_type for result in results if not result.ok)
    standin.behave("401=1")
    with pytest.raises(bm.Stopped):
        asyncio.run(consume_another(at))


async def consume_another(at: Any) -> None:
    async for _ in bm.stream([{"text": "new"}], PROMPT, **at | {"out": at["out"] + "2"}):
        pass


def test_a_stream_that_is_left_and_then_cancelled_still_drains(standin: Provider, at: Any) -> None:
    async def left() -> None:
        async for _ in stream(at):
            break
        gc.collect()  # the generator is dropped, and the loop closes it in a task, which it cancels at its end

    asyncio.run(left())
    run = bm.open(at["out"])
    assert (len(run), run.summary["maybe_billed"]) == (standin.request_count(), 0)


@pytest.mark.parametrize("inside", [True, False])
def test_a_stream_that_is_dropped_without_a_loop_stops_its_run(standin: Provider, at: Any, inside: bool) -> None:
    before = threading.active_count()  # a server of another test may not have ended all its threads
    results, loop = [stream(at)], asyncio.new_event_loop()

    async def first() -> None:
        await anext(results[0])

    loop.run_until_complete(first() if inside else anext(results[0]))  # only the former tells the loop of the stream
    loop.close()
    results.clear()
    gc.collect()
    wait_until(lambda: bm.open(at["out"]).status != "running")
    wait_until(lambda: threading.active_count() <= before)
    assert len(bm.open(at["out"])) == standin.request_count() < 60


def test_cancelling_while_rows_are_read_reads_no_more(standin: Provider, at: Any) -> None:
    read, cancelled = [], threading.Event()

    def rows() -> Iterator[dict[str, str]]:
        for row in ROWS:
            read.append(row)
            if len(read) == 5:
                assert cancelled.wait(60)
            yield row

    async def cancelling() -> None:
        task = asyncio.create_task(bm.arun(rows(), PROMPT, **at))
        await until(lambda: len(read) == 5)
        task.cancel()
        asyncio.get_running_loop().call_later(0.05, cancelled.set)  # once the task has seen that it is cancelled
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelling())
    assert (len(read), standin.request_count(), Path(at["out"]).exists()) == (5, 0, False)


def test_nothing_is_logged_of_a_run_that_a_cancelled_stream_has_stopped(
    at: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def left() -> None:
        async for _ in stream(at):
            break

    asyncio.run(left())
    gc.collect()
    assert caplog.text == ""


def test_a_sealed_part_that_can_not_be_read_is_no_silent_gap(standin: Provider, at: Any) -> None:
    at |= {"output": {"shard_rows": 20}}
    bm.run(ROWS, PROMPT, **at)
    part = Path(at["out"]) / "data" / "part-00001.parquet"
    content = bytearray(part.read_bytes())
    content[200:400] = bytes(200)
    written = part.stat().st_mtime_ns
    part.write_bytes(content)
    os.utime(part, ns=(written, written))  # as a disk does that loses bits; otherwise the start is refused
    results = list[bm.Result]()

    async def consume() -> None:
        async for result in stream(at):
            results.append(result)

    with pytest.raises(bm.Stopped, match=r"part-00001"):
        asyncio.run(consume())
    assert {result.row for result in results} >= {*range(20), *range(40, 60)}
    assert standin.request_count() == 60


@pytest.mark.slow
def test_a_model_that_is_ahead_holds_no_rows_for_the_one_behind(
    standin: Provider, at: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    standin.behave("latency=0&latency[slow]=0.02")
    rows = [{"text": f"word {number}"} for number in range(2500)]
    held = list[int]()
    close = ResultFeed.close

    def counted(self: ResultFeed, index: int) -> None:
        held.append(len(self._inputs))
        close(self, index)

    monkeypatch.setattr(ResultFeed, "close", counted)
    models = [{"id": "fast"}, {"id": "slow", "limits": {"concurrency": 8}}]
    del at["model"]

    async def consume() -> int:
        results = bm.stream(rows, PROMPT, **at | {"models": models, "output": {"shard_rows": 10}, "concurrency": 64})
        return len({(result.row, result.model) async for result in results})

    assert asyncio.run(consume()) == 5000
    assert max(held) < 150  # of 250 shards; a lane reads some hundred rows ahead
