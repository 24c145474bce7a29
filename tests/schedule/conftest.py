"""A scheduled job against the stand-in provider, and the scheduler as a process with any clock."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import pytest

from tests import forking
from tests.conftest import Provider
from tests.killing import write_rows
from tests.polling import wait_until


@dataclasses.dataclass
class ScheduleBench:
    """One job, due daily at half past two in Berlin, and the state that its scheduler stores."""

    root: Path
    standin: Provider
    rows: int = 30

    def write(self, name: str = "nightly", on_finish: list[str] | None = None, more: str = "") -> Path:
        """Write the job file."""
        write_rows(self.root / "rows.jsonl", self.rows)
        path = self.root / f"{name}.toml"
        path.write_text(
            f'model = "m"\n[input]\npath = "rows.jsonl"\nprompt = "Say {{{{ text }}}}"\n'
            f'[provider]\nbase_url = "{self.standin.url}"\napi_key_env = ""\n[limits]\nconcurrency = 4\n'
            f'[output]\npath = "{self.root}/runs/{{name}}/{{date}}"\n'
            f'[schedule]\ncron = "30 2 * * *"\ntimezone = "Europe/Berlin"\non_finish = {json.dumps(on_finish or [])}\n'
            f"{more}"
        )
        return path

    def call(self, now: str, *jobs: Path, mode: str = "once") -> list[str]:
        """Return the command of a scheduler whose clock starts at `now`, or with the mode `on` is that of `set_clock`."""
        return [sys.executable, "-m", "tests.scheduling", now, str(self.state), mode, *map(str, jobs)]

    def once(self, now: str, *jobs: Path) -> subprocess.CompletedProcess[str]:
        """Run the jobs that are due."""
        return forking.run(self.call(now, *jobs))

    def start(self, now: str, *jobs: Path) -> forking.Fork:
        """Start a scheduler that runs the jobs that are due."""
        return forking.Fork(self.call(now, *jobs))

    def stay_on(self, now: str, *jobs: Path, stdout: IO[str] | None = None) -> forking.Fork:
        """Start a scheduler that runs jobs until it is stopped, and return once it has stored its first state."""
        self.set_clock(now)
        with Path(os.devnull).open("r+") as null:
            started = forking.Fork(self.call(str(self.clock), *jobs, mode="on"), [null, stdout or null, null])
        wait_until(lambda: any(self.state.glob("*.json")))
        return started

    def set_clock(self, now: str) -> None:
        """Set the clock of a scheduler that stays on. It stands still."""
        moved = self.root / "clock.new"
        moved.write_text(now)
        moved.replace(self.clock)

    @property
    def clock(self) -> Path:
        return self.root / "clock"

    @property
    def state(self) -> Path:
        return self.root / "state"

    def scheduled_runs(self, name: str = "nightly") -> list[dict[str, Any]]:
        """Return the records of scheduled runs in the state file."""
        found: list[dict[str, Any]] = json.loads((self.state / f"{name}.json").read_text())["nights"]
        return found

    def finished_runs(self, name: str = "nightly") -> list[tuple[str, int]]:
        """Return the scheduled dates of finished runs, with their exit codes."""
        return [(run["night"], run["exit_code"]) for run in self.scheduled_runs(name) if run["ended_at"]]

    def run_json(self, date: str, name: str = "nightly") -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.root / "runs" / name / date / "run.json").read_text())
        return found

    def prompts(self) -> list[str]:
        return [f"Say question {number}" for number in range(self.rows)]


@pytest.fixture
def schedule_bench(tmp_path: Path, standin: Provider) -> ScheduleBench:
    return ScheduleBench(tmp_path, standin)
