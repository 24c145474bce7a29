"""The nights of one job, in the order of their names, run and evaluated in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from batchmix.engine.run_status import RunStatus
from batchmix.evaluation.judge import JudgeContext
from batchmix.job import read_job
from batchmix.redact import Secrets
from batchmix.verdict.evaluate_run import prepare_scorers
from batchmix.verdict.outcome import Evaluation, PreparedEvaluation, evaluated
from tests.conftest import EvalBench, Provider

ROWS = 40


class Nights(EvalBench):
    """The nights of one job. Their order is that of their names."""

    def __init__(self, root: Path, standin: Provider) -> None:
        super().__init__(root, standin)
        self.settings["input"]["prompt"] = "[[rehearsal:{{ kind }}]] {{ said }}"
        self.settings["schedule"] = {"cron": "30 2 * * *"}
        self.settings["eval"]["against"] = "last-good"

    def night(
        self, name: str, right: int = 30, *, rows: int = ROWS, prefix: str = "r", failed: int = 0, **options: Any
    ) -> Evaluation:
        """Run a night of which this many answers are right, and evaluate it."""
        self.out = self.root / "nights" / name
        self.settings["output"]["path"] = str(self.out)
        target = "yes" if prefix == "r" else "e"
        self.write_said(
            [
                {
                    "id": f"{prefix}{n}",
                    "kind": "400" if n >= rows - failed else "echo",
                    "said": f"yes {n}" if n < right else f"no {n}",
                    "answer": target,
                }
                for n in range(rows)
            ]
        )
        self.run(**{"scheduled": True, **options})
        self.date(name)
        return self.judge()

    def date(self, name: str) -> None:
        """Let the run begin on the date of its name, so that the nights are in order."""
        path = self.out / "run.json"
        record = json.loads(path.read_text())
        record.pop("crc", None)  # without a checksum, the file may be changed
        record["starts"][0]["at"] = f"{name}T02:30:00Z"
        path.write_text(json.dumps(record))

    def judge(self) -> Evaluation:
        job = read_job(None, self.settings, {})
        return evaluated(PreparedEvaluation(self.out, JudgeContext(job, Secrets(), RunStatus()), prepare_scorers(job)))
