"""Writes `evaluation/scores.parquet`, which has a row for each result and scorer, in the order of the results."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from batchmix.engine import reader
from batchmix.errors import RunError
from batchmix.evaluation.custom_scorer import CustomScorer
from batchmix.evaluation.judge_rows import JudgeRows
from batchmix.evaluation.judge_scores import JudgeScores
from batchmix.evaluation.result_arrays import read_result_arrays
from batchmix.evaluation.row_design import DESIGN_FIELDS, design_columns, row_design
from batchmix.evaluation.scored_text import SCORED_COLUMNS, scored_texts
from batchmix.formats.arrow_values import row_values
from batchmix.job import CheckedJob
from batchmix.job.eval_table import Eval
from batchmix.records import SKIPPED, Status
from batchmix.scorers.indirect import Custom
from batchmix.scorers.settings import (
    CUT_OFF,
    Score,
    ScoreFunction,
    ScorerSettings,
    is_cut_off,
    target_text,
)
from batchmix.store.filesystem import atomic_replacement
from batchmix.store.parts import write_rows
from batchmix.store.run_folder import Layout

SCORES_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64()),
        pa.field("custom_id", pa.string()),
        pa.field("model", pa.string()),
        pa.field("sample", pa.int32()),
        pa.field("scorer", pa.string()),
        pa.field("score", pa.float64()),  # null: it could not be scored; a result without an answer has 0
        pa.field("target", pa.string()),
        pa.field("extracted", pa.string()),  # the part of the answer that was compared with the target
        pa.field("explanation", pa.string()),
    ]
)
_RESULT_COLUMNS = (
    "row",
    "custom_id",
    "model",
    "sample",
    "refusal",
    "error_type",
    "error_message",
    "finish_reason",
    *SCORED_COLUMNS,
)
_MAX_TEXT_CHARS = 4_000
"""The most characters of an answer, a target or an explanation that are stored with a score."""


class PreparedScorer(NamedTuple):
    """A scorer of the job with its function."""

    config: ScorerSettings
    function: ScoreFunction | None
    """The function that scores an answer. None for a judge, which scores through its own job."""


def score_function(config: ScorerSettings, folder: Path | None) -> ScoreFunction:
    """Return the function for a scorer other than a judge or labels, given its settings. Raises `JobError`.

    `folder` is the folder of the job file. It is None if there is no job file. Then custom scorers are refused, because
    a run folder may come from somebody else and must not name code to run.
    """
    return CustomScorer(config, folder) if isinstance(config, Custom) else config.score_function()


def scores_path(layout: Layout) -> Path:
    """Return the path of a run's scores."""
    return layout.evaluation / "scores.parquet"


@contextlib.contextmanager
def open_scores(layout: Layout) -> Iterator[pq.ParquetFile]:
    """Open a run's scores for reading. Raises `RunError` if they can't be read or a checksum is wrong."""
    path = scores_path(layout)
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            yield file
    except (OSError, pa.ArrowException) as error:
        raise RunError(f"{path}: can't be read ({error}); batchmix eval {layout.root} scores it anew") from error


def check_results(layout: Layout, settings: Eval) -> None:
    """Raise `UsageError` if a column that the evaluation needs does not exist, or if a result's row has no weight."""
    run = layout.read_run()
    if run is None:
        return
    settings.check_columns([*_RESULT_COLUMNS, *run.carried_schema().names])
    if settings.weight is not None:
        row_design(settings, read_result_arrays(layout.root, DESIGN_FIELDS, design_columns(settings)))


def write_scores(
    layout: Layout, job: CheckedJob, scorers: list[PreparedScorer], judge_scores: Mapping[str, JudgeScores]
) -> None:
    """Score the answers of a run and write the scores. `judge_scores` maps the name of each judge to its scores.

    The file appears only when it is complete.
    """
    layout.make_folder(layout.evaluation)
    with atomic_replacement(scores_path(layout), layout.file_mode) as temporary:
        write_rows(temporary, SCORES_SCHEMA, _batches(layout, job, scorers, judge_scores), lambda: None)


def _batches(
    layout: Layout, job: CheckedJob, scorers: list[PreparedScorer], judge_scores: Mapping[str, JudgeScores]
) -> Iterator[pa.RecordBatch]:
    settings, run = job.eval or Eval(), layout.read_run()
    if run is None:
        return
    judge_rows, typed = JudgeRows(job, run.models), run.typed
    for batch in reader.results(layout.root, [*_RESULT_COLUMNS, *run.carried_schema().names]):
        rows, results = [], list(row_values(batch))
        functions = []
        for scorer, function in scorers:
            asked = _Asked(scorer, settings.target_of(scorer), scored_texts(scorer, results, typed))
            functions.append((asked, _for_batch(function, asked, results)))
        for number, result in enumerate(results):
            for asked, function in functions:
                target = None if asked.column is None else result[asked.column]
                score = _without_answer(asked, number, result)
                if score is None and function is None:
                    score = judge_scores[asked.scorer.name].at(judge_rows.row_number(result))
                    if target is not None and not asked.scorer.brings_targets:
                        score = msgspec.structs.replace(score, target=target_text(target))
                score = score or _scored(function, asked.texts[number], result, target)
                rows.append(_row(result, asked.scorer.name, score))
        if rows:
            yield _record(rows)


class _Asked(NamedTuple):
    """What a scorer scores in a batch of results."""

    scorer: ScorerSettings
    column: str | None
    """The column with the targets."""
    texts: list[str | None]
    """The text of each result that is scored."""


def _for_batch(function: ScoreFunction | None, asked: _Asked, results: list[dict[str, Any]]) -> ScoreFunction | None:
    """Return a function that scores these results in order, one per call. A custom scorer scores all of them here."""
    if not isinstance(function, CustomScorer):
        return function
    calls = [
        (asked.texts[number] or "", None if asked.column is None else result[asked.column], result)
        for number, result in enumerate(results)
        if _without_answer(asked, number, result) is None
    ]
    scores = iter(function.scores(calls))
    return lambda *_: next(scores)


def _without_answer(asked: _Asked, number: int, result: dict[str, Any]) -> Score | None:
    """Return the score of a result without text, or without a target that is needed. None for any other result."""
    target = None if asked.column is None else result[asked.column]
    text = None if target is None or asked.scorer.compares else target_text(target)
    if result["error_type"] == SKIPPED:
        return Score(None, text, None, result["error_message"])
    if asked.scorer.takes_failures:
        return None
    if target is None and asked.column is not None:
        return Score(None, None, None, "the row has no target")
    if target is not None and asked.scorer.is_empty(target):
        return Score(None, None, None, "the row's target is empty")
    wrong = None if asked.scorer.compares else 0.0  # what is missing is no worse than another answer
    if result["status"] != Status.OK:
        return Score(wrong, text, None, f"no answer: {result['status']} ({result['error_type']})")
    if asked.texts[number] is None:
        if is_cut_off(result) and not result["refusal"]:
            return Score(None, text, None, f"{CUT_OFF} before it had text")
        field = asked.scorer.field
        why = "the answer has no text" if field is None else f"the answer has no {field}"
        return Score(wrong, text, None, "refused" if result["refusal"] else why)
    return None


def _scored(function: ScoreFunction | None, text: str | None, result: dict[str, Any], target: Any) -> Score:
    if function is None:
        raise TypeError("a judge has no score function")
    return function(text or "", target, result)


def _row(result: dict[str, Any], scorer: str, score: Score) -> tuple[Any, ...]:
    texts = (_storable(score.target), _storable(score.extracted), _storable(score.explanation))
    return (result["row"], result["custom_id"], result["model"], result["sample"], scorer, score.score, *texts)


def _storable(text: str | None) -> str | None:
    """Return a text shortened, and without lone surrogates, which Parquet does not accept."""
    return None if text is None else text[:_MAX_TEXT_CHARS].encode("utf-8", "replace").decode()


def _record(rows: list[tuple[Any, ...]]) -> pa.RecordBatch:
    columns = list(zip(*rows, strict=True))
    arrays = [pa.array(values, kind) for values, kind in zip(columns, SCORES_SCHEMA.types, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=SCORES_SCHEMA)
