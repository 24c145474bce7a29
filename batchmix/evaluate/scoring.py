"""From a run's answers to `evaluation/scores.parquet`: one row for each result and scorer, in the results' order."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from batchmix import reading
from batchmix.eval_table import Eval, Scorer
from batchmix.evaluate.scorers import Score, Score1, text_of
from batchmix.store.files import sync_file
from batchmix.store.parts import write_rows
from batchmix.store.rundir import Layout

SCORES_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64()),
        pa.field("custom_id", pa.string()),
        pa.field("model", pa.string()),
        pa.field("sample", pa.int32()),
        pa.field("scorer", pa.string()),
        pa.field("score", pa.float64()),  # null: none could be given; a result without an answer has 0
        pa.field("target", pa.string()),
        pa.field("extracted", pa.string()),  # what of the answer was compared
        pa.field("explanation", pa.string()),
    ]
)
RESULT_COLUMNS = ("row", "custom_id", "model", "sample", "status", "response", "refusal", "error_type")
_LONGEST = 4_000
"""Characters of an answer, a target or an explanation that are kept beside a score."""

Asked = tuple[Scorer, Score1 | None]
"""A scorer of the job and what scores single answers; None for a judge."""
Verdicts = Callable[[Scorer], Iterator[Score]]
"""Yields a judge's score for each result of the run, in order."""


def scores_path(layout: Layout) -> Path:
    """Return where a run's scores stand."""
    return layout.evaluation / "scores.parquet"


def write_scores(layout: Layout, asked: Eval, scorers: list[Asked], verdicts: Verdicts) -> int:
    """Score the answers that a run has, and return how many results there were.

    The file appears when it is whole. Raises `JobError` where a column that is named is not there.
    """
    layout.evaluation.mkdir(0o700, exist_ok=True)
    path = scores_path(layout)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    counted = [0]
    try:
        write_rows(temporary, SCORES_SCHEMA, _batches(layout, asked, scorers, verdicts, counted), lambda: None)
        sync_file(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return counted[0]


def _batches(
    layout: Layout, asked: Eval, scorers: list[Asked], verdicts: Verdicts, counted: list[int]
) -> Iterator[pa.RecordBatch]:
    judged = {scorer.name: verdicts(scorer) for scorer, score in scorers if score is None}
    for batch in reading.results(layout.root, [*RESULT_COLUMNS, *_carried(layout)]):
        asked.check_columns(batch.schema.names)
        counted[0] += batch.num_rows
        rows = []
        for result in batch.to_pylist():
            for scorer, score in scorers:
                target = asked.target_of(scorer)
                wanted = None if target is None else result[target]
                # A judge's verdicts come one for each result: the next one is taken whatever comes of it.
                given = next(judged[scorer.name]) if score is None else None
                found = _without_answer(result, wanted, needed=target is not None)
                if found is None:
                    found = given or _scored(score, result, wanted)
                rows.append(_row(result, scorer.name, found))
        if rows:
            yield _record(rows)


def _carried(layout: Layout) -> list[str]:
    run = layout.read_run()
    return run.carried_schema().names if run else []


def _without_answer(result: dict[str, Any], wanted: Any, *, needed: bool) -> Score | None:
    """Return the score of a result that can't be scored by its text, or None for one that can."""
    target = None if wanted is None else text_of(wanted)
    if wanted is None and needed:
        return Score(None, None, None, "the row has no target")
    if result["status"] != "ok":
        return Score(0.0, target, None, f"no answer: {result['status']} ({result['error_type']})")
    if result["response"] is None:
        return Score(0.0, target, None, "refused" if result["refusal"] else "the answer has no text")
    return None


def _scored(score: Score1 | None, result: dict[str, Any], wanted: Any) -> Score:
    if score is None:
        raise TypeError("a judge has no verdict on a result")
    try:
        return score(result["response"], wanted, result)
    except RecursionError:  # JSON that is nested too deep
        return Score(None, text_of(wanted), None, "the answer is nested too deep")


def _row(result: dict[str, Any], scorer: str, found: Score) -> tuple[Any, ...]:
    texts = (_kept(found.target), _kept(found.extracted), _kept(found.explanation))
    return (result["row"], result["custom_id"], result["model"], result["sample"], scorer, found.score, *texts)


def _kept(text: str | None) -> str | None:
    """Return text as Parquet takes it: without lone surrogates, and not without end."""
    return None if text is None else text[:_LONGEST].encode("utf-8", "replace").decode()


def _record(rows: list[tuple[Any, ...]]) -> pa.RecordBatch:
    columns = list(zip(*rows, strict=True))
    arrays = [pa.array(values, kind) for values, kind in zip(columns, SCORES_SCHEMA.types, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=SCORES_SCHEMA)
