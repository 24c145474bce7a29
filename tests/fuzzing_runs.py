"""Whole runs over damaged inputs, and over answers that no provider should send.

Each case is one input file, or one answer. In every case the program ends with a message and never with a traceback,
each row of an accepted input is in the output once, and the same command resumes the run.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import io
import json
import random
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow.parquet as pq

from batchmix.cli import _main
from batchmix.errors import FailureAction
from batchmix.records import Exchange, Failure
from batchmix.responses.classify import classify
from tests.fuzzing import changed, mutated, noise, written
from tests.fuzzing_inputs import write_input

SETTINGS = ("--progress", "none", "--set", "provider.api_key_env=", "--set", "name=fuzz",
            "--set", "output.shard_rows=7", "--set", "timeouts.total_s=20")  # fmt: skip


class Broken(AssertionError):
    """A promise is broken. The message names the promise and quotes the program's output."""


@dataclasses.dataclass
class Ended:
    """The exit code and the output of a call of the program."""

    code: int
    out: str
    err: str


def call(*command: str, stdin: bytes = b"") -> Ended:
    """Call the program in this process. Raises `Broken` for a traceback or an unknown exit code."""
    out, err, given = io.StringIO(), io.StringIO(), io.TextIOWrapper(io.BytesIO(stdin))
    patched = mock.patch.multiple("sys", argv=["batchmix", *command], stdin=given)
    with patched, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = _main()
    ended = Ended(code, out.getvalue(), err.getvalue())
    check("Traceback" not in ended.err + ended.out and code in range(4), f"{command[0]} ends with {code}", ended)
    check("\x1b" not in ended.err + ended.out, f"{command[0]} prints control characters", ended)
    return ended


def check(is_so: bool, otherwise: str, ended: Ended | None = None) -> None:
    """Raise `Broken` with the message `otherwise` if a condition is False."""
    if not is_so:
        raise Broken(otherwise if ended is None else f"{otherwise}: {ended.err[-3000:]}")


def try_input(seed: int, folder: Path, url: str, request_count: Callable[[], int]) -> str:
    """Run the program on a random input, and again if it is accepted. Returns the outcome. Raises `Broken`."""
    dice = random.Random(seed)
    given = write_input(dice, folder)
    out = folder / "run"
    before = request_count()
    command = ["run", given.path, *SETTINGS, *given.settings, "--base-url", url, "--out", str(out)]
    if dice.random() < 0.3:
        first = call(*command, "--canary", "2", stdin=given.stdin)
        check(first.code in {0, 1, 2, 3}, f"the canary ends with {first.code}", first)
    ended = call(*command, stdin=given.stdin)
    if ended.code == 2:
        check(not out.exists() or "--canary" in ended.err, "something was left of a run that was refused", ended)
        check(request_count() == before, "something was sent for an input that was refused", ended)
        return "refused"
    check(ended.code in {0, 1}, f"a whole run ends with {ended.code}", ended)
    counts = check_results(out, ended)
    check(not counts["failed"], "rows have failed", ended)
    check((ended.code == 0) == (not counts["rejected"]), "the exit code is wrong", ended)
    sent = request_count()
    check(call(*command, stdin=given.stdin).code == ended.code, "a second run has another exit code", ended)
    check(request_count() == sent, "answered rows were sent again")
    check_exports(out, folder, counts.total())
    return "rejected rows" if counts["rejected"] else "answered"


def check_results(out: Path, ended: Ended) -> Counter[str]:
    """Check that the parts have each row once, and return the number of rows by status."""
    rows = json.loads((out / "run.json").read_text())["results"]
    found: list[tuple[int, str]] = []
    for part in sorted((out / "data").iterdir()):
        table = pq.read_table(part, columns=["row", "status"])
        found += zip(table["row"].to_pylist(), table["status"].to_pylist(), strict=True)
    check(
        [row for row, _ in found] == list(range(rows)),
        f"of {rows} rows it has {len(found)}, or in another order",
        ended,
    )
    return Counter(status for _, status in found)


def check_exports(out: Path, folder: Path, rows: int) -> None:
    """Check that each export has all rows, and that its JSON is standard JSON."""
    check(json.loads(call("status", str(out), "--json").out)["results"] == rows, "status counts otherwise")
    for name in ("all.jsonl", "all.csv", "all.parquet"):
        ended = call("export", str(out), str(folder / name))
        check(ended.code == 0, f"export to {name} ends with {ended.code}", ended)
    lines = (folder / "all.jsonl").read_text().removesuffix("\n").split("\n")
    check(len([json.loads(line, parse_constant=_no_json) for line in lines]) == rows, "an export lacks rows")
    check(pq.read_metadata(folder / "all.parquet").num_rows == rows, "an export lacks rows")


def _no_json(word: str) -> None:
    raise Broken(f"{word} is no JSON")


class OddServer:
    """A provider that answers a row's first request with a given body, and every later one with a good answer.

    An answer is sent with its length, in chunks, or up to the end of the connection.
    """

    def __init__(self, seed: int, bodies: list[bytes]) -> None:
        self.bodies = bodies
        self.requests_by_row: Counter[int] = Counter()
        self._dice = random.Random(seed)
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.url = ""

    def __enter__(self) -> OddServer:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._talk, "127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        self._ready.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while await self._answer(reader, writer):
                pass
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head.lower())
        body = await reader.readexactly(int(length[1]) if length else 0)
        found = re.search(rb"row (\d+)", body)
        row = int(found[1]) if found else 0
        self.requests_by_row[row] += 1
        data = self.bodies[row] if self.requests_by_row[row] == 1 else good_answer(row)
        kind = self._dice.choice(["length", "length", "length", "chunked", "close"]) if data else "length"
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
        if kind == "length":
            writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(data), data))
        elif kind == "chunked":
            writer.write(b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(data), data))
        else:
            writer.write(b"Connection: close\r\n\r\n" + data)
        await writer.drain()
        return kind != "close"


def good_answer(row: int) -> bytes:
    """Return an answer whose text names its row."""
    message = {"role": "assistant", "content": f"answer {row}"}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return written({"id": "x", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage})


def try_answers(seed: int, folder: Path, bodies: list[bytes]) -> Counter[str]:
    """Run one row per body, and resume until each row is final. Returns the number of rows by status. Raises `Broken`."""
    source, out = folder / "rows.jsonl", folder / "run"
    source.write_text("".join(f'{{"text": "row {row}"}}\n' for row in range(len(bodies))))
    with OddServer(seed, bodies) as server:
        more = ["--prompt", "{{ text }}", "--base-url", server.url, "--out", str(out), "--keep-going", "--concurrency", "8",
                "--set", "output.shard_rows=50", "--set", "retry.attempts=1"]  # fmt: skip
        command = ["run", str(source), "--model", "m", *SETTINGS, *more]
        for _ in range(len(bodies)):
            ended = call(*command)
            check(ended.code in {0, 1, 3}, f"a run ends with {ended.code}", ended)
            check(call("status", str(out), "--json").code == 0, "status fails")
            if ended.code == 0 or (ended.code == 1 and not check_results(out, ended)["failed"]):
                break
        counts = check_results(out, ended)
        check(not counts["failed"], "a row never gets an answer", ended)
        check_exports(out, folder, len(bodies))
        _check_whose(out, server, bodies)
    return counts


def _check_whose(out: Path, server: OddServer, bodies: list[bytes]) -> None:
    """Check that each row has its own answer, and that only rows without an answer were sent again."""
    table = pq.read_table(out / "data", columns=["row", "status", "response", "attempts"])
    for row, status, response, attempts in zip(*(column.to_pylist() for column in table.columns), strict=True):
        check(attempts <= server.requests_by_row[row], f"row {row} counts more attempts than the server received")
        if server.requests_by_row[row] > 1 and status == "ok":
            check(response == f"answer {row}", f"row {row} has {response!r:.80}")
        if bodies[row] == good_answer(row):
            check(
                status == "ok" and server.requests_by_row[row] == 1,
                f"row {row} was sent {server.requests_by_row[row]} times",
            )


def odd_bodies(dice: random.Random, count: int, answers: list[Any]) -> list[bytes]:
    """Return bodies, of which about a third are good answers for their row. None asks for a wait."""
    return [
        good_answer(row) if _demands_a_wait(body) else body for row, body in enumerate(_bodies(dice, count, answers))
    ]


def _bodies(dice: random.Random, count: int, answers: list[Any]) -> Iterator[bytes]:
    for row in range(count):
        kind = dice.random()
        if kind < 0.35:
            yield good_answer(row)
        elif kind < 0.4:
            yield noise(dice)
        elif kind < 0.7:
            yield written(changed(dice, dice.choice(answers)))
        else:
            yield mutated(dice, dice.choice([good_answer(row), written(changed(dice, dice.choice(answers)))]))


def _demands_a_wait(body: bytes) -> bool:
    outcome = classify(Exchange(0, 0, 0.0, 200, body))
    return isinstance(outcome, Failure) and outcome.action is FailureAction.PAUSE
