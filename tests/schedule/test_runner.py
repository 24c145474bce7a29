"""The scheduler as a process: killed at any moment, stopped, started twice; real runs against the stand-in provider."""

from __future__ import annotations

import datetime
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

from batchmix.schedule.finish_message import message_of
from batchmix.schedule.state import ScheduledRun
from batchmix.store.lock import take_lock
from batchmix.store.run_folder import Layout, RunFile, Start
from tests.polling import WITHIN_S, read_pipe, wait_until
from tests.schedule.conftest import ScheduleBench

READ = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_bytes(sys.stdin.buffer.read())"


def listener(root: Path) -> tuple[Path, list[str]]:
    """Return a named pipe, and a command that writes its input to it."""
    path = root / "told"
    os.mkfifo(path)
    return path, [sys.executable, "-c", READ, str(path)]


def test_a_scheduled_run_runs_once_and_in_its_own_folder(schedule_bench: ScheduleBench) -> None:
    job = schedule_bench.write()
    done = schedule_bench.once("2026-03-10T01:31:00Z", job)
    assert done.returncode == 0, done.stderr
    assert schedule_bench.finished_runs() == [("2026-03-10", 0)]
    assert sorted(schedule_bench.standin.prompts()) == sorted(schedule_bench.prompts())
    assert schedule_bench.once("2026-03-11T01:29:00Z", job).returncode == 0
    assert schedule_bench.once("2026-03-11T01:30:00Z", job).returncode == 0
    assert schedule_bench.finished_runs() == [("2026-03-10", 0), ("2026-03-11", 0)]
    assert schedule_bench.standin.request_count() == 2 * schedule_bench.rows
    assert [schedule_bench.run_json(date)["starts"][-1]["exit_code"] for date in ("2026-03-10", "2026-03-11")] == [0, 0]


def test_no_scheduled_run_is_lost_repeated_or_paid_twice_after_random_kills(schedule_bench: ScheduleBench) -> None:
    """Across a skipped hour; a run whose scheduler was killed drains, and is resumed."""
    schedule_bench.rows = 20
    rng, job = random.Random(7), schedule_bench.write()
    schedule_bench.standin.behave("latency=0.05-0.15")
    kills = 0
    for day in (29, 30):
        while True:
            process = schedule_bench.start(f"2026-03-{day}T06:00:00Z", job)
            try:
                assert process.wait(rng.uniform(0.1, 1.4) + kills / 20) == 0
                break
            except subprocess.TimeoutExpired:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
                kills += 1
    assert 3 <= kills < 100
    assert schedule_bench.finished_runs() == [(f"2026-03-{day}", 0) for day in (29, 30)]
    assert len(schedule_bench.scheduled_runs()) == 2
    assert sorted(schedule_bench.standin.prompts()) == sorted(schedule_bench.prompts() * 2)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_drains_the_run_and_the_next_start_resumes_it(
    number: signal.Signals, schedule_bench: ScheduleBench
) -> None:
    job = schedule_bench.write()
    schedule_bench.standin.behave("latency=0.2")
    process = schedule_bench.start("2026-03-10T06:00:00Z", job)
    _sending(schedule_bench)
    process.send_signal(number)
    assert process.wait(WITHIN_S) == 128 + number
    [run] = schedule_bench.scheduled_runs()
    assert (run["ended_at"], run["exit_code"], run["deaths"]) == (None, 128 + number, 0)
    assert schedule_bench.run_json("2026-03-10")["starts"][-1]["exit_code"] == 128 + number
    schedule_bench.standin.behave("")
    assert schedule_bench.once("2026-03-12T06:00:00Z", job).returncode == 0
    assert schedule_bench.finished_runs() == [("2026-03-10", 0), ("2026-03-12", 0)]
    assert sorted(schedule_bench.standin.prompts()) == sorted(schedule_bench.prompts() * 2)


def test_a_killed_scheduler_leaves_no_run_process_behind(schedule_bench: ScheduleBench) -> None:
    job = schedule_bench.write()
    schedule_bench.standin.behave("latency=0.2")
    process = schedule_bench.start("2026-03-10T06:00:00Z", job)
    _sending(schedule_bench)
    process.send_signal(signal.SIGKILL)
    process.wait()
    os.close(take_lock(schedule_bench.root / "runs/nightly/2026-03-10/lock", "the run", wait=True))
    assert schedule_bench.run_json("2026-03-10")["starts"][-1]["exit_code"] == 143
    assert schedule_bench.standin.request_count() < schedule_bench.rows


def test_a_killed_run_is_resumed_at_once(schedule_bench: ScheduleBench) -> None:
    job = schedule_bench.write()
    schedule_bench.standin.behave("latency=0.2")
    process = schedule_bench.start("2026-03-10T06:00:00Z", job)
    _sending(schedule_bench)
    os.kill(schedule_bench.run_json("2026-03-10")["starts"][-1]["pid"], signal.SIGKILL)
    assert process.wait(WITHIN_S) == 0
    [run] = schedule_bench.scheduled_runs()
    assert (run["exit_code"], run["starts"], run["deaths"]) == (0, 2, 1)


def test_a_scheduled_run_that_could_not_begin_is_started_later(schedule_bench: ScheduleBench) -> None:
    """A limit on file sizes stands in for a full disk."""
    schedule_bench.rows = 3
    job = schedule_bench.write()
    rows = b"".join(json.dumps({"text": f"question {n}", "more": "x" * 1_000_000}).encode() + b"\n" for n in range(3))
    (schedule_bench.root / "rows.jsonl.gz").write_bytes(gzip.compress(rows))
    job.write_text(job.read_text().replace("rows.jsonl", "rows.jsonl.gz"))
    call = schedule_bench.call("2026-03-10T06:00:00Z", job)
    limited = ["sh", "-c", 'ulimit -f 1024; exec "$@"', "sh", *call]
    assert subprocess.run(limited, check=False, capture_output=True).returncode == 3
    [run] = schedule_bench.scheduled_runs()
    assert (run["ended_at"], run["exit_code"], run["on_finish"]) == (None, 3, None)
    assert not (schedule_bench.root / "runs").exists()
    assert schedule_bench.once("2026-03-10T07:00:00Z", job).returncode == 0
    assert schedule_bench.finished_runs() == [("2026-03-10", 0)]
    assert schedule_bench.standin.request_count() == 3


def test_the_scheduler_keeps_waiting_until_a_signal_ends_it(schedule_bench: ScheduleBench) -> None:
    received, command = listener(schedule_bench.root)
    job = schedule_bench.write(on_finish=command)
    process = schedule_bench.stay_on("2026-03-10T01:29:59Z", job)
    schedule_bench.set_clock("2026-03-10T01:30:00Z")
    summary = json.loads(read_pipe(received))
    assert (summary["job"], summary["night"], summary["exit_code"], summary["ok"]) == (
        "nightly",
        "2026-03-10",
        0,
        schedule_bench.rows,
    )
    process.send_signal(signal.SIGTERM)
    assert process.wait(WITHIN_S) == 143
    assert schedule_bench.finished_runs() == [("2026-03-10", 0)]


def test_a_first_start_waits_for_its_first_scheduled_time(schedule_bench: ScheduleBench) -> None:
    shown = schedule_bench.root / "shown.txt"
    with shown.open("w") as stdout:
        process = schedule_bench.stay_on("2026-03-10T06:00:00Z", schedule_bench.write(), stdout=stdout)
    wait_until(shown.read_text)
    process.send_signal(signal.SIGTERM)
    assert process.wait(WITHIN_S) == 143
    assert shown.read_text() == "nightly: the next run is due at 2026-03-11 02:30:00+01:00\n"
    assert schedule_bench.scheduled_runs() == []
    assert schedule_bench.standin.request_count() == 0


def test_a_second_scheduler_names_the_process_of_the_first(schedule_bench: ScheduleBench) -> None:
    received, command = listener(schedule_bench.root)
    job, other = schedule_bench.write(on_finish=command), schedule_bench.write("other")
    process = schedule_bench.stay_on("2026-03-10T01:29:59Z", job)
    schedule_bench.set_clock("2026-03-10T01:30:00Z")
    read_pipe(received)
    second = schedule_bench.once("2026-03-10T06:00:00Z", job)
    assert second.returncode == 2
    assert f"process {process.pid} on" in second.stderr
    assert schedule_bench.once("2026-03-10T06:00:00Z", other).returncode == 0
    process.send_signal(signal.SIGTERM)
    assert process.wait(WITHIN_S) == 143


def test_two_jobs_run_side_by_side_and_the_worst_exit_code_is_returned(schedule_bench: ScheduleBench) -> None:
    good, bad = schedule_bench.write("good"), schedule_bench.write("bad", more="[retry]\nattempts = 1\n")
    bad.write_text(bad.read_text().replace("Say {{ text }}", "Say {{ no_such_column }}"))
    assert schedule_bench.once("2026-03-10T06:00:00Z", good, bad).returncode == 2
    assert (schedule_bench.finished_runs("good"), schedule_bench.finished_runs("bad")) == (
        [("2026-03-10", 0)],
        [("2026-03-10", 2)],
    )


def test_on_finish_receives_the_verdict_and_the_report_that_the_run_has_written(schedule_bench: ScheduleBench) -> None:
    received = schedule_bench.root / "told.json"
    command = [sys.executable, "-c", READ, str(received)]
    scored = '[eval]\nagainst = "last-good"\n[[eval.scorers]]\nkind = "regex"\npattern = "never"\n[[eval.guards]]\nmin = 0.5\n'
    job = schedule_bench.write(on_finish=command, more=scored)
    index = schedule_bench.root / "runs" / "index.html"
    index.parent.mkdir()
    index.write_text("<title>runs – batchmix</title>")  # an index that is there is kept up to date
    assert schedule_bench.once("2026-03-10T06:00:00Z", job).returncode == 1
    message = json.loads(received.read_bytes())
    report = schedule_bench.root / "runs/nightly/2026-03-10/report.html"
    assert (message["passed"], message["exit_code"], message["report"]) == (False, 1, str(report))
    assert message["reasons"] == ["m: regex is 0, less than 0.5"]
    assert [alarm["kind"] for alarm in message["alarms"]] == ["missed"]
    assert [(score["scorer"], score["score"]) for score in message["scores"]] == [("regex", 0.0)]
    assert message["baseline"] == {"run": "", "how": "last-good", "note": "this is the first run"}
    assert report.exists()
    assert "m: regex is 0, less than 0.5" in index.read_text()


@pytest.mark.parametrize("verdict", ["[]", "{", '{"starts": 1, "alarms": [3], "scores": {}}', '{"starts": 1}'])
def test_a_damaged_verdict_is_none(verdict: str, tmp_path: Path) -> None:
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation" / "verdict.json").write_text(verdict)
    texts = dict.fromkeys(("name", "requests", "accepted", "columns", "carried"), "")
    counts = dict.fromkeys(("shard_rows", "rows", "results"), 0)
    starts = [Start("2026-03-10T00:00:00Z", 1, "")]
    Layout(tmp_path).write_run(RunFile(rehearsal=True, job={}, models=[], scan={}, starts=starts, **texts, **counts))
    now = datetime.datetime(2026, 3, 10, tzinfo=datetime.UTC)
    run = ScheduledRun(now.date(), now, str(tmp_path), now, exit_code=1, ended_at=now)
    message = message_of("nightly", run)
    assert (message["alarms"], message["scores"], message["baseline"]) == ([], [], None)
    assert message["reasons"] == ["the run ended with exit code 1"]


def test_a_bad_job_file_and_a_bad_state_file_stop_only_their_own_job(schedule_bench: ScheduleBench) -> None:
    good, bad, torn = schedule_bench.write("good"), schedule_bench.write("bad"), schedule_bench.write("torn")
    bad.write_text("nonsense")
    schedule_bench.state.mkdir()
    (schedule_bench.state / "torn.json").write_text('{"since": 3')
    done = schedule_bench.once("2026-03-10T06:00:00Z", bad, torn, good)
    assert done.returncode == 2
    assert schedule_bench.finished_runs("good") == [("2026-03-10", 0)]
    assert "bad.toml:1: is not valid TOML" in done.stdout
    assert "torn.json: can't be read" in done.stdout


def test_a_bad_job_file_is_tried_again_once_it_is_mended(schedule_bench: ScheduleBench) -> None:
    received, command = listener(schedule_bench.root)
    good, bad = schedule_bench.write("good"), schedule_bench.write("bad", on_finish=command)
    mended = bad.read_text()
    bad.write_text("nonsense")
    process = schedule_bench.stay_on("2026-03-10T01:29:50Z", bad, good)
    assert not (schedule_bench.state / "bad.json").exists()
    bad.write_text(mended)
    wait_until((schedule_bench.state / "bad.json").exists)
    schedule_bench.set_clock("2026-03-10T01:30:00Z")
    assert json.loads(read_pipe(received))["job"] == "bad"
    process.send_signal(signal.SIGTERM)
    assert process.wait(WITHIN_S) == 143


def test_a_state_from_the_future_is_told_and_the_job_runs(schedule_bench: ScheduleBench) -> None:
    job = schedule_bench.write()
    assert schedule_bench.once("2031-03-10T06:00:00Z", job).returncode == 0
    done = schedule_bench.once("2026-03-10T06:00:00Z", job)
    assert done.returncode == 0
    assert "has a time in the future, 2031-03-10" in done.stdout
    assert schedule_bench.finished_runs() == [("2031-03-10", 0), ("2026-03-10", 0)]
    assert schedule_bench.once("2026-03-11T06:00:00Z", job).returncode == 0
    assert schedule_bench.finished_runs()[2:] == [("2026-03-11", 0)]


def test_each_of_two_runs_on_one_date_has_its_folder_by_time(schedule_bench: ScheduleBench) -> None:
    job = schedule_bench.write()
    job.write_text(job.read_text().replace("30 2 * * *", "30 2,14 * * *").replace("{date}", "{date}-{time}"))
    for now in ("2026-03-10T06:00:00Z", "2026-03-10T16:00:00Z"):
        assert schedule_bench.once(now, job).returncode == 0
    assert schedule_bench.finished_runs() == [("2026-03-10", 0), ("2026-03-10", 0)]
    assert schedule_bench.run_json("2026-03-10-0230")["starts"][0]["scheduled"] is True
    assert schedule_bench.run_json("2026-03-10-1430")["rows"] == schedule_bench.rows


def test_a_job_file_that_became_invalid_is_a_scheduled_run_with_exit_code_2(schedule_bench: ScheduleBench) -> None:
    received, command = listener(schedule_bench.root)
    job = schedule_bench.write(on_finish=command)
    process = schedule_bench.stay_on("2026-03-10T01:29:58Z", job)  # it has read the job
    job.write_text("nonsense")
    schedule_bench.set_clock("2026-03-10T01:30:00Z")
    summary = json.loads(read_pipe(received))
    process.send_signal(signal.SIGTERM)
    process.wait(WITHIN_S)
    assert summary == {
        "job": "nightly",
        "night": "2026-03-10",
        "due": "2026-03-10T02:30:00+01:00",
        "exit_code": 2,
        "folder": "",
        "passed": False,
        "reasons": ["the run or its evaluation was refused (exit code 2); the output of batchmix says why"],
        "alarms": [],
        "scores": [],
        "trends": [],
        "baseline": None,
        "report": None,
    }


def test_on_finish_receives_the_summary_with_the_scheduled_date(schedule_bench: ScheduleBench) -> None:
    received = schedule_bench.root / "told.json"
    job = schedule_bench.write(on_finish=[sys.executable, "-c", READ, str(received)])
    assert schedule_bench.once("2026-03-10T06:00:00Z", job).returncode == 0
    folder = schedule_bench.root / "runs/nightly/2026-03-10"
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    run = {
        "job": "nightly",
        "night": "2026-03-10",
        "due": "2026-03-10T02:30:00+01:00",
        "exit_code": 0,
        "folder": str(folder),
        "passed": True,
        "reasons": [],
        "alarms": [],
        "scores": [],
        "trends": [],
        "baseline": None,
        "report": str(folder / "report.html"),
    }
    assert json.loads(received.read_bytes()) == summary | run
    assert schedule_bench.scheduled_runs()[-1]["on_finish"] == "ok"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["/no/such/command"], "can't be started: No such file"),
        ([sys.executable, "-c", "raise SystemExit(5)"], "exit code 5"),
        (["bad\x00name"], "can't be started"),
    ],
)
def test_a_failed_on_finish_is_reported_and_recorded_and_the_run_is_finished(
    command: list[str], words: str, schedule_bench: ScheduleBench
) -> None:
    done = schedule_bench.once("2026-03-10T06:00:00Z", schedule_bench.write(on_finish=command))
    assert done.returncode == 0
    assert words in done.stdout
    assert words in schedule_bench.scheduled_runs()[-1]["on_finish"]
    assert schedule_bench.finished_runs() == [("2026-03-10", 0)]


def test_an_unreported_scheduled_run_is_reported_by_the_next_start(schedule_bench: ScheduleBench) -> None:
    """The scheduler was killed while the command ran."""
    received, command = listener(schedule_bench.root)
    job = schedule_bench.write(on_finish=command)
    process = schedule_bench.start("2026-03-10T06:00:00Z", job)
    with received.open("rb") as pipe:
        process.send_signal(signal.SIGKILL)
        process.wait()
        pipe.read()
    [run] = schedule_bench.scheduled_runs()
    assert run["on_finish"] is None
    again = schedule_bench.start("2026-03-10T06:00:00Z", job)
    assert json.loads(read_pipe(received))["night"] == "2026-03-10"
    assert again.wait(WITHIN_S) == 0
    assert schedule_bench.scheduled_runs()[-1]["on_finish"] == "ok"
    assert schedule_bench.scheduled_runs()[-1]["starts"] == 1


def _sending(schedule_bench: ScheduleBench) -> None:
    """Return once the provider has received a request."""
    wait_until(schedule_bench.standin.request_count)
