"""The program, called as a person calls it."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from batchmix.cli import main

MARKER = "sk-MARKER-9f8e7d6c5b4a"
"""A key that must be seen nowhere."""


def batchmix(
    *call: str, stdin: str | None = None, cwd: Path | None = None, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run the program; its environment has no key unless one is given."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AIHUBMIX")}
    clean |= {"https_proxy": "http://127.0.0.1:9"}  # nothing leaves this machine
    return subprocess.run(
        [sys.executable, "-m", "batchmix", *call],
        capture_output=True, text=True, input=stdin if stdin is not None else "", cwd=cwd, env=clean | env, check=False,
    )  # fmt: skip


def called(monkeypatch: pytest.MonkeyPatch, *call: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the program within this process, which is faster; nothing that is said is looked at but by its lines."""
    out, err = io.StringIO(), io.StringIO()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    monkeypatch.setattr(sys, "argv", ["batchmix", *call])
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
            main()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert isinstance(ended.value.code, int)
    return subprocess.CompletedProcess(call, ended.value.code, out.getvalue(), err.getvalue())


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """Hold a call to a clear message and exit code 2."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr
