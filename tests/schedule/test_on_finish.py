"""The `on_finish` command: limited in time, together with its children, and its failure stops nothing."""

from __future__ import annotations

import contextlib
import datetime
import http.server
import json
import os
import select
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchmix.job.cron import Schedule
from batchmix.schedule.finish_message import slack_text
from batchmix.schedule.on_finish import run_on_finish, tell
from batchmix.schedule.state import ScheduledRun
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


@contextlib.contextmanager
def webhook(*statuses: int) -> Iterator[tuple[str, list[bytes]]]:
    """Serve these statuses one after the other, the last for ever; yield the address and the bodies that it got."""
    received: list[bytes] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(statuses[min(len(received), len(statuses)) - 1])
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/secret-path", received
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def night(exit_code: int) -> ScheduledRun:
    now = datetime.datetime(2026, 3, 10, 2, 30, tzinfo=datetime.UTC)
    return ScheduledRun(now.date(), now, "", now, exit_code=exit_code, ended_at=now)


@pytest.mark.parametrize(
    ("statuses", "requests", "result"),
    [
        ((200,), 1, "ok"),
        ((204,), 1, "ok"),
        ((503, 429, 200), 3, "ok"),
        ((500,), 3, "the address answered with HTTP status 500"),
        ((404,), 1, "the address answered with HTTP status 404"),
        ((302, 200), 1, "the address answered with HTTP status 302"),  # who gets the message is the user's choice
    ],
)
async def test_an_address_gets_the_message_and_gets_it_again_if_it_fails_for_a_while(
    statuses: tuple[int, ...], requests: int, result: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batchmix.schedule.on_finish._WAITS_S", (0.0, 0.0))
    with webhook(*statuses) as (url, received):
        schedule = Schedule("30 2 * * *", on_finish="env:HOOK")
        assert await tell(schedule, "nightly", night(0), {"HOOK": url}) == result
    assert len(received) == requests
    assert {json.loads(body)["job"] for body in received} == {"nightly"}


async def test_no_error_shows_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchmix.schedule.on_finish._WAITS_S", (0.0, 0.0))
    with webhook(200) as (url, _):
        pass
    for address in (url, "http://[::1/secret-path", "https://secret-path\x00.invalid/"):
        result = await tell(Schedule("30 2 * * *", on_finish="env:HOOK"), "nightly", night(0), {"HOOK": address})
        assert result not in {"", "ok"}
        assert "secret-path" not in result


async def test_only_failures_are_told_of_if_the_job_says_so() -> None:
    schedule = Schedule("30 2 * * *", on_finish_when="failed", on_finish="env:HOOK")
    with webhook(200) as (url, received):
        assert await tell(schedule, "nightly", night(0), {"HOOK": url}) == ""
        assert received == []
        assert await tell(schedule, "nightly", night(1), {"HOOK": url}) == "ok"
    [body] = received
    assert json.loads(body)["passed"] is False


async def test_a_message_for_slack_is_one_escaped_text() -> None:
    schedule = Schedule("30 2 * * *", on_finish_format="slack", on_finish="env:HOOK")
    with webhook(200) as (url, received):
        assert await tell(schedule, "<nightly> & co", night(3), {"HOOK": url}) == "ok"
    [body] = received
    message = json.loads(body)
    assert list(message) == ["text"]
    assert message["text"].startswith("&lt;nightly&gt; &amp; co, 2026-03-10: failed (exit code 3)\n")


def test_a_text_for_slack_has_reasons_scores_baseline_and_report() -> None:
    message = {
        "job": "nightly",
        "night": "2026-03-10",
        "exit_code": 1,
        "passed": False,
        "reasons": [f"reason {number}" for number in range(22)],
        "scores": [{"model": "m", "scorer": "choice", "score": 0.5, "before": 0.75}],
        "baseline": {"run": "2026-03-09", "how": "last-good", "note": ""},
        "report": "/runs/nightly/report.html",
        "folder": "/runs/nightly",
    }
    assert slack_text(message).splitlines() == [
        "nightly, 2026-03-10: failed (exit code 1)",
        *(f"• reason {number}" for number in range(20)),
        "• and 2 more",
        "choice of m: 0.500 (before: 0.750)",
        "compared with 2026-03-09 (last-good)",
        "report: /runs/nightly/report.html",
    ]
