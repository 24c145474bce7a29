"""From a run's answers to `evaluation/scores.parquet`: one row for each result and scorer, in the results' order."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from batchmix.engine import reader
from batchmix.errors import RunError
from batchmix.evaluate.judge import Slots, Verdicts
from batchmix.evaluate.scorers import OwnScorer, Score, Score1, text_of
from batchmix.formats.arrow_values import row_values
from batchmix.job import Job
from batchmix.job.eval_table import Eval, Scorer
from batchmix.store.filesystem import appearing
from batchmix.store.parts import write_rows
from batchmix.store.run_folder import Layout

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


def scores_path(layout: Layout) -> Path:
    """Return where a run's scores stand."""
    return layout.evaluation / "scores.parquet"


@contextlib.contextmanager
def open_scores(layout: Layout) -> Iterator[pq.ParquetFile]:
    """Give a run's scores for reading. Raises `RunError`, also where a page is not as it was written."""
    path = scores_path(layout)
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            yield file
    except (OSError, pa.ArrowException) as error:
        raise RunError(f"{path}: can't be read ({error}); batchmix eval {layout.root} scores it anew") from error


def write_scores(layout: Layout, job: Job, scorers: list[Asked], verdicts: Mapping[str, Verdicts]) -> None:
    """Score the answers that a run has; `verdicts` are those of the judges, by the scorer's name.

    The file appears when it is whole. Raises `JobError` where a column that is named is not there.
    """
    layout.make_folder(layout.evaluation)
    with appearing(scores_path(layout), layout.file_mode) as temporary:
        write_rows(temporary, SCORES_SCHEMA, _batches(layout, job, scorers, verdicts), lambda: None)


def _batches(
    layout: Layout, job: Job, scorers: list[Asked], verdicts: Mapping[str, Verdicts]
) -> Iterator[pa.RecordBatch]:
    asked, run = job.eval or Eval(), layout.read_run()
    if run is None:
        return
    slots = Slots(job, run.models)
    for batch in reader.results(layout.root, [*RESULT_COLUMNS, *run.carried_schema().names]):
        asked.check_columns(batch.schema.names)
        rows, results = [], list(row_values(batch))
        ahead = [(scorer, _ahead(score, asked.target_of(scorer), results)) for scorer, score in scorers]
        for result in results:
            for scorer, score in ahead:
                target = asked.target_of(scorer)
                wanted = None if target is None else result[target]
                found = _without_answer(result, wanted, needed=target is not None)
                if found is None and score is None:
                    given = verdicts[scorer.name].at(slots.of(result))
                    found = msgspec.structs.replace(given, target=None if wanted is None else text_of(wanted))
                rows.append(_row(result, scorer.name, found or _scored(score, result, wanted)))
        if rows:
            yield _record(rows)


def _ahead(score: Score1 | None, target: str | None, results: list[dict[str, Any]]) -> Score1 | None:
    """Return a scorer for these results in their order: one of a person's own is asked about all of them at once."""
    if not isinstance(score, OwnScorer):
        return score
    wanted = [None if target is None else result[target] for result in results]
    calls = [
        (result["response"], value, result)
        for result, value in zip(results, wanted, strict=True)
        if _without_answer(result, value, needed=target is not None) is None
    ]
    given = iter(score.scores(calls))
    return lambda *_: next(given)


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
    return score(result["response"], wanted, result)


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
