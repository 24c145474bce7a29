"""A run's metrics, per model and scorer, and per group: `evaluation/metrics.json`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa

from batchmix import __version__
from batchmix.errors import RunError
from batchmix.evaluate.judge import Judged
from batchmix.evaluate.metrics import Estimate, Floats, Ints, estimate, pass_at, percentiles
from batchmix.evaluate.results import Array, Results, floats, gathered, hashes
from batchmix.evaluate.scoring import open_scores
from batchmix.job.eval_table import Eval
from batchmix.store.filesystem import replace_file
from batchmix.store.run_folder import Layout, now_text

_FIELDS = ("row", "ok", "refused", "latency_s")
_SUMS = ("prompt_tokens", "completion_tokens", "reasoning_tokens", "cost_usd", "response_chars")
_MOST_GROUPS = 1_000
"""Values of a column that are given a group of their own: the first, in order."""


class ModelMetrics(msgspec.Struct, frozen=True):
    """What one model did, whatever the scorers say. Shares are of its results."""

    model: str
    results: int
    answered: float
    failed: float
    """`failed` and `rejected` results."""
    refused: float
    """Answers with a refusal, or cut by the provider's content filter."""
    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    cost_usd: float | None
    """None: no answer has a price."""
    latency_s: dict[str, float] | None
    """`mean` and the percentiles `p50`, `p90`, `p99` of the answers."""
    response_chars: float | None
    """Mean length of the answers' text."""


class ScoreMetrics(msgspec.Struct, frozen=True):
    """What one scorer gives one model, over all rows or over a group of them."""

    model: str
    scorer: str
    group: dict[str, str | None]
    """Column and value; empty: all rows."""
    score: Estimate
    unscored: int
    """Results that could be given no score; they are in no mean."""
    no_answer: int
    """Results without an answer; they count as wrong."""
    pass_at: dict[int, float] = {}


class Metrics(msgspec.Struct, frozen=True):
    """`evaluation/metrics.json`."""

    name: str
    started_at: str
    evaluated_at: str
    complete: bool
    results: int
    asked: Eval
    """How it was evaluated."""
    models: tuple[ModelMetrics, ...]
    scores: tuple[ScoreMetrics, ...]
    judges: tuple[Judged, ...] = ()
    version: int = 1
    batchmix: str = __version__


def metrics_path(layout: Layout) -> Path:
    """Return where a run's metrics stand."""
    return layout.evaluation / "metrics.json"


def read_metrics(layout: Layout) -> Metrics:
    """Return a run's metrics. Raises `RunError` where it has none."""
    path = metrics_path(layout)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Metrics)
    except FileNotFoundError:
        raise RunError(f"{layout.root}: has not been evaluated; batchmix eval {layout.root} does it") from None
    except (OSError, msgspec.DecodeError) as error:
        raise RunError(f"{path}: can't be read: {error}") from error


def write_metrics(layout: Layout, asked: Eval, judged: tuple[Judged, ...]) -> Metrics:
    """Measure a run whose scores are written, and keep the metrics beside them."""
    found = measure(layout, asked, judged)
    text = json.dumps(msgspec.to_builtins(found, str_keys=True), indent=1, ensure_ascii=False)
    replace_file(metrics_path(layout), layout.redacted(text.encode("utf-8", "replace") + b"\n"), layout.file_mode)
    return found


def measure(layout: Layout, asked: Eval, judged: tuple[Judged, ...]) -> Metrics:
    """Return a run's metrics; where there are scorers, their scores must be written. Raises `RunError`."""
    run = layout.read_run()
    if run is None:
        raise RunError(f"{layout.root}: is not a run folder: it has no run.json")
    results = gathered(layout.root, _FIELDS, asked.group_by, _SUMS)
    models = tuple(_model_metrics(name, results) for name in run.models)
    del results.fields["latency_s"], results.fields["refused"]  # scores take as much room
    return Metrics(
        name=run.name,
        started_at=run.starts[0].at if run.starts else "",
        evaluated_at=now_text(),
        complete=results.count == run.results,
        results=results.count,
        asked=asked,
        models=models,
        scores=tuple(_score_metrics(asked, results, layout)) if asked.scorers else (),
        judges=judged,
    )


def _model_metrics(model: str, results: Results) -> ModelMetrics:
    mine, at = results.of(model), results.run.models.index(model)
    count, answered = max(1, len(mine)), results.fields["ok"][mine]
    latencies = results.fields["latency_s"][mine][answered]
    sums = {name: float(values[at]) for name, values in results.sums.items()}
    known = {name: int(values[at]) for name, values in results.known.items()}
    return ModelMetrics(
        model=model,
        results=len(mine),
        answered=int(answered.sum()) / count,
        failed=int((~answered).sum()) / count,
        refused=int(results.fields["refused"][mine].sum()) / count,
        prompt_tokens=int(sums["prompt_tokens"]),
        completion_tokens=int(sums["completion_tokens"]),
        reasoning_tokens=int(sums["reasoning_tokens"]),
        cost_usd=sums["cost_usd"] if known["cost_usd"] else None,
        latency_s=percentiles(latencies[~np.isnan(latencies)]),
        response_chars=sums["response_chars"] / known["response_chars"] if known["response_chars"] else None,
    )


def _score_metrics(asked: Eval, results: Results, layout: Layout) -> Iterator[ScoreMetrics]:
    of_model = {model: results.of(model) for model in results.run.models}
    groups = {column: list(_groups(results.texts[column][1])) for column in asked.group_by}
    for scorer in asked.scorers:
        given = read_scores(layout, asked, scorer.name, results.count)
        for model, chosen in of_model.items():
            yield _score(model, scorer.name, {}, given, results, chosen)
            for column, values in groups.items():
                for value, inside in _by_value(results.texts[column][0][chosen], values):
                    yield _score(model, scorer.name, {column: value}, given, results, chosen[inside])


def _by_value(codes: Array, values: list[tuple[str | None, int]]) -> Iterator[tuple[str | None, Ints]]:
    """Yield each value that is there, and where it stands, in order."""
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=len(values)))
    for value, code in values:
        inside = order[ends[code - 1] if code else 0 : ends[code]]
        if len(inside):
            yield value, inside


def read_scores(layout: Layout, asked: Eval, scorer: str, count: int) -> Floats:
    """Return a scorer's scores in the order of so many results; NaN where there is none. Raises `RunError`."""
    return _of_scorer(layout, asked, scorer, np.empty(count), lambda batch: floats(batch["score"]))


def read_targets(layout: Layout, asked: Eval, scorer: str, count: int) -> Ints:
    """Return a scorer's targets as numbers (see `hashes`), in the order of so many results. Raises `RunError`."""
    return _of_scorer(layout, asked, scorer, np.empty(count, np.int64), lambda batch: hashes(batch["target"]))


def _of_scorer(
    layout: Layout, asked: Eval, scorer: str, array: Array, made: Callable[[pa.RecordBatch], Array]
) -> Array:
    """Fill an array with what each result has of a scorer; there is one row for each, in the job's order of scorers."""
    first, at = [one.name for one in asked.scorers].index(scorer), 0
    step = len(asked.scorers)
    with open_scores(layout) as file:
        if file.metadata.num_rows != len(array) * step:
            raise RunError(
                f"{layout.root}: has gone on since it was evaluated; batchmix eval {layout.root} scores it anew"
            )
        for batch in file.iter_batches(16_384 * step, columns=["score", "target"]):
            mine = made(batch)[first::step]
            array[at : at + len(mine)] = mine
            at += len(mine)
    return array


def _score(
    model: str, scorer: str, group: dict[str, str | None], given: Floats, results: Results, chosen: Ints
) -> ScoreMetrics:
    """Return the metrics of some results, by where they stand."""
    scores = given[chosen]
    scored = ~np.isnan(scores)
    scores, rows = scores[scored], results.fields["row"][chosen[scored]]
    return ScoreMetrics(
        model=model,
        scorer=scorer,
        group=group,
        score=estimate(scores, rows),
        unscored=int((~scored).sum()),
        no_answer=int((~results.fields["ok"][chosen]).sum()),
        pass_at=pass_at(scores, rows),
    )


def _groups(values: list[str | None]) -> Iterator[tuple[str | None, int]]:
    """Yield the values of a column, in order, with their numbers."""
    order = sorted(range(len(values)), key=lambda code: (values[code] is None, values[code]))
    yield from ((values[code], code) for code in order[:_MOST_GROUPS])
