"""A signal is handled from the start on, is reported, and leaves nothing of a run that had not begun."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from batchmix.engine import send as sending
from batchmix.errors import Stopped
from tests import forking
from tests.calling import batchmix
from tests.conftest import Bench
from tests.killing import command, write_rows

INTERRUPTS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def interrupted(at: str, numbers: list[int], *call: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    module, _, name = at.partition(":")
    listed = ",".join(str(int(number)) for number in numbers)
    return forking.run([sys.executable, "-m", "tests.interrupting", module, name, listed, *call], stdin)


PLACES = [
    "load.jsonl_rows:first_row",
    "engine.shard_comparison:Digests",
    "engine.prepare:PriceLookup",
    "engine.plan:shortage",
    "engine.prepare:BalanceLookup",
]


@pytest.mark.parametrize(
    ("at", "number"), [*zip(PLACES, INTERRUPTS * 2, strict=False), ("load.spool:_write_all", signal.SIGTERM)]
)
def test_a_signal_before_a_run_has_begun_is_reported_and_leaves_nothing(at: str, number: int, tmp_path: Path) -> None:
    call = ("run", "-", "--model", "m", "--base-url", "rehearsal:?balance_usd=1", "--out", str(tmp_path / "some/run"))
    done = interrupted(at, [number], *call, stdin='{"prompt": "a"}\n')
    assert done.returncode == 128 + number, done.stderr
    assert f"interrupted by {signal.Signals(number).name}" in done.stderr
    assert "batchmix run - --model m" in done.stderr
    assert "run.json" not in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_second_signal_ends_the_process_at_once(tmp_path: Path) -> None:
    """Also during the cleanup after the first one; the same command then resumes."""
    write_rows(tmp_path / "rows.jsonl", 2)
    call = command("rehearsal:", tmp_path / "rows.jsonl", tmp_path / "run")[3:]
    done = interrupted(
        "engine.folder_lock:_remove_unbegun", [signal.SIGTERM], *call[:1], str(tmp_path / "none.jsonl"), *call[2:]
    )
    assert done.returncode == 128 + signal.SIGTERM
    done = interrupted("engine.shard_comparison:Digests", [signal.SIGTERM, signal.SIGTERM], *call)
    assert done.returncode in {-signal.SIGTERM, 128 + signal.SIGTERM}
    assert batchmix(*call).returncode == 0


@pytest.mark.parametrize(
    ("at", "words"),
    [("engine.plan:prepare", ["plan", "ROWS"]), ("engine.reader:read_view", ["status", "RUN"]), ("engine.reader:Export", ["export", "RUN", "OUT"]),
     ("reports.report_page:_values", ["report", "RUN"])],
)  # fmt: skip
def test_the_other_commands_report_a_signal_too(at: str, words: list[str], tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", 2)
    call = command("rehearsal:", tmp_path / "rows.jsonl", tmp_path / "run")[3:]
    assert batchmix(*call).returncode == 0
    before = sorted(tmp_path.rglob("*"))
    stand_for = {"RUN": str(tmp_path / "run"), "OUT": str(tmp_path / "out.csv"), "ROWS": call[1]}
    more = call[2:] if words[0] == "plan" else []
    more = [word for word in more if word not in {"--progress", "none"}]
    done = interrupted(at, [signal.SIGTERM], *(stand_for.get(word, word) for word in words), *more)
    assert (done.returncode, done.stderr) == (143, "batchmix: interrupted by SIGTERM\n")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_signal_between_start_and_sending_is_recorded(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", 2)
    call = command("rehearsal:", tmp_path / "rows.jsonl", tmp_path / "run")[3:]
    done = interrupted("engine.send:drop_stale", [signal.SIGHUP], *call)
    assert done.returncode == 129
    assert "not finished" in done.stdout
    start = json.loads((tmp_path / "run/run.json").read_text())["starts"][-1]
    assert (start["exit_code"], start["reason"]) == (129, "interrupted by SIGHUP")


@pytest.mark.parametrize("broken", ["read_view", "precise_now_text"])
def test_an_error_at_the_end_does_not_hide_why_a_run_ended(
    broken: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.write(3)
    bench.standin.behave("balance=1")

    def fails(*_: object) -> None:
        raise OSError(5, "Input/output error")

    real = sending.send

    def send(*args: object) -> None:
        monkeypatch.setattr(f"batchmix.engine.start_record.{broken}", fails)
        real(*args)

    monkeypatch.setattr(sending, "send", send)
    with pytest.raises(Stopped, match="insufficient"):
        bench.run()


def test_a_deadline_before_anything_could_be_sent_leaves_nothing(bench: Bench) -> None:
    bench.write(3)
    bench.settings["timeouts"] = {"job_s": 1e-9}
    with pytest.raises(Stopped, match="deadline"):
        bench.run()
    assert not bench.out.exists()


def test_a_full_disk_before_a_run_has_begun_is_exit_3_and_names_the_disk(tmp_path: Path) -> None:
    """A limit on file sizes stands in for a full disk."""
    out = tmp_path / "run"
    call = [sys.executable, "-m", "batchmix", "run", "-", "--model", "m", "--base-url", "rehearsal:", "--out", str(out)]
    rows = "".join(json.dumps({"prompt": "x" * 1000}) + "\n" for _ in range(1500))
    done = subprocess.run(
        ["sh", "-c", 'ulimit -f 1024; exec "$@"', "sh", *call], input=rows, capture_output=True, text=True, check=False
    )
    assert done.returncode == 3, done.stderr
    assert f"no space left to spool the input in {os.path.relpath(out / 'input')}" in done.stderr.replace(
        str(out / "input"), os.path.relpath(out / "input")
    )
    assert "Traceback" not in done.stderr
    assert not out.exists()


def test_a_run_in_another_thread_installs_no_signal_handlers(bench: Bench) -> None:
    """Handlers cannot be installed there; the run works nevertheless."""
    bench.write(3)
    before = [signal.getsignal(number) for number in INTERRUPTS]
    thread = threading.Thread(target=bench.run)
    thread.start()
    thread.join()
    assert len(bench.rows()) == 3
    assert [signal.getsignal(number) for number in INTERRUPTS] == before


def test_a_closed_pipe_does_not_hide_how_a_run_ended(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", 3)
    call = command("rehearsal:?balance=1", tmp_path / "rows.jsonl", tmp_path / "run", "--concurrency", "1")
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(call, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert done.returncode == 3, done.stderr
    assert "Exception ignored" not in done.stderr
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*call[:3], "status", str(tmp_path / "run")], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (3, "batchmix: the output could not be written: No space left on device\n")
