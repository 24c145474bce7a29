"""The `on_finish` command: limited in time, together with its children, and its failure stops nothing."""

from __future__ import annotations

import os
import select
import sys
from pathlib import Path

from batchmix.schedule.runner import run_on_finish
from tests.polling import WITHIN_S

GROUP = """
import os, signal, subprocess, sys
os.set_inheritable(os.open(sys.argv[1], os.O_WRONLY), True)
subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], close_fds=False)
signal.pause()
"""


async def test_a_command_that_does_not_exit_is_killed_with_its_children(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    result = await run_on_finish((sys.executable, "-c", GROUP, str(pipe)), b"{}", timeout_s=4)
    assert result == f"{sys.executable} took more than 4 s and was killed"
    other_end = select.poll()
    other_end.register(reader, 0)
    assert other_end.poll(WITHIN_S * 1000) == [(reader, select.POLLHUP)]  # no process holds it any more
    os.close(reader)


async def test_a_command_that_does_not_read_its_input_is_no_failure() -> None:
    assert await run_on_finish((sys.executable, "-c", ""), b"x" * 1_000_000) == "ok"


async def test_no_shell_reads_the_arguments(tmp_path: Path) -> None:
    out = tmp_path / "out"
    call = (sys.executable, "-c", "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text(sys.argv[2])", str(out))
    assert await run_on_finish((*call, "$(id) `id`; echo *"), b"") == "ok"
    assert out.read_text() == "$(id) `id`; echo *"
