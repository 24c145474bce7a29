"""Scorers of a person's own, each in a process of its own, where it can be stopped whatever it does."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import struct
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec

from batchmix.errors import JobError
from batchmix.job.eval_table import Own

_logger = logging.getLogger(__name__)
_PROGRAM = Path(__file__).with_name("own_process.py")
_LENGTH = struct.Struct("<I")
_IMPORT_S = 120.0
"""How long the module may take to be imported."""
_AT_ONCE = 256
"""Answers that are handed over together."""
_MOST_ENDED = 10
"""After so many answers at which it was cut off or ended its process, a function of your own is called no more."""
_LONGEST_LINE = 2_000
"""Characters of a line that it prints which are logged."""

RunContext = tuple[str, Any, Mapping[str, Any]]
"""An answer, its target, its row."""
Given = tuple[float | None, str | None]
"""A score and what is said of it; None: there is none, and it is said why."""


class OwnFunction:
    """Gives what a person's own function says of answers. Raises `JobError` where it can't be imported."""

    def __init__(self, asked: Own, folder: Path) -> None:
        self._asked = asked
        self._paths = [str(folder.resolve()), *sys.path]
        self._ended = 0
        self._process: _Process | None = None
        try:
            self._start()
        except _EndedError as error:
            raise JobError(f"eval.scorers: {asked.name}: can't import {asked.python}: {error}") from None

    def scores(self, calls: Sequence[RunContext]) -> list[Given]:
        """Return what it says of each answer."""
        found: list[Given] = []
        while len(found) < len(calls):
            if self._ended >= _MOST_ENDED:
                words = f"{self._asked.python}: was cut off {self._ended} times, and is called no more"
                found += [(None, words)] * (len(calls) - len(found))
                break
            found += self._some(calls[len(found) : len(found) + _AT_ONCE])
        return found

    def _some(self, calls: Sequence[RunContext]) -> Iterator[Given]:
        """Yield the scores of the first answers, up to one at which the function had to be stopped."""
        try:
            if self._process is None:
                self._start()
            process = self._process
            assert process is not None
            process.ask(calls, self._asked.timeout_s)
            for _ in calls:
                kind, *given = process.answer(self._asked.timeout_s)
                yield (given[0], given[1]) if kind == "scored" else (None, f"{self._asked.python}: {given[0]}")
        except _EndedError as error:
            self._stop()
            self._ended += 1
            if self._ended == _MOST_ENDED:
                _logger.warning("%s: was cut off %d times, and is called no more", self._asked.python, self._ended)
            yield None, f"{self._asked.python}: {error}"

    def _start(self) -> None:
        self._process = _Process(self._asked.python)
        self._process.ask([self._paths, self._asked.python], _IMPORT_S)
        kind, *words = self._process.answer(_IMPORT_S)
        if kind != "ready":
            self._stop()
            raise _EndedError(words[0])

    def _stop(self) -> None:
        if self._process:
            self._process.close()
        self._process = None


class _EndedError(Exception):
    """The function took too long, or ended its process."""


class _Process:
    """A process with one function in it; ended with this object, and with us, however we end."""

    def __init__(self, name: str) -> None:
        asks, self._asks = os.pipe()
        self._answers, answers = os.pipe()
        life, self._life = os.pipe()
        theirs = (asks, answers, life)
        try:
            call = [sys.executable, "-P", str(_PROGRAM), *map(str, theirs)]
            process = subprocess.Popen(  # noqa: S603 - Python, and a program of our own
                call, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, pass_fds=theirs,
                start_new_session=True,
            )  # fmt: skip
        finally:
            for fd in theirs:
                os.close(fd)
        self.group = process.pid
        """The process group of all that it starts."""
        os.set_blocking(self._asks, False)
        self._buffer = bytearray()
        assert process.stdout is not None
        threading.Thread(target=_log_lines, args=(process.stdout, name), daemon=True).start()
        self.close = weakref.finalize(self, _end, process, (self._asks, self._answers, self._life))

    def ask(self, value: Any, within_s: float) -> None:
        """Hand over a message. Raises `_EndedError`."""
        until = time.monotonic() + within_s
        data = msgspec.msgpack.encode(value, enc_hook=str)
        rest = memoryview(_LENGTH.pack(len(data)) + data)
        while rest:
            _, ready, _ = select.select([], [self._asks], [], max(0.0, until - time.monotonic()))
            if not ready:
                raise _EndedError(f"took longer than {within_s:g} s")
            try:
                rest = rest[os.write(self._asks, rest) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                return  # its last answer says why

    def answer(self, within_s: float) -> list[Any]:
        """Return the next answer. Raises `_EndedError`."""
        until = time.monotonic() + within_s
        while True:
            if len(self._buffer) >= _LENGTH.size:
                end = _LENGTH.size + _LENGTH.unpack_from(self._buffer)[0]
                if len(self._buffer) >= end:
                    found: list[Any] = msgspec.msgpack.decode(bytes(self._buffer[_LENGTH.size : end]))
                    del self._buffer[:end]
                    if found[0] == "ended":
                        raise _EndedError(f"{found[1]}, which no function may do")
                    return found
            ready, _, _ = select.select([self._answers], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                raise _EndedError(f"took longer than {within_s:g} s")
            piece = os.read(self._answers, 1 << 16)
            if not piece:
                raise _EndedError("ended its process, which no function may do")
            self._buffer += piece


def _end(process: subprocess.Popen[bytes], fds: tuple[int, ...]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # it leads the group, and is there until it has been waited for
    for fd in fds:
        os.close(fd)
    process.wait()


def _log_lines(lines: IO[bytes], name: str) -> None:
    """Log what a function prints, so that it fills no pipe and reaches no terminal as it is."""
    with lines, contextlib.suppress(OSError, ValueError):
        while line := lines.readline(_LONGEST_LINE):
            _logger.info("%s prints: %s", name, line.decode(errors="replace").rstrip("\n"))
