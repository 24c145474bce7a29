"""Finds the past runs of a job, and writes their metrics to `history.parquet`.

The runs are found by the name of the job in the output root, which is the folder that holds the run folders.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from batchmix.errors import RunError, disk_errors
from batchmix.evaluation.measure import Metrics, ModelMetrics, model_value, read_metrics
from batchmix.formats.display import group_names
from batchmix.store.filesystem import PRIVATE, atomic_replacement, is_ours
from batchmix.store.parts import write_rows
from batchmix.store.run_folder import Layout, RunFile, run_folders
from batchmix.verdict.verdict_file import Verdict, read_verdict
from batchmix.verdict.versions import prompt_version

HISTORY_SCHEMA = pa.schema(
    [
        pa.field("name", pa.string()),  # of the job
        pa.field("run", pa.string()),  # the folder, relative to the output root
        pa.field("started_at", pa.string()),
        pa.field("complete", pa.bool_()),
        pa.field("model", pa.string()),
        pa.field("scorer", pa.string()),
        pa.field("group", pa.string()),  # `column=value`; empty: all rows
        pa.field("n", pa.int64()),
        pa.field("score", pa.float64()),
        pa.field("stderr", pa.float64()),
        pa.field("low", pa.float64()),  # of the 95 % interval
        pa.field("high", pa.float64()),
        pa.field("answered", pa.float64()),  # share of the model's results
        pa.field("refused", pa.float64()),  # share of the model's results
        pa.field("cost_usd", pa.float64()),  # of all results of the model
        pa.field("latency_s", pa.float64()),  # mean
        pa.field("dataset", pa.string()),  # version
        pa.field("prompt", pa.string()),  # version
        pa.field("passed", pa.bool_()),
        pa.field("alarms", pa.int32()),
        pa.field("baseline", pa.string()),
    ]
)
FILE = "history.parquet"
_logger = logging.getLogger(__name__)


class PastRun(msgspec.Struct, frozen=True):
    """One run of a job."""

    folder: Path
    run: RunFile
    metrics: Metrics | None
    """The metrics of the run. None if the run has not been evaluated."""
    verdict: Verdict | None = None
    """The verdict on the run. None without one, such as from older versions of batchmix."""

    @property
    def valid_verdict(self) -> Verdict | None:
        """The verdict, unless the run was started again since."""
        return self.verdict if self.verdict and self.verdict.starts == len(self.run.starts) else None

    @property
    def prompt(self) -> str:
        """The version of what the run's requests were made of."""
        return prompt_version(self.run)

    @property
    def started_at(self) -> str:
        """The time of the run's first start."""
        return self.run.starts[0].at if self.run.starts else ""


def past_runs(root: Path, name: str | None = None) -> list[PastRun]:
    """Return the runs in an output root, the oldest first. `name` selects the runs of one job.

    Unreadable runs are left out.
    """
    past = []
    for folder in run_folders(root):
        layout = Layout(folder)
        try:
            run = layout.read_run()
        except RunError:
            continue
        if run is not None and name in {None, run.name}:
            past.append(PastRun(folder, run, _metrics(layout), read_verdict(layout)))
    return sorted(past, key=lambda past_run: (past_run.started_at, str(past_run.folder)))


def _metrics(layout: Layout) -> Metrics | None:
    try:
        return read_metrics(layout)
    except RunError:
        return None


def version_changes(past: Sequence[PastRun]) -> list[str]:
    """Return for each run what has changed since the run before it: `dataset`, `prompt`, or both.

    A try has other rows on purpose, and changes nothing for the runs after it.
    """
    changes, datasets, prompts = [], [""], [""]
    for past_run in past:
        if past_run.run.is_try:
            changes.append("")
            continue
        dataset = past_run.verdict.dataset if past_run.verdict else datasets[-1]
        named = (("dataset", dataset, datasets), ("prompt", past_run.prompt, prompts))
        changes.append(", ".join(name for name, version, known in named if known[-1] not in {"", version}))
        datasets.append(dataset)
        prompts.append(past_run.prompt)
    return changes


def write_history(root: Path, mode: int = PRIVATE) -> Path:
    """Write the metrics of all evaluated runs in an output root to its `history.parquet`. Returns the file's path.

    `mode` is the permissions of the file. Raises `NoSpace` or `DiskError`.
    """
    path = root / FILE
    if not is_ours(path, _is_history):
        _logger.warning("%s: was not written by batchmix and is left alone; no history is written", path)
        return path
    rows = [row for past in past_runs(root) if past.metrics for row in _rows(root, past, past.metrics)]
    columns = [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in HISTORY_SCHEMA]
    arrays = [pa.array(values, kind) for values, kind in zip(columns, HISTORY_SCHEMA.types, strict=True)]
    record = pa.RecordBatch.from_arrays(arrays, schema=HISTORY_SCHEMA)
    with disk_errors(path), atomic_replacement(path, mode) as temporary:
        write_rows(temporary, HISTORY_SCHEMA, iter([record]), lambda: None)
    return path


def _is_history(path: Path) -> bool:
    names: list[str] = pq.read_schema(path).names
    return names[:5] == list[str](HISTORY_SCHEMA.names[:5])


def _rows(root: Path, past: PastRun, metrics: Metrics) -> Iterator[tuple[Any, ...]]:
    models: dict[str, ModelMetrics] = {model.model: model for model in metrics.models}
    folder = str(past.folder.relative_to(root))
    for scored in metrics.scores:
        score, model = scored.score, models[scored.model]
        yield (
            metrics.name,
            folder,
            past.started_at,
            metrics.complete,
            scored.model,
            scored.scorer,
            ", ".join(group_names(scored.group)),
            score.n,
            score.mean,
            score.stderr,
            score.low,
            score.high,
            model.answered,
            model.refused,
            model.cost_usd,
            model_value(model, "latency_s"),
            *_judged(past),
        )


def _judged(past: PastRun) -> tuple[str | None, str, bool | None, int | None, str | None]:
    """Return the versions of the run's dataset and prompt, and its verdict."""
    prompt, verdict = past.prompt, past.verdict
    if verdict is None:
        return None, prompt, None, None, None
    baseline = verdict.baseline.run if verdict.baseline else ""
    return verdict.dataset, prompt, verdict.passed, len(verdict.alarms), baseline or None
