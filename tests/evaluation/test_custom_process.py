"""The program in which a custom scorer's function runs, by its own protocol: what it answers, and how it ends."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from batchmix.evaluation import custom_process

_LENGTH = struct.Struct("<I")
_WITHIN_S = 60.0

SCORERS = """
import os, resource, signal
from pathlib import Path

def length(response, target, row):
    return len(response)

def explained(response, target, row):
    return True, target

def nothing(response, target, row):
    return None

def endless(response, target, row):
    return float("inf")

def unspeakable(response, target, row):
    class Mute(Exception):
        def __str__(self):
            raise ValueError
    raise Mute

def surrogate(response, target, row):
    raise ValueError("\\ud800")

def says_surrogate(response, target, row):
    return 1, "\\ud800"

def exits(response, target, row):
    raise SystemExit("no more")

def ends(response, target, row):
    os._exit(7)

def is_killed(response, target, row):
    os.kill(os.getpid(), signal.SIGTERM)

def forks(response, target, row):
    child = os.fork()
    if child:
        os.waitpid(child, 0)
    return 1

def bounds(response, target, row):
    soft, _ = resource.getrlimit(resource.RLIMIT_DATA)
    half = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return soft == half, Path("/proc/self/oom_score_adj").read_text().strip()

text = "no function"
"""


class Program:
    """The running program: its descriptors, and the messages on them."""

    def __init__(self, folder: Path, place: str) -> None:
        calls, self.calls = os.pipe()
        self.scores, scores = os.pipe()
        life, self.life = os.pipe()
        theirs = (calls, scores, life)
        self.process = subprocess.Popen(
            [sys.executable, "-P", custom_process.__file__, *map(str, theirs)], pass_fds=theirs, start_new_session=True
        )
        for fd in theirs:
            os.close(fd)
        self.send([[str(folder), *sys.path], place])

    def send(self, value: Any) -> None:
        data = msgspec.msgpack.encode(value)
        os.write(self.calls, _LENGTH.pack(len(data)) + data)

    def receive(self) -> list[Any]:
        return msgspec.msgpack.decode(self._read(_LENGTH.unpack(self._read(_LENGTH.size))[0]))

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            assert select.select([self.scores], [], [], _WITHIN_S)[0], "the program does not answer"
            piece = os.read(self.scores, size - len(data))
            assert piece, "the program has closed its end"
            data += piece
        return data

    def close_calls(self) -> None:
        os.close(self.calls)
        self.calls = -1

    def close_life(self) -> None:
        os.close(self.life)
        self.life = -1

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for fd in (self.calls, self.scores, self.life):
            if fd >= 0:
                os.close(fd)


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Callable[[str], Program]]:
    (tmp_path / "scorers_of_a_user.py").write_text(SCORERS)
    with contextlib.ExitStack() as stack:

        def started(name: str) -> Program:
            made = Program(tmp_path, f"scorers_of_a_user:{name}")
            stack.callback(made.close)
            return made

        yield started


@pytest.mark.parametrize(
    ("name", "score"),
    [
        ("length", ["scored", 3.0, None]),
        ("explained", ["scored", 1.0, "x" * 4_000]),
        ("nothing", ["scored", None, None]),
        ("endless", ["failed", "inf is no score"]),
        ("unspeakable", ["failed", "Mute"]),
        ("surrogate", ["failed", "ValueError: ?"]),
        ("says_surrogate", ["scored", 1.0, "?"]),
        ("exits", ["failed", "SystemExit: no more"]),
    ],
)
def test_each_call_has_its_score_and_the_process_ends_with_its_calls(
    name: str, score: list[Any], program: Callable[[str], Program]
) -> None:
    running = program(name)
    assert running.receive()[0] == "ready"
    for count in (2, 1):
        running.send([("abc", "x" * 5_000, {})] * count)
        assert [running.receive() for _ in range(count)] == [score] * count
    running.close_calls()
    assert running.receive() == ["ended", "ended with exit code 0"]
    assert running.process.wait(_WITHIN_S) == -9, "the guard ends with its group"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing", "AttributeError: module 'scorers_of_a_user' has no attribute 'missing'"),
        ("text", "TypeError: scorers_of_a_user:text is no function"),
    ],
)
def test_a_function_that_can_not_be_imported_is_reported_with_the_reason(
    name: str, reason: str, program: Callable[[str], Program]
) -> None:
    running = program(name)
    assert running.receive() == ["failed", reason]
    assert running.receive() == ["ended", "ended with exit code 0"]


@pytest.mark.parametrize(("name", "how"), [("ends", "ended with exit code 7"), ("is_killed", "was killed by SIGTERM")])
def test_how_a_function_ended_its_process_is_reported(name: str, how: str, program: Callable[[str], Program]) -> None:
    running = program(name)
    assert running.receive()[0] == "ready"
    running.send([("a", None, {})])
    assert running.receive() == ["ended", how]


def test_a_fork_in_a_function_sends_no_score_of_its_own(program: Callable[[str], Program]) -> None:
    running = program("forks")
    assert running.receive()[0] == "ready"
    running.send([("a", None, {}), ("b", None, {})])
    assert [running.receive(), running.receive()] == [["scored", 1.0, None]] * 2
    running.close_calls()
    assert running.receive() == ["ended", "ended with exit code 0"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has both bounds")
def test_a_function_may_use_half_of_the_memory_and_is_the_first_that_the_kernel_ends(
    program: Callable[[str], Program],
) -> None:
    running = program("bounds")
    assert running.receive()[0] == "ready"
    running.send([("a", None, {})])
    assert running.receive() == ["scored", 1.0, "1000"]


def test_the_program_ends_when_its_parent_does(program: Callable[[str], Program]) -> None:
    running = program("length")
    assert running.receive()[0] == "ready"
    running.close_life()
    assert running.process.wait(_WITHIN_S) == -9


@pytest.mark.parametrize(
    ("code", "how"),
    [
        ("raise SystemExit(3)", "ended with exit code 3"),
        ("import os; os.kill(os.getpid(), 15)", "was killed by SIGTERM"),
    ],
)
def test_the_guard_reports_how_the_worker_ended_and_kills_the_group(
    code: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = _kills(monkeypatch)
    with _pipe() as (scores, to), _pipe() as (life, _), _pipe() as (ended, wakeup):
        with subprocess.Popen([sys.executable, "-c", code]) as worker:
            os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)
            os.write(wakeup, b"x")
            custom_process._guard(worker.pid, life, to, ended)
        assert custom_process._receive(scores) == ["ended", how]
    assert killed == [(0, signal.SIGKILL)]


def test_the_guard_kills_the_worker_also_outside_of_its_group(monkeypatch: pytest.MonkeyPatch) -> None:
    killed = _kills(monkeypatch)
    life, ours = os.pipe()
    os.close(ours)
    with _pipe() as (ended, wakeup):
        waits = [sys.executable, "-c", "input()"]
        with subprocess.Popen(waits, stdin=subprocess.PIPE, start_new_session=True) as worker:
            custom_process._guard(worker.pid, life, wakeup, ended)
            assert worker.wait(_WITHIN_S) == -signal.SIGKILL
    os.close(life)
    assert killed == [(0, signal.SIGKILL)]


def _kills(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Return the list of process groups that are killed from here on, which in truth are left alone."""
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "killpg", lambda *call: killed.append(call))
    return killed


@contextlib.contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    try:
        yield ends
    finally:
        for end in ends:
            os.close(end)


def test_a_function_that_can_not_take_an_answer_its_target_and_its_row_is_refused_when_it_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So no run is paid for that it could not score."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "signed.py").write_text(
        "def two(r, t): pass\nclass Bare: pass\ndef any(*_): pass\ndef more(r, t, row, x=1): pass\n"
    )
    for name in ("two", "Bare"):
        with pytest.raises(TypeError, match=r"it must take three arguments \(response, target, row\), and too many"):
            custom_process._imported(f"signed:{name}")
    for name in ("signed:any", "signed:more", "builtins:print"):
        assert callable(custom_process._imported(name))
