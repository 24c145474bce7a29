"""Answers that got worse or better, with both texts."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import msgspec

from batchmix import reading
from batchmix.evaluate.diff import Diff, Moved
from batchmix.records import Key

_COLUMNS = ["row", "custom_id", "model", "sample", "response", "refusal", "error_message"]


class Example(msgspec.Struct, frozen=True):
    """A result whose score has changed, as it was and as it is."""

    moved: Moved
    custom_id: str | None
    before: str
    after: str


def examples(diff: Diff, most: int) -> list[Example]:
    """Return, for each model and scorer, the results that lost most, then those that gained most."""
    chosen: list[Moved] = []
    for pair in dict.fromkeys((one.model, one.scorer) for one in diff.moved):
        mine = [one for one in diff.moved if (one.model, one.scorer) == pair]
        chosen += [one for one in mine if one.after < one.before][:most]
        chosen += [one for one in reversed(mine) if one.after > one.before][:most]
    keys = {(one.row, one.model, one.sample) for one in chosen}
    before, after = (_texts(Path(folder), keys) for folder in (diff.before, diff.after))
    nothing = (None, "")
    return [
        Example(one, after.get(key, nothing)[0], before.get(key, nothing)[1], after.get(key, nothing)[1])
        for one in chosen
        for key in [(one.row, one.model, one.sample)]
    ]


def _texts(folder: Path, keys: Collection[Key]) -> dict[Key, tuple[str | None, str]]:
    """Return the custom id and the text of some results."""
    found: dict[Key, tuple[str | None, str]] = {}
    if not keys:
        return found
    for batch in reading.results(folder, _COLUMNS):
        named = [batch.column(name).to_pylist() for name in ("row", "model", "sample")]
        for at, key in enumerate(zip(*named, strict=True)):
            if key in keys:
                found[key] = _text({name: batch.column(name)[at].as_py() for name in _COLUMNS})
    return found


def _text(result: dict[str, Any]) -> tuple[str | None, str]:
    texts = (result[name] for name in ("response", "refusal", "error_message"))
    return result["custom_id"], next((text for text in texts if text), "")
