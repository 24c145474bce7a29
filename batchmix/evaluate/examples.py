"""Picks answers that are worth reading: those whose score changed most between two runs, and the lowest scores."""

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
from batchmix.evaluate.comparison import Diff, ScoreChange
from batchmix.evaluate.scoring import open_scores
from batchmix.formats.arrow_values import row_values
from batchmix.records import Key
from batchmix.store.run_folder import Layout

_TEXTS = ("response", "refusal", "error_message")
_MAX_COLUMNS = 6
"""The most carried columns that are shown with an answer."""


class Answer(msgspec.Struct, frozen=True):
    """The text of an answer (or its refusal or error), with some columns of its row."""

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
    answer: Answer


def examples(diff: Diff, most: int) -> list[Example]:
    """Return up to `most` results with the largest losses, and as many with the largest gains, per model and scorer.

    Models and scorers that got significantly worse come first.
    """
    by_pair: dict[tuple[str, str], list[ScoreChange]] = {
        (one.model, one.scorer): []
        for one in sorted(diff.comparisons, key=lambda one: one.verdict != "worse")
        if one.scorer
    }
    for one in diff.moved:
        by_pair[one.model, one.scorer].append(one)
    chosen: list[ScoreChange] = []
    for changes in by_pair.values():
        chosen += [one for one in changes if one.after < one.before][:most]
        gained = (one for one in changes if one.after > one.before)
        chosen += sorted(gained, key=lambda one: (one.before - one.after, one.row))[:most]
    keys = {(one.row, one.model, one.sample) for one in chosen}
    before, after = (answers(Path(folder), keys) for folder in (diff.before, diff.after))
    return [
        Example(one, now.custom_id, then.text, now.text, now.columns)
        for one in chosen
        for key in [(one.row, one.model, one.sample)]
        for then, now in [(before.get(key, Answer()), after.get(key, Answer()))]
    ]


def worst(folder: Path, most: int) -> list[Worst]:
    """Return up to `most` results with the lowest scores below 1, per model and scorer; ties go by row."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    with open_scores(Layout(folder)) as file:
        for batch in file.iter_batches(16_384):
            for pair, lost in _lowest(batch, most):
                found[pair] = sorted([*found.get(pair, []), *lost], key=lambda one: one["score"])[:most]
    chosen = [one for pair in sorted(found) for one in found[pair]]
    by_key = answers(folder, {(one["row"], one["model"], one["sample"]) for one in chosen})
    names = [name for name in Worst.__struct_fields__ if name != "answer"]
    return [
        Worst(
            **{name: one[name] for name in names},
            answer=by_key.get((one["row"], one["model"], one["sample"]), Answer()),
        )
        for one in chosen
    ]


def _lowest(batch: pa.RecordBatch, most: int) -> Iterator[tuple[tuple[str, str], list[dict[str, Any]]]]:
    lost = batch.filter(pc.less(batch["score"], 1.0))
    pairs = {(one["model"], one["scorer"]) for one in lost.select(["model", "scorer"]).to_pylist()}
    for model, scorer in pairs:
        mine = lost.filter(pc.and_(pc.equal(lost["model"], model), pc.equal(lost["scorer"], scorer)))
        order = np.argsort(mine["score"].to_numpy(), kind="stable")[:most]
        yield (model, scorer), mine.take(pa.array(order)).to_pylist()


def answers(folder: Path, keys: Collection[Key]) -> dict[Key, Answer]:
    """Return the answers of the results with these keys. Raises `RunError`."""
    found: dict[Key, Answer] = {}
    if not keys:
        return found
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
                found[key] = Answer(result["custom_id"], text, {name: result[name] for name in carried})
    return found
