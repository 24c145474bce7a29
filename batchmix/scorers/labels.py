"""The settings of the scorer `labels`, whose scores people gave. `evaluation.human_labels` reads their file."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from batchmix.errors import JobError
from batchmix.scorers.settings import MAX_SCORE, ScorerSettings


class Labels(ScorerSettings, frozen=True, kw_only=True, tag="labels"):
    """Takes the scores that people gave to answers, from a file with one label per answer."""

    needs_target: ClassVar[bool] = False
    takes_target: ClassVar[bool] = False
    takes_failures: ClassVar[bool] = True
    beside_the_score: ClassVar[frozenset[str]] = frozenset({"path"})  # people may label each night in a file of its own
    path: str
    """The file, absolute in a checked job: CSV, TSV, JSONL or Parquet, with `custom_id` or `row`, and the label."""
    column: str = "label"
    """The column with the labels."""
    values: dict[str, float] = msgspec.field(default_factory=dict)
    """The score of each label that is a word. Labels that are numbers need none."""

    @property
    def brings_targets(self) -> bool:
        """Whether a row has a target: it has one if it has a label."""
        return True

    @property
    def worst(self) -> float | None:
        """None: a label may be any number."""
        return None

    def check(self) -> None:
        """Raise `JobError` if a target or a field of typed answers is named, or a value is no score."""
        if not all(abs(value) <= MAX_SCORE for value in self.values.values()):
            raise JobError(f"eval.scorers.values: the score of a label is a number of at most {MAX_SCORE:g} in size")
        if self.field is not None or self.target is not None:
            raise JobError("eval.scorers: a label is the score itself, so labels takes no target and no field")
