"""Counts the finished rows of a lane while a run goes on."""

from __future__ import annotations

import msgspec

from batchmix.records import Status
from batchmix.store.answer_totals import AnswerTotals, Fared


class RowCounts(msgspec.Struct):
    """The finished rows of one lane, by status, and how their answers fared.

    Rows of earlier starts are included as far as the run folder has been read.
    """

    model: str
    ok: int = 0
    failed: int = 0
    rejected: int = 0
    checked: AnswerTotals | None = None
    """How the answers fared in the check. None if the job has no schema."""
    earlier_usd: float | None = None
    """The cost of the answers of earlier starts. None if no answer has a price."""

    @property
    def finished(self) -> int:
        """The number of finished rows of any status."""
        return self.ok + self.failed + self.rejected

    def count(self, status: Status | None, fared: Fared | None = None) -> None:
        """Count a finished row by its status, and by how its answer fared. None is not counted."""
        if fared is not None and self.checked is not None:
            self.checked.count(fared)
        if status is Status.OK:
            self.ok += 1
        elif status is Status.FAILED:
            self.failed += 1
        elif status is Status.REJECTED:
            self.rejected += 1

    def count_earlier(self, ok: int, rejected: int, answers: AnswerTotals | None = None) -> None:
        """Count the answers and the rejected rows of a sealed part."""
        self.ok += ok
        self.rejected += rejected
        if answers is not None and self.checked is not None:
            self.checked.add(answers)

    def count_earlier_usd(self, usd: float) -> None:
        """Add to the cost of the answers of earlier starts."""
        self.earlier_usd = (self.earlier_usd or 0.0) + usd
