"""Tells apart versions of a job's dataset and of its prompt, by digests of what a run was asked and compared with."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from batchmix.engine import reader
from batchmix.evaluation.result_arrays import as_texts
from batchmix.evaluation.scoring import open_scores
from batchmix.job.eval_table import Eval
from batchmix.load import weight_of
from batchmix.store.run_folder import Layout, RunFile

_SHOWN_CHARS = 12
"""The length of a version. It is compared with a few hundred others at most."""


def prompt_version(run: RunFile) -> str:
    """Return the version of what requests are made of: the prompt, the models, their parameters, and the schema."""
    return run.requests[:_SHOWN_CHARS]


def dataset_version(layout: Layout, settings: Eval, run: RunFile) -> str:
    """Return the version of an evaluated run's dataset, from the ids, targets and weights of its rows in any order.

    Raises `RunError` if its scores or results can't be read.
    """
    total = sum(row_digests(layout, settings, run, target_columns(settings)))
    total += sum(_weight_digests(layout, settings.weight, run))
    return f"{total % 2**64:016x}"[:_SHOWN_CHARS]


def target_columns(settings: Eval) -> list[str]:
    """Return the names of the columns that the scorers compare answers with, without duplicates."""
    columns = (settings.target_of(scorer) for scorer in settings.scorers)
    return sorted({column for column in columns if column is not None})


def row_digests(layout: Layout, settings: Eval, run: RunFile, columns: Sequence[str]) -> Iterator[int]:
    """Yield a digest of each row's id, and of its target in each of `columns`. Raises `RunError`.

    The digests of two runs can be compared if they are of the same columns.
    """
    scorers = _first_scorers(settings, columns)
    with open_scores(layout) as file:
        for batch in file.iter_batches(columns=["custom_id", "model", "sample", "scorer", "target"]):
            chosen = batch.filter(pc.and_kleene(_is_first(batch, run), _is_in(batch["scorer"], list(scorers))))
            values = (chosen[name].to_pylist() for name in ("custom_id", "scorer", "target"))
            for custom_id, scorer, target in zip(*values, strict=True):
                yield _digest(custom_id or "", scorers[scorer], "\x00" if target is None else target)


def _weight_digests(layout: Layout, column: str | None, run: RunFile) -> Iterator[int]:
    """Yield a digest of each row's id and weight, unless the row weighs 1 as it does without weights."""
    if column is None:
        return
    for batch in reader.results(layout.root, ["custom_id", "model", "sample", column]):
        chosen = batch.filter(_is_first(batch, run))
        for custom_id, text in zip(chosen["custom_id"].to_pylist(), as_texts(chosen[column]).to_pylist(), strict=True):
            if (weight := weight_of(text)) != 1:
                yield _digest(custom_id or "", "weight", str(weight))


def _digest(*texts: str) -> int:
    data = "\x1f".join(texts).encode("utf-8", "replace")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest())


def _first_scorers(settings: Eval, columns: Sequence[str]) -> dict[str, str]:
    """Return one scorer for each target column, and the column. Without columns, any scorer has the rows' ids."""
    named = {settings.target_of(scorer) or "": scorer.name for scorer in reversed(settings.scorers)}
    chosen = {named[column]: column for column in columns if column in named}
    return chosen or {scorer.name: "" for scorer in settings.scorers[:1]}


def _is_first(batch: pa.RecordBatch, run: RunFile) -> Any:
    """Return which results are the first of their rows: the first sample of the first model."""
    models = run.models[:1] if run.job.get("models") else run.models  # if the rows name their models, each has some
    return pc.and_kleene(pc.equal(batch["sample"], 0), _is_in(batch["model"], models))


def _is_in(column: Any, names: Sequence[str]) -> Any:
    return pc.is_in(column, pa.array(names, pa.string()))
