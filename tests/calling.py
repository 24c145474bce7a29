"""Run the command-line program, in its own process or in this one."""

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
from tests import forking

MARKER = "sk-MARKER-9f8e7d6c5b4a"
"""A key that must appear nowhere."""


def batchmix(
    *call: str, stdin: str | None = None, cwd: Path | None = None, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run the program in its own process; its environment has no key unless `env` has one."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AIHUBMIX")}
    clean |= {"https_proxy": "http://127.0.0.1:9"}  # nothing leaves this machine
    return forking.run([sys.executable, "-m", "batchmix", *call], stdin or "", cwd=cwd, env=clean | env)


def called(monkeypatch: pytest.MonkeyPatch, *call: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the program in this process, which is faster; its output is captured as text, without a terminal."""
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


def refused(done: subprocess.CompletedProcess[str], *texts: str) -> None:
    """Check that a call ended with exit code 2 and a message that contains these texts."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    for text in texts:
        assert text in done.stderr
