"""Tells how a scheduled run ended: runs the command of `on_finish`, or posts to its address."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Mapping

from batchmix.errors import JobError
from batchmix.formats.lenient_json import finite
from batchmix.job.cron import Schedule
from batchmix.schedule.finish_message import message_of, slack_text
from batchmix.schedule.jobs import address_of
from batchmix.schedule.state import ScheduledRun

ON_FINISH_S = 60.0
"""The most seconds that `on_finish` may take. A command is then killed with all processes that it started."""
_POST_S = 15.0
"""The most seconds that one request may take."""
_WAITS_S = (1.0, 5.0)
"""The seconds before a second and a third request, if there was no response or one that may pass."""
_PASSING = frozenset({408, 425, 429}) | frozenset(range(500, 600))


async def tell(schedule: Schedule, name: str, run: ScheduledRun, environ: Mapping[str, str] = os.environ) -> str:
    """Tell of a run that is over. Return `ok`, an error text, or nothing if there is nobody to tell.

    Raises nothing. No text shows the address, which may be a secret.
    """
    if not schedule.on_finish or (schedule.on_finish_when == "failed" and run.exit_code == 0):
        return ""
    content = message_of(name, run)
    if schedule.on_finish_format == "slack":
        content = {"text": slack_text(content)}
    message = json.dumps(finite(content), allow_nan=False).encode() + b"\n"
    if not isinstance(schedule.on_finish, str):
        return await run_on_finish(schedule.on_finish, message)
    try:
        return await _posted(address_of(schedule, environ), message)
    except JobError as error:
        return str(error)


async def _posted(url: str, message: bytes) -> str:
    """Post a message, again if the failure may pass. Return `ok` or an error text."""
    from batchmix.http.get import FetchError
    from batchmix.http.post import post

    result = ""
    for wait_s in (0.0, *_WAITS_S):
        await asyncio.sleep(wait_s)
        try:
            status = await post(url, message, _POST_S)
        except FetchError as error:
            result = f"the address gave {error}"
            continue
        if 200 <= status < 300:
            return "ok"
        result = f"the address answered with HTTP status {status}"
        if status not in _PASSING:
            break
    return result


async def run_on_finish(command: tuple[str, ...], message: bytes, timeout_s: float = ON_FINISH_S) -> str:
    """Run a command with a message on its standard input. Returns `ok` or an error text, and raises nothing."""
    try:
        process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE, start_new_session=True)
    except (OSError, ValueError) as error:
        return f"{command[0]} can't be started: {getattr(error, 'strerror', None) or error}"
    try:
        await asyncio.wait_for(process.communicate(message), timeout_s)
    except TimeoutError:
        return f"{command[0]} took more than {timeout_s:g} s and was killed"
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with all that it started
            await process.wait()
    return "ok" if process.returncode == 0 else f"{command[0]} ended with exit code {process.returncode}"
