"""Says in words which results of two runs could not be compared, and why."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from batchmix.comparison.pairing import ModelPairs
from batchmix.statistics.metrics import Bools


def why_fewer(pair: ModelPairs, rows: int, lost: Mapping[str, Bools]) -> str:
    """Return how many of a model's `rows` results could not be compared, by cause. Empty if all could.

    `lost` says for each cause which pairs could not. A pair that has several causes counts for the first.
    """
    of_pairs = _counts(lost, np.ones(len(pair.after), np.bool_))
    alone = rows - len(pair.after) - pair.left_out - pair.other_rows
    return _in_words(
        of_pairs
        | {
            "of another row with the same number": pair.other_rows,
            "with another request": pair.left_out,
            "that only one of the runs has": alone,
        }
    )


def why_fewer_in_group(chosen: Bools, rows: int, lost: Mapping[str, Bools]) -> str:
    """Return the same for a group of `rows` results, of whose pairs `chosen` are the ones in the later run's group."""
    return _in_words(_counts(lost, chosen) | {"that only one of the runs has in this group": rows - int(chosen.sum())})


def _counts(lost: Mapping[str, Bools], chosen: Bools) -> dict[str, int]:
    counts = {}
    for cause, pairs in lost.items():
        counts[cause] = int((pairs & chosen).sum())
        chosen = chosen & ~pairs
    return counts


def _in_words(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {cause}" for cause, count in counts.items() if count > 0)
