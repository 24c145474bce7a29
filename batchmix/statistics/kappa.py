"""How far two people, or a person and a judge, agree beyond chance, from a table of what each said.

Cohen, "A Coefficient of Agreement for Nominal Scales" (1960); with weights, "Weighted Kappa" (1968).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

Confusion = Mapping[tuple[str, str], int]
"""How often each pair of categories occurred: what the first one said, and what the second one said."""


def cohen_kappa(confusion: Confusion, values: Mapping[str, float] | None = None) -> float | None:
    """Return Cohen's kappa: 1 for full agreement, 0 for no more than chance would give.

    If `values` has the number of each category, a disagreement weighs as much as the square of their difference. None
    if there is nothing to agree on, since both always said the same one category, or nothing was said.
    """
    names = sorted({name for pair in confusion for name in pair})
    table = np.array([[confusion.get((first, second), 0) for second in names] for first in names], np.float64)
    weights = 1 - np.eye(len(names)) if values is None else _squares([values[name] for name in names])
    total = table.sum()
    if not total:
        return None
    by_chance = float((weights * np.outer(table.sum(axis=1), table.sum(axis=0))).sum()) / total
    return 1 - float((weights * table).sum()) / by_chance if by_chance else None


def _squares(values: Sequence[float]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    column = np.array(values, np.float64)[:, None]
    return np.asarray((column - column.T) ** 2)
