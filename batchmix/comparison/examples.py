"""Picks the answers that are worth reading in a comparison of two runs: those whose scores changed most."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from batchmix.comparison.pair_comparisons import Rewritten, ScoreChange
from batchmix.comparison.run_diff import Diff
from batchmix.engine import reader
from batchmix.errors import RunError
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
    request_hash: str = ""


class Example(msgspec.Struct, frozen=True):
    """A result whose score differs between two runs, with the answers of both."""

    moved: ScoreChange
    custom_id: str | None
    before: str
    after: str
    columns: dict[str, Any]
    """The first carried columns of the later run."""
    request_hashes: tuple[str, str] = ("", "")
    """The hashes of the request in the earlier and in the later run."""


class RewrittenAnswer(msgspec.Struct, frozen=True):
    """A result whose text differs between two runs without scores, with the answers of both."""

    result: Rewritten
    custom_id: str | None
    before: str
    after: str
    columns: dict[str, Any]
    """The first carried columns of the later run."""
    request_hashes: tuple[str, str] = ("", "")
    """The hashes of the request in the earlier and in the later run."""


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
    return [
        Example(change, new.custom_id, old.text, new.text, new.columns, (old.request_hash, new.request_hash))
        for change, (old, new) in zip(chosen, _of_both(diff, [change.keys for change in chosen]), strict=True)
    ]


def rewritten_answers(diff: Diff, max_count: int) -> list[RewrittenAnswer]:
    """Return the first results of each model whose text differs, if neither run has scores: `max_count` of each."""
    models = dict.fromkeys(one.model for one in diff.rewritten)
    chosen = [one for model in models for one in [one for one in diff.rewritten if one.model == model][:max_count]]
    return [
        RewrittenAnswer(one, new.custom_id, old.text, new.text, new.columns, (old.request_hash, new.request_hash))
        for one, (old, new) in zip(chosen, _of_both(diff, [one.keys for one in chosen]), strict=True)
    ]


def _of_both(diff: Diff, keys: list[tuple[Key, Key]]) -> Iterator[tuple[ShownAnswer, ShownAnswer]]:
    """Yield the answers of both runs, given the keys in the earlier and in the later run."""
    before = answers(Path(diff.before), {key for key, _ in keys})
    after = answers(Path(diff.after), {key for _, key in keys})
    for old, new in keys:
        yield before.get(old, ShownAnswer()), after.get(new, ShownAnswer())


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
    for batch in reader.results(folder, ["row", "custom_id", "model", "sample", "request_hash", *carried, *_TEXTS]):
        for result in row_values(batch.filter(pc.is_in(batch["row"], value_set=rows))):
            key = (result["row"], result["model"], result["sample"])
            if key in keys:
                text = next((result[name] for name in _TEXTS if result[name]), "")
                columns = {name: result[name] for name in carried}
                by_key[key] = ShownAnswer(result["custom_id"], text, columns, result["request_hash"] or "")
    return by_key
