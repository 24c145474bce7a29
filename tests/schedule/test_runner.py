"""The scheduler as a process: killed at any moment, stopped, started twice; real runs against the stand-in provider."""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from batchmix.store.lock import take_lock
from tests.polling import wait_until
from tests.schedule.conftest import Nightly

READ = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_bytes(sys.stdin.buffer.read())"


def listener(root: Path) -> tuple[Path, list[str]]:
    """Return a named pipe, and a command that writes its input to it."""
    path = root / "told"
    os.mkfifo(path)
    return path, [sys.executable, "-c", READ, str(path)]


def test_a_scheduled_run_runs_once_and_in_its_own_folder(nightly: Nightly) -> None:
    job = nightly.write()
    done = nightly.once("2026-03-10T01:31:00Z", job)
    assert done.returncode == 0, done.stderr
    assert nightly.ends() == [("2026-03-10", 0)]
    assert sorted(nightly.standin.prompts()) == sorted(nightly.prompts())
    assert nightly.once("2026-03-11T01:29:00Z", job).returncode == 0
    assert nightly.once("2026-03-11T01:30:00Z", job).returncode == 0
    assert nightly.ends() == [("2026-03-10", 0), ("2026-03-11", 0)]
    assert nightly.standin.request_count() == 2 * nightly.rows
    assert [nightly.run_json(night)["starts"][-1]["exit_code"] for night in ("2026-03-10", "2026-03-11")] == [0, 0]


def test_no_scheduled_run_is_lost_repeated_or_paid_twice_after_random_kills(nightly: Nightly) -> None:
    """Across a skipped hour; a run whose scheduler was killed drains, and is resumed."""
    nightly.rows = 20
    rng, job = random.Random(7), nightly.write()
    nightly.standin.behave("latency=0.05-0.15")
    kills = 0
    for day in (29, 30):
        while True:
            process = subprocess.Popen(nightly.call(f"2026-03-{day}T06:00:00Z", job), stdout=subprocess.DEVNULL)
            try:
                assert process.wait(rng.uniform(0.2, 1.8) + kills / 20) == 0
                break
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                kills += 1
    assert 3 <= kills < 100
    assert nightly.ends() == [(f"2026-03-{day}", 0) for day in (29, 30)]
    assert len(nightly.nights()) == 2
    assert sorted(nightly.standin.prompts()) == sorted(nightly.prompts() * 2)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_drains_the_run_and_the_next_start_resumes_it(number: signal.Signals, nightly: Nightly) -> None:
    job = nightly.write()
    nightly.standin.behave("latency=0.2")
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
    process = subprocess.Popen(nightly.call("2026-03-10T06:00:00Z", job), stdout=subprocess.DEVNULL)
    signal.signal(signal.SIGHUP, before)
    _sending(nightly)
    process.send_signal(number)
    assert process.wait() == 128 + number
    [night] = nightly.nights()
    assert (night["ended_at"], night["exit_code"], night["deaths"]) == (None, 128 + number, 0)
    assert nightly.run_json("2026-03-10")["starts"][-1]["exit_code"] == 128 + number
    nightly.standin.behave("")
    assert nightly.once("2026-03-12T06:00:00Z", job).returncode == 0
    assert nightly.ends() == [("2026-03-10", 0), ("2026-03-12", 0)]
    assert sorted(nightly.standin.prompts()) == sorted(nightly.prompts() * 2)


def test_a_killed_scheduler_leaves_no_run_process_behind(nightly: Nightly) -> None:
    job = nightly.write()
    nightly.standin.behave("latency=0.2")
    process = subprocess.Popen(nightly.call("2026-03-10T06:00:00Z", job), stdout=subprocess.DEVNULL)
    _sending(nightly)
    process.kill()
    process.wait()
    os.close(take_lock(nightly.root / "runs/nightly/2026-03-10/lock", "the run", wait=True))
    assert nightly.run_json("2026-03-10")["starts"][-1]["exit_code"] == 143
    assert nightly.standin.request_count() < nightly.rows


def test_a_killed_run_is_resumed_at_once(nightly: Nightly) -> None:
    job = nightly.write()
    nightly.standin.behave("latency=0.2")
    process = subprocess.Popen(nightly.call("2026-03-10T06:00:00Z", job), stdout=subprocess.DEVNULL)
    _sending(nightly)
    os.kill(nightly.run_json("2026-03-10")["starts"][-1]["pid"], signal.SIGKILL)
    assert process.wait() == 0
    [night] = nightly.nights()
    assert (night["exit_code"], night["starts"], night["deaths"]) == (0, 2, 1)


def test_a_scheduled_run_that_could_not_begin_is_started_later(nightly: Nightly) -> None:
    """A limit on file sizes stands in for a full disk."""
    nightly.rows = 3
    job = nightly.write()
    rows = b"".join(json.dumps({"text": f"question {n}", "more": "x" * 1_000_000}).encode() + b"\n" for n in range(3))
    (nightly.root / "rows.jsonl.gz").write_bytes(gzip.compress(rows))
    job.write_text(job.read_text().replace("rows.jsonl", "rows.jsonl.gz"))
    call = nightly.call("2026-03-10T06:00:00Z", job)
    limited = ["sh", "-c", 'ulimit -f 1024; exec "$@"', "sh", *call]
    assert subprocess.run(limited, check=False, capture_output=True).returncode == 3
    [night] = nightly.nights()
    assert (night["ended_at"], night["exit_code"], night["on_finish"]) == (None, 3, None)
    assert not (nightly.root / "runs").exists()
    assert nightly.once("2026-03-10T07:00:00Z", job).returncode == 0
    assert nightly.ends() == [("2026-03-10", 0)]
    assert nightly.standin.request_count() == 3


def test_the_scheduler_keeps_waiting_until_a_signal_ends_it(nightly: Nightly) -> None:
    """The scheduled time is a second after the start; then nothing is due any more."""
    told, command = listener(nightly.root)
    job = nightly.write(on_finish=command)
    process = subprocess.Popen(nightly.call("2026-03-10T01:29:59Z", job, mode="on"), stdout=subprocess.DEVNULL)
    heard = json.loads(told.read_bytes())
    assert (heard["job"], heard["night"], heard["exit_code"], heard["ok"]) == ("nightly", "2026-03-10", 0, nightly.rows)
    process.terminate()
    assert process.wait() == 143
    assert nightly.ends() == [("2026-03-10", 0)]


def test_a_first_start_waits_for_its_first_scheduled_time(nightly: Nightly) -> None:
    call = nightly.call("2026-03-10T06:00:00Z", nightly.write(), mode="on")
    with subprocess.Popen(call, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "nightly: the next run is due at 2026-03-11 02:30:00+01:00\n"
        process.terminate()
        assert process.wait() == 143
    assert nightly.nights() == []
    assert nightly.standin.request_count() == 0


def test_a_second_scheduler_names_the_process_of_the_first(nightly: Nightly) -> None:
    told, command = listener(nightly.root)
    job, other = nightly.write(on_finish=command), nightly.write("other")
    process = subprocess.Popen(nightly.call("2026-03-10T01:29:59Z", job, mode="on"), stdout=subprocess.DEVNULL)
    told.read_bytes()
    second = nightly.once("2026-03-10T06:00:00Z", job)
    assert second.returncode == 2
    assert f"process {process.pid} on" in second.stderr
    assert nightly.once("2026-03-10T06:00:00Z", other).returncode == 0
    process.terminate()
    assert process.wait() == 143


def test_two_jobs_run_side_by_side_and_the_worst_exit_code_is_returned(nightly: Nightly) -> None:
    good, bad = nightly.write("good"), nightly.write("bad", more="[retry]\nattempts = 1\n")
    bad.write_text(bad.read_text().replace("Say {{ text }}", "Say {{ no_such_column }}"))
    assert nightly.once("2026-03-10T06:00:00Z", good, bad).returncode == 2
    assert (nightly.ends("good"), nightly.ends("bad")) == ([("2026-03-10", 0)], [("2026-03-10", 2)])


def test_a_job_file_that_became_invalid_is_a_scheduled_run_with_exit_code_2(nightly: Nightly) -> None:
    told, command = listener(nightly.root)
    job = nightly.write(on_finish=command)
    process = subprocess.Popen(nightly.call("2026-03-10T01:29:58Z", job, mode="on"), stdout=subprocess.DEVNULL)
    wait_until((nightly.state / "nightly.json").exists)  # by then it has read the job
    job.write_text("nonsense")
    heard = json.loads(told.read_bytes())
    process.terminate()
    process.wait()
    assert heard == {
        "job": "nightly",
        "night": "2026-03-10",
        "due": "2026-03-10T02:30:00+01:00",
        "exit_code": 2,
        "folder": "",
    }


def test_on_finish_receives_the_summary_with_the_scheduled_date(nightly: Nightly) -> None:
    told = nightly.root / "told.json"
    job = nightly.write(on_finish=[sys.executable, "-c", READ, str(told)])
    assert nightly.once("2026-03-10T06:00:00Z", job).returncode == 0
    folder = nightly.root / "runs/nightly/2026-03-10"
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    night = {
        "job": "nightly",
        "night": "2026-03-10",
        "due": "2026-03-10T02:30:00+01:00",
        "exit_code": 0,
        "folder": str(folder),
    }
    assert json.loads(told.read_bytes()) == summary | night
    assert nightly.nights()[-1]["on_finish"] == "ok"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["/no/such/command"], "can't be started: No such file"),
        ([sys.executable, "-c", "raise SystemExit(5)"], "exit code 5"),
        (["bad\x00name"], "can't be started"),
    ],
)
def test_a_failed_on_finish_is_reported_and_recorded_and_the_run_is_finished(
    command: list[str], words: str, nightly: Nightly
) -> None:
    done = nightly.once("2026-03-10T06:00:00Z", nightly.write(on_finish=command))
    assert done.returncode == 0
    assert words in done.stdout
    assert words in nightly.nights()[-1]["on_finish"]
    assert nightly.ends() == [("2026-03-10", 0)]


def test_an_unreported_scheduled_run_is_reported_by_the_next_start(nightly: Nightly) -> None:
    """The scheduler was killed while the command ran."""
    told, command = listener(nightly.root)
    job = nightly.write(on_finish=command)
    process = subprocess.Popen(nightly.call("2026-03-10T06:00:00Z", job), stdout=subprocess.DEVNULL)
    with told.open("rb") as pipe:
        process.kill()
        process.wait()
        pipe.read()
    [night] = nightly.nights()
    assert night["on_finish"] is None
    again = subprocess.Popen(nightly.call("2026-03-10T06:00:00Z", job), stdout=subprocess.DEVNULL)
    assert json.loads(told.read_bytes())["night"] == "2026-03-10"
    assert again.wait() == 0
    assert nightly.nights()[-1]["on_finish"] == "ok"
    assert nightly.nights()[-1]["starts"] == 1


def _sending(nightly: Nightly) -> None:
    """Return once the provider has received a request."""
    wait_until(nightly.standin.request_count)
