"""The table that each script classifies, and what a script made of it."""

from __future__ import annotations

import csv
import random
import re
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

_WORDS = ("great", "dull", "warm", "broken", "quick", "late", "clean", "loud")
_ROW = re.compile(r"Room (\d+):")


def write_reviews(path: Path, rows: int, seed: int = 14) -> None:
    """Write a CSV file with the columns `id` and `text`. Each text is different and names its row."""
    rng = random.Random(seed)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text"])
        for row in range(rows):
            writer.writerow([row, f"Room {row}: {' and '.join(rng.sample(_WORDS, 2))}."])


def row_in(prompt: str) -> int | None:
    """Return the row that a prompt belongs to. None if it belongs to none, such as a library's own trial request."""
    found = _ROW.search(prompt)
    return int(found[1]) if found else None


class Answers(NamedTuple):
    """What is in `answers.csv`, the output of a script."""

    columns: list[str]
    ids: list[int]
    """Of each row, in the order of the output."""
    answered: set[int]
    """The ids of the rows with an answer."""
    wrong: set[int]
    """The ids of the rows with the answer of another row. The provider must repeat each prompt."""

    def missing(self, rows: Collection[int]) -> list[int]:
        """Return which of the ids have no row in the output."""
        return sorted(set(rows) - set(self.ids))

    def doubled(self) -> list[int]:
        """Return the ids that have more than one row in the output."""
        return sorted(row for row, count in Counter(self.ids).items() if count > 1)


def read_answers(path: Path) -> Answers:
    """Read the output of a script. If it has written none, there are no rows and no columns."""
    if not path.exists():
        return Answers([], [], set(), set())
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    ids = [int(row["id"]) for row in rows]
    given = [(number, row["answer"]) for number, row in zip(ids, rows, strict=True) if row["answer"]]
    return Answers(
        columns=list(reader.fieldnames or []),
        ids=ids,
        answered={number for number, _ in given},
        wrong={number for number, answer in given if row_in(answer) != number},
    )
