"""Picks answers that are worth reading: those with the largest changes between two runs, or with the lowest scores."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchmix.engine import reader
from batchmix.errors import RunError
from batchmix.evaluation.comparison import Diff, ScoreChange
from batchmix.evaluation.scoring import open_scores
from batchmix.formats.arrow_values import row_values
from batchmix.records import Key
from batchmix.store.run_folder import Layout

_TEXTS = ("response", "refusal", "error_message")
_MAX_COLUMNS = 6
"""The most carried columns that are shown with an answer."""


class ShownAnswer(msgspec.Struct, frozen=True):
    """The text, refusal or error message of a result, with some columns of its row."""

    custom_id: str | None = None
    text: str = ""
    columns: dict[str, Any] = {}
    """The first carried columns."""


class Example(msgspec.Struct, frozen=True):
    """A result whose score differs between two runs, with the answers of both."""

    moved: ScoreChange
    custom_id: str | None
    before: str
    after: str
    columns: dict[str, Any]
    """The first carried columns of the later run."""


class Worst(msgspec.Struct, frozen=True):
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


def examples(diff: Diff, max_count: int) -> list[Example]:
    """Return the results with the largest losses and those with the largest gains, for each model and scorer.

    `max_count` bounds each of these lists. Models and scorers that got significantly worse come first.
    """
    by_pair: dict[tuple[str, str], list[ScoreChange]] = {
        (compared.model, compared.scorer): []
        for compared in sorted(diff.comparisons, key=lambda compared: compared.verdict != "worse")
        if compared.scorer
    }
    for change in diff.moved:
        by_pair[change.model, change.scorer].append(change)
    chosen: list[ScoreChange] = []
    for changes in by_pair.values():
        chosen += [change for change in changes if change.after < change.before][:max_count]
        gains = (change for change in changes if change.after > change.before)
        chosen += sorted(gains, key=lambda change: (change.before - change.after, change.row))[:max_count]
    keys = {(change.row, change.model, change.sample) for change in chosen}
    before, after = (answers(Path(folder), keys) for folder in (diff.before, diff.after))
    return [
        Example(change, new.custom_id, old.text, new.text, new.columns)
        for change in chosen
        for key in [(change.row, change.model, change.sample)]
        for old, new in [(before.get(key, ShownAnswer()), after.get(key, ShownAnswer()))]
    ]


def worst(folder: Path, max_count: int) -> list[Worst]:
    """Return up to `max_count` results with the lowest scores below 1, for each model and scorer.

    Of equal scores, the first rows are chosen.
    """
    by_pair: dict[tuple[str, str], list[dict[str, Any]]] = {}
    with open_scores(Layout(folder)) as file:
        for batch in file.iter_batches(16_384):
            for pair, rows in _lowest(batch, max_count):
                by_pair[pair] = sorted([*by_pair.get(pair, []), *rows], key=lambda row: row["score"])[:max_count]
    chosen = [row for pair in sorted(by_pair) for row in by_pair[pair]]
    by_key = answers(folder, {(row["row"], row["model"], row["sample"]) for row in chosen})
    names = [name for name in Worst.__struct_fields__ if name != "answer"]
    return [
        Worst(
            **{name: row[name] for name in names},
            answer=by_key.get((row["row"], row["model"], row["sample"]), ShownAnswer()),
        )
        for row in chosen
    ]


def _lowest(batch: pa.RecordBatch, max_count: int) -> Iterator[tuple[tuple[str, str], list[dict[str, Any]]]]:
    imperfect = batch.filter(pc.less(batch["score"], 1.0))
    pairs = {(row["model"], row["scorer"]) for row in imperfect.select(["model", "scorer"]).to_pylist()}
    for model, scorer in pairs:
        pair_rows = imperfect.filter(
            pc.and_(pc.equal(imperfect["model"], model), pc.equal(imperfect["scorer"], scorer))
        )
        order = np.argsort(pair_rows["score"].to_numpy(), kind="stable")[:max_count]
        yield (model, scorer), pair_rows.take(pa.array(order)).to_pylist()


def answers(folder: Path, keys: Collection[Key]) -> dict[Key, ShownAnswer]:
    """Return the answers of the results with these keys. Raises `RunError`."""
    by_key: dict[Key, ShownAnswer] = {}
    if not keys:
        return by_key
    run = Layout(folder).read_run()
    if run is None:
        raise RunError(f"{folder}: is not a run folder: it has no run.json")
    carried = run.carried_schema().names[1 : 1 + _MAX_COLUMNS]
    rows = pa.array(sorted({row for row, _, _ in keys}), pa.int64())
    for batch in reader.results(folder, ["row", "custom_id", "model", "sample", *carried, *_TEXTS]):
        for result in row_values(batch.filter(pc.is_in(batch["row"], value_set=rows))):
            key = (result["row"], result["model"], result["sample"])
            if key in keys:
                text = next((result[name] for name in _TEXTS if result[name]), "")
                by_key[key] = ShownAnswer(result["custom_id"], text, {name: result[name] for name in carried})
    return by_key
