"""Start the program, or a module of the tests, in a process of its own that has its libraries already.

Importing them takes half a second of CPU, longer than most calls of the tests. So `python -m tests.forking` imports them
once, and forks for each call; the fork runs the module to its end as `python -m` does.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib.util
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import batchmix

LAZY = [
    "click._textwrap",
    "dateutil.relativedelta",
    "encodings.idna",
    "encodings.utf_8_sig",
    "numpy.ma",
    "pyarrow.csv",
    "pyarrow.parquet",
    "rapidfuzz.process",
    "stringprep",
    "tenacity",
    "uvloop",
]
"""What the package, and the libraries that it uses, import only once they need it, and only if it is there."""
_REQUEST_BYTES = 1 << 20


class Fork:
    """`python -m MODULE …`, used like a `subprocess.Popen` whose standard streams are three files or nothing."""

    def __init__(
        self,
        call: list[str],
        files: list[IO[Any]] | None = None,
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        assert call[:2] == [sys.executable, "-m"]
        self.returncode: int | None = None
        request = {"call": call[2:], "cwd": str(cwd or Path.cwd()), "env": dict(os.environ if env is None else env)}
        mine, theirs = os.pipe()
        self._reply = os.fdopen(mine)
        with Path(os.devnull).open("r+") as null, os.fdopen(theirs, "w") as reply:
            fds = [file.fileno() for file in (*(files or [null] * 3), reply)]
            socket.send_fds(_server(), [json.dumps(request).encode()], fds)
        self.pid = int(self._reply.readline())

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code once the process has ended. Raises `subprocess.TimeoutExpired`."""
        if self.returncode is None:
            if not select.select([self._reply], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            with self._reply:
                self.returncode = int(self._reply.readline())
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal to the process, which must not have ended."""
        os.kill(self.pid, number)

    def poll(self) -> int | None:
        """Return the exit code, or None while the process runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode


def run(call: list[str], stdin: str = "", **more: Any) -> subprocess.CompletedProcess[str]:
    """Run a call to its end, and return its exit code and what it wrote, as `subprocess.run` does."""
    reading, writing = os.pipe()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        with os.fdopen(reading) as piped, os.fdopen(writing, "w") as pipe:
            fork = Fork(call, [piped, out, err], **more)
            piped.close()
            with contextlib.suppress(BrokenPipeError), pipe:  # not every call reads it
                pipe.write(stdin)
        code = fork.wait()
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(call, code, out.read(), err.read())


@functools.cache
def _server() -> socket.socket:
    """Start the process that forks, and return the socket by which it is told to."""
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.forking", str(theirs.fileno())], pass_fds=[theirs.fileno()]
        )

    def end() -> None:
        mine.close()
        server.wait()

    atexit.register(end)
    return mine


def _serve(control: socket.socket) -> str:
    """Fork for each request until the socket is closed. Returns, in each fork, the name of the module to run."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    watching: list[int] = []
    while True:
        data, fds, _, _ = socket.recv_fds(control, _REQUEST_BYTES, 4)
        watching = [pid for pid in watching if not os.waitpid(pid, os.WNOHANG)[0]]
        if not data:
            sys.exit()
        if not (pid := os.fork()):
            control.close()
            _watch(fds[3])
            return _become(json.loads(data), fds)
        watching.append(pid)
        for fd in fds:
            os.close(fd)


def _watch(reply: int) -> None:
    """Fork, return in the fork, and stay behind to tell its process ID and its exit code."""
    if pid := os.fork():
        os.closerange(0, reply)
        os.write(reply, b"%d\n" % pid)
        _, status = os.waitpid(pid, 0)
        os.write(reply, b"%d\n" % os.waitstatus_to_exitcode(status))
        os._exit(0)


def _become(request: dict[str, Any], fds: list[int]) -> str:
    """Make this process what a new one would be, and return the name of the module to run."""
    for number, fd in enumerate(fds[:3]):
        os.dup2(fd, number)
    for fd in fds:
        os.close(fd)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.path[0] = request["cwd"]
    module, *sys.argv[1:] = request["call"]
    return str(module)


def _import() -> None:
    for found in pkgutil.walk_packages(batchmix.__path__, "batchmix."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
    for library in LAZY:
        if importlib.util.find_spec(library.partition(".")[0]):
            importlib.import_module(library)
    gc.freeze()  # otherwise a collection copies all of it in each fork


if __name__ == "__main__":
    _import()
    runpy.run_module(_serve(socket.socket(fileno=int(sys.argv[1]))), run_name="__main__", alter_sys=True)
