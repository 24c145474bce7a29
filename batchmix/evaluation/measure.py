"""Computes a run's metrics by model, scorer and group, and writes `evaluation/metrics.json`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from batchmix import __version__
from batchmix.errors import RunError
from batchmix.evaluation.judge import JudgeUsage
from batchmix.evaluation.result_arrays import Array, ResultArrays, read_result_arrays
from batchmix.evaluation.row_design import DESIGN_FIELDS, RowDesign, design_columns, row_design
from batchmix.evaluation.score_arrays import read_answers, read_has_target, read_scores
from batchmix.formats.run_times import precise_now_text
from batchmix.formats.text import json_file
from batchmix.job.eval_table import Eval
from batchmix.job.guards import LATENCY_POINTS, Guard, guarded
from batchmix.statistics.metrics import Bools, Estimate, Floats, Ints, estimate, percentiles
from batchmix.statistics.sample_metrics import majority_at, pass_all, pass_at
from batchmix.store.filesystem import replace_file
from batchmix.store.run_folder import Layout

_FIELDS = (*DESIGN_FIELDS, "ok", "refused", "empty", "latency_s")
_SUMS = ("prompt_tokens", "completion_tokens", "reasoning_tokens", "cost_usd", "response_chars")
_MAX_GROUPS = 1_000
"""The most groups that are reported for a column: those of its first values in sorted order."""


class ModelMetrics(msgspec.Struct, frozen=True):
    """The metrics of one model that need no scorer."""

    model: str
    results: int
    answered: float
    """The share of the model's results that are answers."""
    failed: float
    """The share of the model's results that are `failed` or `rejected`."""
    refused: float
    """The share of the model's results that contain a refusal or were cut off by the provider's content filter."""
    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    cost_usd: float | None
    """The cost of all answers with a known price. None if there are none."""
    latency_s: dict[str, float] | None
    """`mean` and the percentiles `p50`, `p90` and `p99` of the answers' latencies."""
    response_chars: float | None
    """The mean number of characters in the answers' text."""
    empty: float = 0.0
    """The share of the model's results that are answers with nothing in them: no text, no call of a tool."""


class ScoreMetrics(msgspec.Struct, frozen=True):
    """The scores of one model by one scorer, over all rows or a group of them."""

    model: str
    scorer: str
    group: dict[str, str | None]
    """The column of the group and its value. Empty for all rows."""
    score: Estimate
    unscored: int
    """The number of results that could not be scored. They are left out of the mean."""
    no_target: int = 0
    """The number of results whose row has no target. They are left out of everything else."""
    no_answer: int = 0
    """The number of results without an answer. They count as wrong."""
    answered_mean: float | None = None
    """The mean score of the results with an answer, as far as they have a score. None if there are none."""
    pass_at: dict[int, float] = {}
    """pass@k by k: at least one of k samples is right. Empty with one sample per row, or if scores are not 0 or 1."""
    pass_all: dict[int, float] = {}
    """pass^k by k: all of k samples are right. Empty where pass@k is."""
    majority_at: dict[int, float] = {}
    """The mean score of the answer given most often among k samples, by k. Empty if the scorer extracts no answer."""

    @property
    def at_samples(self) -> dict[str, dict[int, float]]:
        """The metrics of several samples by name, and within each by k."""
        return {"pass@k": self.pass_at, "pass^k": self.pass_all, "majority@k": self.majority_at}

    @property
    def unscored_share(self) -> float | None:
        """The share of the results that could not be scored. None if there are no results to score."""
        to_score = self.score.n + self.unscored
        return self.unscored / to_score if to_score else None


class Metrics(msgspec.Struct, frozen=True):
    """The content of `evaluation/metrics.json`."""

    name: str
    started_at: str
    evaluated_at: str
    complete: bool
    """Whether the run has each result that was asked for. A try leaves results out on purpose."""
    results: int
    settings: Eval = msgspec.field(name="asked")
    """The `[eval]` with which the run was evaluated."""
    models: tuple[ModelMetrics, ...]
    scores: tuple[ScoreMetrics, ...]
    judges: tuple[JudgeUsage, ...] = ()
    left_out: tuple[str, ...] = ()
    """The models of the job that a try left out. There is no verdict on them."""
    missing: int = 0
    """The number of results that were asked for and are not there."""
    code: dict[str, str] = {}
    """A digest of the code of each scorer that is the user's own function, by its name."""
    version: int = 1
    batchmix: str = __version__

    def guarded(self) -> Iterator[tuple[Guard, str, str]]:
        """Yield each guard with each model and scorer that it applies to, but for models that a try left out."""
        scorers = [scorer.name for scorer in self.settings.scorers]
        models = [model.model for model in self.models]
        for guard, model, scorer in guarded(self.settings.all_guards, scorers, models):
            if model not in self.left_out:
                yield guard, model, scorer


def metrics_path(layout: Layout) -> Path:
    """Return the path of a run's metrics."""
    return layout.evaluation / "metrics.json"


def read_metrics(layout: Layout) -> Metrics:
    """Read a run's metrics. Raises `RunError` if the run has not been evaluated."""
    path = metrics_path(layout)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Metrics)
    except FileNotFoundError:
        raise RunError(f"{layout.root}: has not been evaluated; run batchmix eval {layout.root}") from None
    except (OSError, msgspec.DecodeError) as error:
        raise RunError(f"{path}: can't be read: {error}") from error


def write_metrics(layout: Layout, metrics: Metrics) -> None:
    """Write a run's metrics to `metrics.json`, with secrets masked. Raises `NoSpace` and `DiskError`."""
    text = json_file(msgspec.to_builtins(metrics, str_keys=True))
    replace_file(metrics_path(layout), layout.redacted(text), layout.file_mode)


def measure(layout: Layout, settings: Eval, judges: tuple[JudgeUsage, ...]) -> Metrics:
    """Compute a run's metrics. If there are scorers, `scores.parquet` must be written already. Raises `RunError`."""
    run = layout.read_run()
    if run is None:
        raise RunError(f"{layout.root}: is not a run folder: it has no run.json")
    columns = tuple(dict.fromkeys([*settings.group_by, *design_columns(settings)]))
    results = read_result_arrays(layout.root, _FIELDS, columns, _SUMS)
    measured = _measured(results)
    models = tuple(_model_metrics(name, results) for name in measured)
    del (
        results.fields["latency_s"],
        results.fields["refused"],
        results.fields["empty"],
    )  # frees the memory that the scores need
    return Metrics(
        name=run.name,
        started_at=run.starts[0].at if run.starts else "",
        evaluated_at=precise_now_text(),
        complete=run.is_ended_try or results.count == run.results,
        results=results.count,
        settings=settings,
        models=models,
        scores=tuple(_score_metrics(settings, results, layout)) if settings.scorers else (),
        judges=judges,
        left_out=tuple(name for name in run.models if name not in measured),
        missing=0 if run.is_ended_try else max(0, run.results - results.count),
    )


def _measured(results: ResultArrays) -> list[str]:
    """Return the models of a run, without those that a try has left out."""
    run = results.run
    return [name for name in run.models if not run.is_try or len(results.positions(name))]


def _model_metrics(model: str, results: ResultArrays) -> ModelMetrics:
    positions, model_index = results.positions(model), results.run.models.index(model)
    total, answered = max(1, len(positions)), results.fields["ok"][positions]
    latencies = results.fields["latency_s"][positions][answered]
    sums = {name: float(values[model_index]) for name, values in results.sums.items()}
    counts = {name: int(values[model_index]) for name, values in results.counts.items()}
    return ModelMetrics(
        model=model,
        results=len(positions),
        answered=int(answered.sum()) / total,
        failed=int((~answered).sum()) / total,
        refused=int(results.fields["refused"][positions].sum()) / total,
        empty=int(results.fields["empty"][positions].sum()) / total,
        prompt_tokens=int(sums["prompt_tokens"]),
        completion_tokens=int(sums["completion_tokens"]),
        reasoning_tokens=int(sums["reasoning_tokens"]),
        cost_usd=sums["cost_usd"] if counts["cost_usd"] else None,
        latency_s=percentiles(latencies[~np.isnan(latencies)]),
        response_chars=sums["response_chars"] / counts["response_chars"] if counts["response_chars"] else None,
    )


def _score_metrics(settings: Eval, results: ResultArrays, layout: Layout) -> Iterator[ScoreMetrics]:
    positions = {model: results.positions(model) for model in _measured(results)}
    groups = {column: list(sorted_groups(results.texts[column][1])) for column in settings.group_by}
    design = row_design(settings, results)
    several = any(bool((np.diff(results.fields["row"][each]) == 0).any()) for each in positions.values())
    for scorer in settings.scorers:
        read = layout, settings, scorer.name, results.count
        answers = read_answers(*read) if several else None
        scores = _ScorerScores(scorer.name, read_scores(*read), read_has_target(*read), answers, results, design)
        for model, in_model in positions.items():
            yield scores.metrics(model, {}, in_model)
            for column, values in groups.items():
                for value, in_group in _by_value(results.texts[column][0][in_model], values):
                    yield scores.metrics(model, {column: value}, in_model[in_group])


def _by_value(codes: Array, values: list[tuple[str | None, int]]) -> Iterator[tuple[str | None, Ints]]:
    """Yield each value that occurs in `codes`, with its positions there in ascending order."""
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=len(values)))
    for value, code in values:
        positions = order[ends[code - 1] if code else 0 : ends[code]]
        if len(positions):
            yield value, positions


class _ScorerScores(msgspec.Struct):
    """One scorer's scores for all results."""

    scorer: str
    scores: Floats
    has_target: Bools
    answers: Ints | None
    """A number for each different answer that was extracted. None if no row has several samples."""
    results: ResultArrays
    design: RowDesign

    def metrics(self, model: str, group: dict[str, str | None], positions: Ints) -> ScoreMetrics:
        """Return the metrics of the results at these positions."""
        scores = self.scores[positions]
        scored = ~np.isnan(scores)
        scores, rows = scores[scored], self.results.fields["row"][positions[scored]]
        design, answered = self.design.at(positions[scored]), self.results.fields["ok"][positions[scored]]
        return ScoreMetrics(
            model=model,
            scorer=self.scorer,
            group=group,
            score=estimate(scores, design.clusters, design.weights),
            unscored=int((~scored & self.has_target[positions]).sum()),
            no_target=int((~scored & ~self.has_target[positions]).sum()),
            no_answer=int((~self.results.fields["ok"][positions]).sum()),
            answered_mean=_mean(scores[answered], design.at(np.flatnonzero(answered)).weights),
            pass_at=pass_at(scores, rows),
            pass_all=pass_all(scores, rows),
            majority_at={} if self.answers is None else majority_at(scores, rows, self.answers[positions[scored]]),
        )


def _mean(scores: Floats, weights: Floats | None) -> float | None:
    total = len(scores) if weights is None else float(weights.sum())
    return float(np.average(scores, weights=weights)) if total else None


def sorted_groups(values: list[str | None]) -> Iterator[tuple[str | None, int]]:
    """Yield the values of a column in sorted order, None last, each with its code: its index in `values`."""
    order = sorted(range(len(values)), key=lambda code: (values[code] is None, values[code]))
    yield from ((values[code], code) for code in order[:_MAX_GROUPS])


def model_value(model: ModelMetrics, metric: str) -> float | None:
    """Return a metric of a model as one number: a share, the cost per result, or the mean latency or length."""
    values = {
        "answered": model.answered,
        "refused": model.refused,
        "empty": model.empty,
        "cost_usd": None if model.cost_usd is None else model.cost_usd / max(1, model.results),
        "latency_s": model.latency_s["mean"] if model.latency_s else None,
        **{
            metric: model.latency_s[f"p{point}"] if model.latency_s else None
            for metric, point in LATENCY_POINTS.items()
        },
        "response_chars": model.response_chars,
    }
    return values[metric]
