"""A question is asked only if somebody can answer, and never waits forever."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from tests.killing import write_rows
from tests.polling import WITHIN_S, wait_readable

ASK = "import sys; from batchmix.cli.confirm import confirmed; print(confirmed('Go on?', float(sys.argv[1])))"


class Terminal:
    """A terminal with a program running in it."""

    def __init__(self, *call: str, **env: str) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            call, stdin=slave, stderr=slave, stdout=subprocess.PIPE, start_new_session=True, text=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0), env=os.environ | env,
        )  # fmt: skip
        os.close(slave)
        self.shown = ""

    def until(self, words: str) -> None:
        """Read the output until this text appears."""
        while words not in self.shown:
            self._read()

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def ended(self) -> tuple[int, str]:
        """Wait for the program to exit; return its exit code and standard output."""
        out, _ = self.process.communicate(timeout=WITHIN_S)
        with contextlib.suppress(OSError):  # Linux raises this once no process has it open
            while self._read():
                pass
        os.close(self._master)
        return self.process.returncode, out

    def _read(self) -> str:
        wait_readable(self._master)
        piece = os.read(self._master, 4096).decode()
        self.shown += piece
        return piece


@pytest.mark.parametrize(
    ("typed", "answer"),
    [(["yes\n"], "True"), (["Y\n"], "True"), (["what?\n", "y\n"], "True"), (["\n"], "False"), (["\x04"], "False")],
)
def test_a_typed_answer_is_accepted(typed: list[str], answer: str) -> None:
    terminal = Terminal(sys.executable, "-c", ASK, "60")
    for number, text in enumerate(typed, 1):
        terminal.until("Go on? [y/N]: " + "".join(typed[: number - 1]).replace("\n", "\r\n") * (number > 1))
        terminal.type(text)
    assert terminal.ended() == (0, answer + "\n")


def test_no_answer_in_time_means_no() -> None:
    terminal = Terminal(sys.executable, "-c", ASK, "0.2")
    assert terminal.ended() == (0, "False\n")
    assert "no answer" in terminal.shown


def test_a_background_job_asks_no_question_and_is_not_suspended() -> None:
    terminal = Terminal("bash", "-mc", f'{sys.executable} -c "$0" 60 & wait $!', ASK)
    assert terminal.ended() == (0, "False\n")
    assert "Go on?" not in terminal.shown


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_wait(number: int) -> None:
    terminal = Terminal(
        sys.executable, "-c", f"import signal\nsignal.signal({number:d}, signal.default_int_handler)\n{ASK}", "60"
    )
    terminal.until("Go on?")
    terminal.process.send_signal(number)
    assert terminal.ended()[0] != 0
    assert "KeyboardInterrupt" in terminal.shown


def test_a_signal_that_interrupts_no_system_call_ends_the_wait() -> None:
    """A signal just before the wait, or one that another thread receives, does not interrupt `select`."""
    ends = (
        "import signal, threading\nsignal.signal(signal.SIGTERM, signal.default_int_handler)\n"
        "def end(): input_is_awaited.wait(); signal.pthread_kill(threading.get_ident(), signal.SIGTERM)\n"
        "input_is_awaited = threading.Event(); threading.Thread(target=end).start()\n"
        "import select; real = select.select\n"
        "select.select = lambda *a: input_is_awaited.set() or real(*a)\n"
    )
    terminal = Terminal(sys.executable, "-c", ends + ASK, "60")
    assert terminal.ended()[0] != 0
    assert "KeyboardInterrupt" in terminal.shown


@pytest.fixture
def call(tmp_path: Path) -> list[str]:
    write_rows(tmp_path / "rows.jsonl", 40)
    return [
        sys.executable, "-m", "batchmix", "run", str(tmp_path / "rows.jsonl"), "--model", "m", "--canary", "10",
        "--base-url", "rehearsal:", "--prompt", "{{ text }}", "--out", str(tmp_path / "run"),
    ]  # fmt: skip


def test_a_canary_continues_with_a_yes_and_explains_how_to_skip_the_question(call: list[str]) -> None:
    closed = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", *call, "--progress", "none"], capture_output=True, text=True, check=False
    )
    assert closed.returncode == 3
    assert f"batchmix run {call[4]}" in closed.stderr
    assert "--progress none --yes" in closed.stderr
    terminal = Terminal(*call, "--progress", "none")
    terminal.until("Send the rest? [y/N]: ")
    terminal.type("y\n")
    assert terminal.ended()[0] == 0


def test_an_interrupt_at_the_question_is_reported_on_its_own_line(call: list[str]) -> None:
    terminal = Terminal(*call, "--progress", "none")
    terminal.until("Send the rest? [y/N]: ")
    terminal.type("\x03")
    assert terminal.ended()[0] == 130
    assert "\r\nbatchmix: interrupted by SIGINT" in terminal.shown
