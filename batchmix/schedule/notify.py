"""Telling a job's `on_finish` command of a night that is over."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from pathlib import Path
from typing import Any

from batchmix.schedule.due import Night
from batchmix.store.run_folder import Layout

TELLING_S = 60.0
"""The most time the command may take; then it is killed with all that it started."""


def message(name: str, night: Night) -> bytes:
    """Return what the command reads: one JSON object, `summary.json` with what the schedule knows of the night.

    `job`, `night` (its date), `due`, `exit_code` and `folder` are always there; the rest only where the run has begun.
    """
    known: dict[str, Any] = {
        "job": name,
        "night": night.night.isoformat(),
        "due": night.due.isoformat(),
        "exit_code": night.exit_code,
        "folder": night.folder,
    }
    return json.dumps({**_summary(night.folder), **known}).encode() + b"\n"


def _summary(folder: str) -> dict[str, Any]:
    try:
        summary = json.loads(Layout(Path(folder)).summary_json.read_bytes()) if folder else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return summary if isinstance(summary, dict) else {}


async def tell(command: tuple[str, ...], told: bytes, most_s: float = TELLING_S) -> str:
    """Run a command with this on its standard input; return `ok`, or in words how it failed. Never raises for it."""
    try:
        process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE, start_new_session=True)
    except (OSError, ValueError) as error:
        return f"{command[0]} can't be started: {getattr(error, 'strerror', None) or error}"
    try:
        await asyncio.wait_for(process.communicate(told), most_s)
    except TimeoutError:
        return f"{command[0]} took more than {most_s:g} s and was killed"
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with all that it started
            await process.wait()
    return "ok" if process.returncode == 0 else f"{command[0]} ended with exit code {process.returncode}"
