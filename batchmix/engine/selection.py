"""What of a run is exported, as its user says it: columns, and a condition."""

from __future__ import annotations

from typing import Any

import msgspec

from batchmix.errors import JobError, UsageError
from batchmix.load.conditions import Condition
from batchmix.load.template import BadRowError
from batchmix.store.chosen import Chosen


class _Where:
    """A condition on results, as a template over their columns. Raises `UsageError` if it is wrong."""

    def __init__(self, text: str, names: list[str]) -> None:
        try:
            self._condition = Condition(text, "where")
        except JobError as error:
            raise UsageError(str(error)) from None
        template = self._condition.template
        self.reads = template.reads
        missing = sorted(template.required.difference(names))
        if missing:
            raise UsageError(f"where: there is no column '{missing[0]}'; there are {', '.join(names)}")

    def holds(self, row: dict[str, Any]) -> bool:
        """Return whether it is true for a result. Raises `UsageError` if that can't be told."""
        try:
            return self._condition.holds(row)
        except BadRowError as error:
            raise UsageError(
                f"{error}; it must hold or not for each result, also for those without an answer:"
                " \"{{ status == 'ok' and answer.stars > 3 }}\""
            ) from None


class Selection(msgspec.Struct, frozen=True):
    """Columns as in `Chosen`, and a condition in `{{ … }}`. None for all."""

    columns: tuple[str, ...] | None = None
    where: str | None = None

    def of(self, schema: Any) -> Chosen:
        """Return what is chosen of results with this schema. Raises `UsageError`."""
        test = None if self.where is None else _Where(self.where, schema.names)
        return Chosen(schema, self.columns, test)
