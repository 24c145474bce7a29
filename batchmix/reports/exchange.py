"""Reads a run's results for other tools' logs: each with the prompt that was sent, and with its scores."""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from batchmix.comparison.sent_prompts import Turn, turns_of
from batchmix.engine import reader
from batchmix.engine.sent_requests import sent_requests
from batchmix.errors import BatchmixError, RunError
from batchmix.evaluation.measure import Metrics, ModelMetrics, ScoreMetrics, metrics_path, read_metrics
from batchmix.evaluation.scoring import open_scores
from batchmix.formats.arrow_values import row_values
from batchmix.formats.display import clean
from batchmix.job import CheckedJob, Model
from batchmix.job.eval_table import Eval
from batchmix.records import Key
from batchmix.store.run_folder import Layout, RunFile

COLUMNS = (
    "row", "custom_id", "model", "sample", "status", "response", "reasoning", "refusal", "tool_calls", "finish_reason",
    "served_model", "prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens", "reasoning_tokens",
    "cost_usd", "latency_s", "sent_at", "finished_at", "error_type", "error_message", "request_id", "request_hash",
)  # fmt: skip
"""The result columns that are exchanged."""
_BATCH_RESULTS = 1_000
"""The results that are read at once, with their prompts."""


class ExchangedScore(msgspec.Struct, frozen=True):
    """What one scorer says of a result."""

    scorer: str
    score: float | None
    target: str | None
    extracted: str | None
    explanation: str | None


class ExchangedResult(msgspec.Struct, frozen=True):
    """A result of a run, with its prompt and its scores."""

    values: dict[str, Any]
    """The columns of `COLUMNS` that the run has."""
    carried: dict[str, Any]
    prompt: tuple[Turn, ...]
    """Empty if the prompt can't be built any more."""
    scores: tuple[ExchangedScore, ...]

    @property
    def target(self) -> str:
        """The right answer, as the first scorer that has one knows it. Empty if none does."""
        return next((score.target for score in self.scores if score.target is not None), "")


class ExchangedRun(msgspec.Struct):
    """A run to be written in another tool's format."""

    folder: Path
    run: RunFile
    job: CheckedJob
    metrics: Metrics | None
    """None if the run was not evaluated."""
    warnings: list[str] = []
    lost: list[str] = []
    """Messages about results that can't be read. They are left out. They are among the warnings too."""

    @property
    def settings(self) -> Eval:
        """The `[eval]` with which the run was evaluated, without scorers if it was not."""
        return self.metrics.settings if self.metrics else Eval()

    @property
    def started_at(self) -> datetime.datetime:
        """When the run began."""
        return datetime.datetime.fromisoformat(self.run.starts[0].at)

    @property
    def ended_at(self) -> str:
        """When its last start ended. Empty if that is unknown."""
        return self.run.starts[-1].ended_at or ""

    @property
    def complete(self) -> bool:
        """Whether every result is there, as far as the evaluation knows."""
        return self.metrics is not None and self.metrics.complete

    def model(self, name: str) -> Model:
        """Return the entry of the job for a model, or one with the name as its id if the rows name their models."""
        own = Model(name, name, self.job.params, self.job.limits)
        return next((one for one in self.job.models if one.name == name), own)

    def metrics_of(self, name: str) -> ModelMetrics | None:
        """Return the metrics of a model that need no scorer."""
        models = self.metrics.models if self.metrics else ()
        return next((model for model in models if model.model == name), None)

    def scores_of(self, name: str) -> list[ScoreMetrics]:
        """Return the scores of a model over all rows, one of each scorer."""
        scores = self.metrics.scores if self.metrics else ()
        return [score for score in scores if score.model == name and not score.group]

    def digest(self, *parts: str) -> str:
        """Return an id of 22 characters that is the same whenever the run is exported."""
        return hashlib.sha256("\0".join([self.run.name, self.run.starts[0].at, *parts]).encode()).hexdigest()[:22]

    def results(self) -> Iterator[ExchangedResult]:
        """Yield all results in order. Warnings are added to `warnings`. Raises `RunError`."""
        carried = self.run.carried_schema().names[1:]
        scores = _scores(self)
        for batch in reader.results(self.folder, [*COLUMNS, *carried], self.lost):
            for start in range(0, batch.num_rows, _BATCH_RESULTS):
                rows = row_values(batch.slice(start, _BATCH_RESULTS))
                prompts = self._prompts(rows)
                for values in rows:
                    extra = {name: values.pop(name) for name in carried if name in values and name not in COLUMNS}
                    key = (values["row"], values["model"], values["sample"])
                    of_result = next((found for scored, found in scores if scored == key), ())
                    yield ExchangedResult(values, extra, prompts.get(key, ()), of_result)
        self.warnings += self.lost

    def _prompts(self, rows: Sequence[dict[str, Any]]) -> dict[Key, tuple[Turn, ...]]:
        hashes = {(row["row"], row["model"], row["sample"]): row["request_hash"] for row in rows}
        prompts = {}
        try:
            for request in sent_requests(self.folder, hashes):
                if request.hash == hashes[request.key]:
                    prompts[request.key] = tuple(turns_of(json.loads(request.body)))
        except BatchmixError as error:
            self._warn(f"prompts are left out: {clean(str(error))}")
        else:
            if len(prompts) < len(hashes):
                self._warn("prompts are left out where the input or the job has changed since")
        return prompts

    def _warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)


def exchanged_run(folder: Path) -> ExchangedRun:
    """Return a run that is to be exported, with its metrics if it was evaluated. Raises `RunError`."""
    run = reader.run_of(folder)
    layout = Layout(folder)
    if not run.starts:
        raise RunError(f"{folder}: was never started")
    metrics = read_metrics(layout) if metrics_path(layout).exists() else None
    exchanged = ExchangedRun(folder, run, reader.job_of(folder), metrics)
    if metrics is None:
        exchanged.warnings.append(f"it has no scores: the run was not evaluated (batchmix eval {folder})")
    return exchanged


def _scores(run: ExchangedRun) -> Iterator[tuple[Key, tuple[ExchangedScore, ...]]]:
    """Yield the key and the scores of each result in order. Nothing if the run has none."""
    count = len(run.settings.scorers)
    if run.metrics is None or not count:
        return
    with open_scores(Layout(run.folder)) as file:
        if file.metadata.num_rows != run.metrics.results * count:
            raise RunError(
                f"{run.folder}: has other results than when it was evaluated; run batchmix eval {run.folder} again"
            )
        for batch in file.iter_batches(_BATCH_RESULTS * count):
            rows = row_values(batch)
            for at in range(0, len(rows), count):
                scores = tuple(msgspec.convert(row, ExchangedScore) for row in rows[at : at + count])
                yield (rows[at]["row"], rows[at]["model"], rows[at]["sample"]), scores
