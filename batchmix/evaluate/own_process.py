"""The process in which a scorer of a person's own runs: a program, started by its path, that imports nothing of ours.

Anybody's code may hang where nothing can interrupt it, end its process, fork, or take all memory. So two processes
make a group of their own: one that works, and one that does nothing but wait, and ends the whole group when the first
has ended or when whoever started them is gone, even by a kill.

Messages are msgpack with their length before them, on descriptors that the scorer knows nothing of: what it prints goes
elsewhere.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import math
import os
import resource
import select
import signal
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

_LENGTH = struct.Struct("<I")
_MOST_EXPLAINED = 4_000
"""Characters of an explanation that are kept."""
_PR_SET_PDEATHSIG = 1
"""Linux's prctl(2): the signal that a process gets when its parent has ended."""


def _send(to: int, value: Any) -> None:
    data = msgspec.msgpack.encode(value)
    rest = memoryview(_LENGTH.pack(len(data)) + data)
    while rest:
        rest = rest[os.write(to, rest) :]


def _receive(source: int) -> Any:
    """Return the next message, or None at the end."""
    head = _read(source, _LENGTH.size)
    return msgspec.msgpack.decode(_read(source, _LENGTH.unpack(head)[0])) if head else None


def _read(source: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = os.read(source, size - len(data))
        if not piece:
            return b""
        data += piece
    return data


def _guard(worker: int, life: int, answers: int, ended: int) -> None:
    """Wait until the worker has ended, which is told, or until whoever started us is gone; then end the whole group."""
    done = 0
    while not done:
        ready, _, _ = select.select([life, ended], [], [])
        if life in ready:
            break
        os.read(ended, 4096)
        done, status = os.waitpid(worker, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            _send(answers, ["ended", how])
    if not done:
        os.kill(worker, signal.SIGKILL)  # it may have left the group
    os.killpg(0, signal.SIGKILL)


def _end_with(guard: int) -> None:
    """Be killed when the guard is, whatever group or session the function has gone to by then."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guard:
            os._exit(0)


def _spare_others() -> None:
    """Be the first to go where memory is short, and get an error before that."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    with contextlib.suppress(OSError, ValueError, AttributeError):
        half = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
        resource.setrlimit(resource.RLIMIT_DATA, (half, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def _imported(place: str) -> Callable[..., Any]:
    module, _, name = place.partition(":")
    function = getattr(importlib.import_module(module), name)
    if not callable(function):
        raise TypeError(f"{place} is no function")
    made: Callable[..., Any] = function
    return made


def _scored(function: Callable[..., Any], call: list[Any]) -> list[Any]:
    """Return a score and its explanation, or None and what went wrong."""
    try:
        given = function(*call)
        value, explanation = given if isinstance(given, tuple) else (given, None)
        number = None if value is None else float(value)
        if number is not None and not math.isfinite(number):
            return ["failed", f"{number} is no score"]
        return ["scored", number, None if explanation is None else str(explanation)[:_MOST_EXPLAINED]]
    except BaseException as error:  # noqa: BLE001 - anybody's code hurts only the one answer
        return ["failed", _words(error)]


def _words(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:_MOST_EXPLAINED]
    except BaseException:  # noqa: BLE001 - its words are anybody's code too
        return type(error).__name__


def _work(asks: int, answers: int) -> None:
    paths, place = _receive(asks)
    sys.path[:] = paths
    _spare_others()
    try:
        function = _imported(place)
    except BaseException as error:  # noqa: BLE001 - anybody's code
        _send(answers, ["failed", _words(error)])
        return
    _send(answers, ["ready"])
    us = os.getpid()
    while (calls := _receive(asks)) is not None:
        for call in calls:
            found = _scored(function, call)
            if os.getpid() != us:
                return  # a fork that the function made and left; its answer would be taken for the next one's
            _send(answers, found)


def main() -> None:
    """Serve the descriptors that were given: questions, answers, and one that ends when nobody needs us any more."""
    asks, answers, life = map(int, sys.argv[1:])
    ended, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(tell)
    guard = os.getpid()
    worker = os.fork()
    if worker:
        os.close(asks)
        _guard(worker, life, answers, ended)
    _end_with(guard)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for other in (life, ended, tell):
        os.close(other)
    try:
        _work(asks, answers)
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(0)


if __name__ == "__main__":
    main()
