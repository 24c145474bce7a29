"""Picks the answers of a run that are worth reading: those with the lowest scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchmix.comparison.examples import ShownAnswer, answers
from batchmix.evaluation.scoring import open_scores
from batchmix.store.run_folder import Layout


class LowAnswer(msgspec.Struct, frozen=True):
    """A result with one of the lowest scores."""

    model: str
    scorer: str
    row: int
    sample: int
    score: float
    target: str | None
    extracted: str | None
    explanation: str | None
    answer: ShownAnswer


class LowScores(msgspec.Struct, frozen=True):
    """The results with the lowest scores below 1."""

    counts: dict[tuple[str, str], int]
    """The number of results with a score below 1, by model and scorer."""
    lowest: list[LowAnswer]


def low_scores(folder: Path, max_count: int) -> LowScores:
    """Return up to `max_count` results with the lowest scores below 1, for each model and scorer.

    Of equal scores, the first rows are chosen.
    """
    counts: Counter[tuple[str, str]] = Counter()
    by_pair: dict[tuple[str, str], list[dict[str, Any]]] = {}
    with open_scores(Layout(folder)) as file:
        for batch in file.iter_batches(16_384):
            for pair, count, rows in _lowest(batch, max_count):
                counts[pair] += count
                by_pair[pair] = sorted([*by_pair.get(pair, []), *rows], key=lambda row: row["score"])[:max_count]
    chosen = [row for pair in sorted(by_pair) for row in by_pair[pair]]
    by_key = answers(folder, {(row["row"], row["model"], row["sample"]) for row in chosen})
    names = [name for name in LowAnswer.__struct_fields__ if name != "answer"]
    lowest = [
        LowAnswer(
            **{name: row[name] for name in names},
            answer=by_key.get((row["row"], row["model"], row["sample"]), ShownAnswer()),
        )
        for row in chosen
    ]
    return LowScores(dict(counts), lowest)


def _lowest(batch: pa.RecordBatch, max_count: int) -> Iterator[tuple[tuple[str, str], int, list[dict[str, Any]]]]:
    """Yield each model and scorer with the number of its scores below 1, and the rows of the lowest."""
    imperfect = batch.filter(pc.less(batch["score"], 1.0))
    pairs = {(row["model"], row["scorer"]) for row in imperfect.select(["model", "scorer"]).to_pylist()}
    for model, scorer in pairs:
        pair_rows = imperfect.filter(
            pc.and_(pc.equal(imperfect["model"], model), pc.equal(imperfect["scorer"], scorer))
        )
        order = np.argsort(pair_rows["score"].to_numpy(), kind="stable")[:max_count]
        yield (model, scorer), pair_rows.num_rows, pair_rows.take(pa.array(order)).to_pylist()
