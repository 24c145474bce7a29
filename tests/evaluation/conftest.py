"""Runs whose answers a test chooses: the stand-in provider repeats its prompt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from batchmix.engine.run_status import RunStatus
from batchmix.evaluation.evaluate_run import evaluate_run, prepare_scorers
from batchmix.evaluation.judge import JudgeContext
from batchmix.evaluation.measure import Metrics
from batchmix.job import read_job
from batchmix.redact import Secrets
from tests.conftest import Bench, Provider


class EvalBench(Bench):
    """A bench whose model answers with the text of the column `said`."""

    def __init__(self, root: Path, standin: Provider) -> None:
        super().__init__(root, standin)
        self.settings["input"]["prompt"] = "[[rehearsal:echo]] {{ said }}"
        self.settings["eval"] = {"target": "answer", "scorers": [{"kind": "includes"}]}

    def write_said(self, rows: list[dict[str, Any]]) -> None:
        """Write the rows; each has `said`, `answer` and any other columns."""
        self.source.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def evaluate(self) -> Metrics:
        """Evaluate the run in its present state."""
        job = read_job(None, self.settings, {})
        return evaluate_run(self.out, JudgeContext(job, Secrets(), RunStatus()), prepare_scorers(job))

    def scores(self) -> list[dict[str, Any]]:
        """Return the rows of scores.parquet."""
        found: list[dict[str, Any]] = pq.read_table(self.out / "evaluation" / "scores.parquet").to_pylist()
        return found


@pytest.fixture
def evaluated(tmp_path: Path, standin: Provider) -> EvalBench:
    return EvalBench(tmp_path, standin)
