"""A run's metrics, per model and scorer, and per group: `evaluation/metrics.json`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from batchmix import __version__, reading
from batchmix.errors import RunError
from batchmix.eval_table import Eval
from batchmix.evaluate.judge import Judged
from batchmix.evaluate.metrics import Estimate, Floats, Ints, estimate, pass_at, percentiles
from batchmix.evaluate.scoring import scores_path
from batchmix.store.files import replace_file
from batchmix.store.rundir import Layout, now_text

RESULT_COLUMNS = [
    "row", "model", "status", "refusal", "finish_reason", "prompt_tokens", "completion_tokens", "reasoning_tokens",
    "cost_usd", "latency_s", "response",
]  # fmt: skip
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
    replace_file(metrics_path(layout), layout.redacted(text.encode("utf-8", "replace") + b"\n"))
    return found


def measure(layout: Layout, asked: Eval, judged: tuple[Judged, ...]) -> Metrics:
    """Return a run's metrics; where there are scorers, their scores must be written. Raises `RunError`."""
    run = layout.read_run()
    if run is None:
        raise RunError(f"{layout.root}: is no run folder, it has no run.json")
    results = read_results(layout.root, [*RESULT_COLUMNS, *asked.group_by])
    return Metrics(
        name=run.name,
        started_at=run.starts[0].at if run.starts else "",
        evaluated_at=now_text(),
        complete=results.num_rows == run.results,
        results=results.num_rows,
        asked=asked,
        models=tuple(_model_metrics(name, _of(results, name)) for name in run.models),
        scores=tuple(_score_metrics(run.models, asked, results, layout)) if asked.scorers else (),
        judges=judged,
    )


def read_results(folder: Path, columns: list[str]) -> pa.Table:
    """Return some columns of a run's results: of `refusal` whether there is one, of `response` how long it is.

    Texts that repeat take no room.
    """
    batches = []
    for batch in reading.results(folder, columns):
        kept = zip(batch.schema.names, batch.columns, strict=True)
        batches.append(pa.table({name: _kept(name, column) for name, column in kept}))
    if not batches:
        raise RunError(f"{folder}: has no results yet")
    return pa.concat_tables(batches).unify_dictionaries().combine_chunks()


def _kept(name: str, column: pa.Array) -> pa.Array:
    if name == "refusal":
        return column.is_valid()
    if name == "response":
        return pc.utf8_length(column)
    return column.dictionary_encode() if pa.types.is_string(column.type) else column


def refused(results: pa.Table) -> pa.Array:
    """Return which results are refusals, from their `refusal` (whether there is one) and `finish_reason`."""
    return pc.or_(results["refusal"], pa.chunked_array([pa.array(equals(results["finish_reason"], "content_filter"))]))


def equals(column: pa.ChunkedArray, value: str) -> npt.NDArray[np.bool_]:
    """Return where a column of texts, as `read_results` keeps them, has a value."""
    texts = column.combine_chunks()
    texts = texts.dictionary_encode() if pa.types.is_string(texts.type) else texts
    values = texts.dictionary.to_pylist()
    code = values.index(value) if value in values else -2
    found: npt.NDArray[np.bool_] = pc.fill_null(texts.indices, -1).to_numpy(zero_copy_only=False) == code
    return found


def _of(results: pa.Table, model: str) -> pa.Table:
    return results.filter(pa.array(equals(results["model"], model)))


def _model_metrics(model: str, results: pa.Table) -> ModelMetrics:
    count = max(1, results.num_rows)
    answered = pa.chunked_array([pa.array(equals(results["status"], "ok"))])
    priced = pc.sum(results["cost_usd"]).as_py()
    right = pc.sum(answered).as_py() or 0
    return ModelMetrics(
        model=model,
        results=results.num_rows,
        answered=right / count,
        failed=(results.num_rows - right) / count,
        refused=(pc.sum(refused(results)).as_py() or 0) / count,
        prompt_tokens=pc.sum(results["prompt_tokens"]).as_py() or 0,
        completion_tokens=pc.sum(results["completion_tokens"]).as_py() or 0,
        reasoning_tokens=pc.sum(results["reasoning_tokens"]).as_py() or 0,
        cost_usd=priced,
        latency_s=percentiles(floats(results["latency_s"].filter(answered).drop_null())),
        response_chars=pc.mean(results["response"]).as_py(),
    )


def _score_metrics(models: list[str], asked: Eval, results: pa.Table, layout: Layout) -> Iterator[ScoreMetrics]:
    scores = floats(pq.read_table(scores_path(layout), columns=["score"])["score"])
    rows = results["row"].to_numpy()
    answered = equals(results["status"], "ok")
    of_model = {model: np.flatnonzero(equals(results["model"], model)) for model in models}
    groups = {column: list(_groups(results[column])) for column in asked.group_by}
    for number, scorer in enumerate(asked.scorers):
        # Each result has one score of each scorer, in the job's order.
        given = scores[number :: len(asked.scorers)]
        for model, chosen in of_model.items():
            yield _score(model, scorer.name, {}, (given[chosen], rows[chosen], answered[chosen]))
            for column, values in groups.items():
                for value, inside in values:
                    both = np.intersect1d(chosen, inside, assume_unique=True)
                    if len(both):
                        yield _score(model, scorer.name, {column: value}, (given[both], rows[both], answered[both]))


def _score(
    model: str, scorer: str, group: dict[str, str | None], results: tuple[Floats, Ints, npt.NDArray[np.bool_]]
) -> ScoreMetrics:
    """Return the metrics of some results: of their scores, their rows, and whether they were answered."""
    given, rows, answered = results
    scored = ~np.isnan(given)
    return ScoreMetrics(
        model=model,
        scorer=scorer,
        group=group,
        score=estimate(given[scored], rows[scored]),
        unscored=int((~scored).sum()),
        no_answer=int((~answered).sum()),
        pass_at=pass_at(given[scored], rows[scored]),
    )


def _groups(column: pa.ChunkedArray) -> Iterator[tuple[str | None, Any]]:
    """Yield each value of a column as text, in order, and where it stands."""
    texts = column.cast(pa.string()).combine_chunks().dictionary_encode(null_encoding="encode")
    values = texts.dictionary.to_pylist()
    codes = texts.indices.to_numpy()
    for value in sorted(values, key=lambda value: (value is None, value))[:_MOST_GROUPS]:
        yield value, np.flatnonzero(codes == values.index(value))


def floats(column: Any) -> Floats:
    """Return a column as float64; nulls become NaN."""
    found: Floats = np.asarray(column.cast(pa.float64()).to_numpy(), dtype=np.float64)
    return found
