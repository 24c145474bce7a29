"""Calls a user's own scoring function (kind `own`) in a separate process, which can be killed if the function hangs."""

from __future__ import annotations

import contextlib
import logging
import os
import re
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
from batchmix.scorers.indirect import Custom
from batchmix.scorers.settings import MAX_SCORE, Row, Score, target_text

_logger = logging.getLogger(__name__)
_PROGRAM = Path(__file__).with_name("custom_process.py")
_LENGTH = struct.Struct("<I")
_IMPORT_S = 120.0
"""Seconds that the import of the user's module may take."""
_BATCH = 256
"""The number of answers that are sent to the process at once."""
_MAX_KILLS = 10
"""The number of time-outs and crashes after which the function is no longer called."""
_MAX_LINE = 2_000
"""The most characters of a line of the function's output that are logged."""

ScorerCall = tuple[str, Any, Mapping[str, Any]]
"""The arguments of one call of the function: an answer, its target and its row."""
CustomScore = tuple[float | None, str | None]
"""A score and its explanation. If the score is None, the explanation says why."""


class CustomFunction:
    """A user's function, called in a separate process. Raises `JobError` if the function can't be imported."""

    def __init__(self, config: Custom, folder: Path) -> None:
        self._config = config
        self._paths = [str(folder.resolve()), *sys.path]
        self._kills = 0
        self._process: _Process | None = None
        self.code = ""
        """A digest of the file with the function, as it was imported last. Empty if it has none."""
        try:
            self._start()
        except _ProcessEnded as error:
            raise JobError(f"eval.scorers: {config.name}: can't import {config.python}: {error}") from None

    def scores(self, calls: Sequence[ScorerCall]) -> list[CustomScore]:
        """Return a score for each call."""
        scores: list[CustomScore] = []
        while len(scores) < len(calls):
            if self._kills >= _MAX_KILLS:
                reason = f"{self._config.python}: failed {self._kills} times, and is not called any more"
                scores += [(None, reason)] * (len(calls) - len(scores))
                break
            scores += self._first_scores(calls[len(scores) : len(scores) + _BATCH])
        return scores

    def _first_scores(self, calls: Sequence[ScorerCall]) -> Iterator[CustomScore]:
        """Yield scores in order. If the process ends, the current answer gets None, and the rest get no score."""
        try:
            if self._process is None:
                self._start()
            process = self._process
            assert process is not None
            process.send(calls, self._config.timeout_s)
            for _ in calls:
                outcome, *values = process.receive(self._config.timeout_s)
                if outcome == "scored" and abs(values[0] or 0.0) > MAX_SCORE:
                    outcome, values = "failed", [f"{values[0]:g} is no score: its size is above {MAX_SCORE:g}"]
                yield (values[0], values[1]) if outcome == "scored" else (None, f"{self._config.python}: {values[0]}")
        except _ProcessEnded as error:
            self._stop()
            self._kills += 1
            if self._kills == _MAX_KILLS:
                _logger.warning("%s: failed %d times, and is not called any more", self._config.python, self._kills)
            yield None, f"{self._config.python}: {error}"

    def _start(self) -> None:
        self._process = _Process(self._config.python)
        self._process.send([self._paths, self._config.python], _IMPORT_S)
        outcome, *values = self._process.receive(_IMPORT_S)
        if outcome != "ready":
            self._stop()
            raise _ProcessEnded(values[0])
        self.code = values[0]

    def _stop(self) -> None:
        if self._process:
            self._process.close()
        self._process = None


class _ProcessEnded(Exception):
    """The function took too long, or its process ended."""


class _Process:
    """A process that runs one function. It is killed when this object is closed or deleted, or when batchmix ends."""

    def __init__(self, name: str) -> None:
        calls, self._calls = os.pipe()
        self._scores, scores = os.pipe()
        life, self._life = os.pipe()
        child_fds = (calls, scores, life)
        try:
            call = [sys.executable, "-P", str(_PROGRAM), *map(str, child_fds)]
            process = subprocess.Popen(  # noqa: S603 - Python, and a program of our own
                call, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, pass_fds=child_fds,
                start_new_session=True,
            )  # fmt: skip
        finally:
            for fd in child_fds:
                os.close(fd)
        self.group = process.pid
        """The id of the process group, which includes all processes that the function starts."""
        os.set_blocking(self._calls, False)
        self._buffer = bytearray()
        assert process.stdout is not None
        threading.Thread(target=_log_lines, args=(process.stdout, name), daemon=True).start()
        self.close = weakref.finalize(self, _end, process, (self._calls, self._scores, self._life))

    def send(self, value: Any, within_s: float) -> None:
        """Send a message. Raises `_ProcessEnded` if it can't be sent in time."""
        until = time.monotonic() + within_s
        data = msgspec.msgpack.encode(value, enc_hook=str)
        rest = memoryview(_LENGTH.pack(len(data)) + data)
        while rest:
            _, ready, _ = select.select([], [self._calls], [], max(0.0, until - time.monotonic()))
            if not ready:
                raise _ProcessEnded(f"took longer than {within_s:g} s")
            try:
                rest = rest[os.write(self._calls, rest) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                return  # the process has ended; `receive` gets its last message, which has the reason

    def receive(self, within_s: float) -> list[Any]:
        """Return the next message. Raises `_ProcessEnded` if none arrives in time, or if the process has ended."""
        until = time.monotonic() + within_s
        while True:
            if len(self._buffer) >= _LENGTH.size:
                end = _LENGTH.size + _LENGTH.unpack_from(self._buffer)[0]
                if len(self._buffer) >= end:
                    message: list[Any] = msgspec.msgpack.decode(bytes(self._buffer[_LENGTH.size : end]))
                    del self._buffer[:end]
                    if message[0] == "ended":
                        raise _ProcessEnded(f"{message[1]}, which no function may do")
                    return message
            ready, _, _ = select.select([self._scores], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                raise _ProcessEnded(f"took longer than {within_s:g} s")
            piece = os.read(self._scores, 1 << 16)
            if not piece:
                raise _ProcessEnded("ended its process, which no function may do")
            self._buffer += piece


def _end(process: subprocess.Popen[bytes], fds: tuple[int, ...]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # it leads the group, and its id is taken until wait() below
    for fd in fds:
        os.close(fd)
    process.wait()


def _log_lines(lines: IO[bytes], name: str) -> None:
    """Log what a function prints. Otherwise the pipe might fill up, or escape codes might reach the terminal."""
    with lines, contextlib.suppress(OSError, ValueError):
        while line := lines.readline(_MAX_LINE):
            _logger.info("%s prints: %s", name, line.decode(errors="replace").rstrip("\n"))


class CustomScorer:
    """Scores answers with a user's own function (kind `own`), which runs in a separate process.

    `scores` sends many answers at once, which saves round trips to the process.
    """

    def __init__(self, config: Custom, folder: Path | None) -> None:
        if folder is None:
            raise JobError(
                f"eval.scorers: {config.name} is a function of your own; give the job file, since a run folder names no"
                " code"
            )
        if not re.fullmatch(r"[^:]+:[^:]+", config.python):
            raise JobError(f"eval.scorers: {config.name}: python must be module:function")
        self._function = CustomFunction(config, folder)

    @property
    def code(self) -> str:
        """A digest of the file with the function, which tells whether its code has changed. Empty if it has none."""
        return self._function.code

    def __call__(self, response: str, target: Any, row: Row) -> Score:
        """Score one answer."""
        return self.scores([(response, target, row)])[0]

    def scores(self, calls: Sequence[ScorerCall]) -> list[Score]:
        """Score many answers, each with its target and its row."""
        return [
            Score(number, None if target is None else target_text(target), None, explanation)
            for (number, explanation), (_, target, _) in zip(self._function.scores(calls), calls, strict=True)
        ]
