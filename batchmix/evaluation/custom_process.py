"""The program in which a custom scorer's function runs. It is started by its path and imports nothing from batchmix.

A user's code may hang where nothing can interrupt it, exit, fork, or use up the memory. So two processes form a
process group. A worker calls the function. A guard kills the whole group when the worker or batchmix has ended, even if
batchmix was killed.

Calls and scores are msgpack messages, each with its length in front. They go through pipes of their own, because the
function may print to standard output.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import importlib
import inspect
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
_MAX_EXPLANATION = 4_000
"""The most characters of an explanation that are kept."""
_PR_SET_PDEATHSIG = 1
"""The option of Linux's prctl(2) that sets the signal which a process gets when its parent has ended."""


def _send(to: int, value: Any) -> None:
    data = msgspec.msgpack.encode(value)
    rest = memoryview(_LENGTH.pack(len(data)) + data)
    while rest:
        rest = rest[os.write(to, rest) :]


def _receive(source: int) -> Any:
    """Return the next message. None if the other end of the pipe is closed."""
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


def _guard(worker: int, life: int, scores: int, ended: int) -> None:
    """Wait until the worker or batchmix has ended, then kill the whole group, including this process.

    If the worker ended first, report how before killing the group.
    """
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
            _send(scores, ["ended", how])
    if not done:
        os.kill(worker, signal.SIGKILL)  # it may have left the group
    os.killpg(0, signal.SIGKILL)


def _die_with(guard: int) -> None:
    """Let the kernel kill this process when the guard ends, even if the function has left the group or session."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guard:
            os._exit(0)


def _spare_others() -> None:
    """Limit this process's memory, and make it the first process that the kernel kills when memory runs out."""
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
    with contextlib.suppress(ValueError):  # some functions that are written in C do not tell
        signature = inspect.signature(function)
        try:
            signature.bind("response", "target", {})
        except TypeError as error:
            raise TypeError(f"it must take three arguments (response, target, row), and {error}") from None
    imported: Callable[..., Any] = function
    return imported


def _code_digest(place: str) -> str:
    """Return a digest of the file of the function's module. Empty if it has no file that can be read."""
    with contextlib.suppress(KeyError, OSError, TypeError, ValueError):
        file = getattr(sys.modules[place.partition(":")[0]], "__file__", None)
        return "" if file is None else hashlib.sha256(Path(file).read_bytes()).hexdigest()
    return ""


def _scored(function: Callable[..., Any], call: list[Any]) -> list[Any]:
    """Call the function, and return `["scored", score, explanation]` or `["failed", reason]`."""
    try:
        returned = function(*call)
        value, explanation = returned if isinstance(returned, tuple) else (returned, None)
        number = None if value is None else float(value)
        if number is not None and not math.isfinite(number):
            return ["failed", f"{number} is no score"]
        return ["scored", number, None if explanation is None else _plain(str(explanation))]
    except BaseException as error:  # noqa: BLE001 - an error of the user's code fails only this answer
        return ["failed", _error_text(error)]


def _error_text(error: BaseException) -> str:
    try:
        return _plain(f"{type(error).__name__}: {error}")
    except BaseException:  # noqa: BLE001 - __str__ may be the user's code too
        return type(error).__name__


def _plain(text: str) -> str:
    """Return the beginning of a text, in which lone surrogates, which no message can hold, are question marks."""
    return text[:_MAX_EXPLANATION].encode("utf-8", "replace").decode()


def _work(calls: int, scores: int) -> None:
    paths, place = _receive(calls)
    sys.path[:] = paths
    _spare_others()
    try:
        function = _imported(place)
        digest = _code_digest(place)
    except BaseException as error:  # noqa: BLE001 - the import runs the user's code
        _send(scores, ["failed", _error_text(error)])
        return
    _send(scores, ["ready", digest])
    own_pid = os.getpid()
    while (batch := _receive(calls)) is not None:
        for call in batch:
            score = _scored(function, call)
            if os.getpid() != own_pid:
                return  # a fork by the function; its score would be mistaken for that of the next answer
            _send(scores, score)


def main() -> None:
    """Fork into the guard and the worker. The arguments are three descriptors: `calls`, `scores` and `life`.

    Calls are read from the first, scores are written to the second. The third is closed when batchmix ends.
    """
    calls, scores, life = map(int, sys.argv[1:])
    ended, wakeup = os.pipe()
    os.set_blocking(wakeup, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakeup)
    guard = os.getpid()
    worker = os.fork()
    if worker:
        os.close(calls)
        _guard(worker, life, scores, ended)
    _die_with(guard)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for other in (life, ended, wakeup):
        os.close(other)
    try:
        _work(calls, scores)
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(0)


if __name__ == "__main__":
    main()
