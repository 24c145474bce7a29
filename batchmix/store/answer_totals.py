"""Adds up how the answers of a job with a schema fared: valid at once, healed, repaired, or lost."""

from __future__ import annotations

import enum
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import msgspec

from batchmix.answers.typed import INVALID
from batchmix.records import Status

_MAX_PATHS = 50
"""The number of paths that are counted by themselves. A schema without fixed keys could bring a new one each time."""
OTHER_PATHS = "other"
"""Stands for all paths beyond the first ones. No JSON pointer reads like this, since each begins with a slash."""
_INDEX = re.compile(r"/[0-9]+(?=/|$)")
_CHECKED = ("model", "status", "healed", "repairs", "error_type", "error_code", "cost_usd")


class Fared(enum.StrEnum):
    """How the answer of a finished row fared. The values are the names of counts in `AnswerTotals`."""

    VALID = "valid"
    HEALED = "healed"
    REPAIRED = "repaired"
    LOST = "lost"

    @classmethod
    def of(cls, *, healed: bool | None, repairs: int | None, error_type: str | None = None) -> Fared | None:
        """Return how the answer of a row fared, given three of its columns. None if it was not checked."""
        if error_type == INVALID:
            return cls.LOST
        if healed is None or repairs is None:
            return None
        return cls.REPAIRED if repairs else cls.HEALED if healed else cls.VALID


class AnswerTotals(msgspec.Struct):
    """The checked answers of one model.

    The first fields are sums over result rows. The others count what no row holds: a row has its last answer only.
    """

    valid: int = 0
    """The number of rows whose first answer fits the schema as it is."""
    healed: int = 0
    """The number of rows whose first answer fits once more than plain JSON was cleared away."""
    repaired: int = 0
    """The number of rows that have a valid answer after further requests."""
    lost: int = 0
    """The number of rows that have ended without a valid answer, failed or kept."""
    lost_paths: dict[str, int] = {}
    """The number of lost rows, by the path at which their last answer is wrong."""
    kept_repairs: int = 0
    """The number of lost rows that took further requests and hold their last answer with its cost."""
    last_repairs_usd: float = 0.0
    """The cost of the answers of repaired and kept rows that took further requests."""
    invalid_paths: dict[str, int] = {}
    """The number of all invalid answers, by the path at which they are wrong."""
    earlier_repairs: int = 0
    """The number of invalid answers to further requests that no row holds with their cost."""
    earlier_repairs_usd: float = 0.0
    """The cost of these answers, as far as prices are known."""

    @property
    def repairs(self) -> int:
        """The number of answers to further requests, each made because an answer was invalid."""
        return self.repaired + self.kept_repairs + self.earlier_repairs

    @property
    def repairs_usd(self) -> float:
        """The cost of the answers to further requests, as far as prices are known."""
        return self.last_repairs_usd + self.earlier_repairs_usd

    @property
    def beside_rows(self) -> AnswerTotals:
        """The part that no result row contains."""
        return AnswerTotals(
            invalid_paths=dict(self.invalid_paths),
            earlier_repairs=self.earlier_repairs,
            earlier_repairs_usd=self.earlier_repairs_usd,
        )

    def add(self, other: AnswerTotals) -> None:
        """Add the totals of another part of the run, or of another model."""
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for path, number in other.lost_paths.items():
            _count(self.lost_paths, path, number)
        for path, number in other.invalid_paths.items():
            _count(self.invalid_paths, path, number)

    def count(self, fared: Fared) -> None:
        """Add a finished row."""
        setattr(self, fared, getattr(self, fared) + 1)

    def add_invalid(self, path: str) -> None:
        """Add an invalid answer that is wrong at `path`."""
        _count(self.invalid_paths, general(path))

    def add_earlier_repair(self, usd: float | None, number: int = 1) -> None:
        """Add an invalid answer to a further request, or take it back (-1). `usd` is None if the price is unknown."""
        self.earlier_repairs += number
        self.earlier_repairs_usd += number * (usd or 0.0)

    def add_rows(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """Add result rows, each given as the values of the columns in `_CHECKED`."""
        for _, status, healed, repairs, error_type, error_code, usd in rows:
            fared = Fared.of(healed=healed, repairs=repairs, error_type=error_type)
            if fared:
                self.count(fared)
            if fared is Fared.LOST:
                _count(self.lost_paths, general(error_code or ""))
                self.kept_repairs += status == Status.OK and repairs > 0
            if status == Status.OK and repairs and usd is not None:
                self.last_repairs_usd += usd

    def as_json(self, *, is_priced: bool) -> dict[str, Any]:
        """Return the totals for `summary.json`. Without `is_priced`, the cost is unknown."""
        return {
            **{name.value: getattr(self, name) for name in Fared},
            "lost_paths": _most_first(self.lost_paths),
            "invalid_paths": _most_first(self.invalid_paths),
            "repairs": self.repairs,
            "repairs_usd": self.repairs_usd if is_priced else None,
        }


_SUMS = (
    "valid", "healed", "repaired", "lost", "kept_repairs", "last_repairs_usd", "earlier_repairs", "earlier_repairs_usd",
)  # fmt: skip


def totals_of(parts: Iterable[AnswerTotals | None]) -> AnswerTotals | None:
    """Return the sum of the totals of several models. None if none has any."""
    known = [part for part in parts if part is not None]
    whole = AnswerTotals()
    for part in known:
        whole.add(part)
    return whole if known else None


def answers_as_json(answers: Mapping[str, AnswerTotals], priced: Collection[str]) -> dict[str, Any]:
    """Return the totals of all models and of each for `summary.json`. `priced` are the models with a known price."""
    whole = totals_of(answers.values()) or AnswerTotals()
    models = {model: of_model.as_json(is_priced=model in priced) for model, of_model in sorted(answers.items())}
    return whole.as_json(is_priced=bool(priced)) | {"models": models}


def checked_rows(columns: Mapping[str, tuple[Any, ...]]) -> dict[str, list[tuple[Any, ...]]]:
    """Return what `AnswerTotals.add_rows` takes, by model, given the values of each column of some rows."""
    by_model: dict[str, list[tuple[Any, ...]]] = {}
    for row in zip(*(columns[name] for name in _CHECKED), strict=True):
        by_model.setdefault(row[0], []).append(row)
    return by_model


def general(path: str) -> str:
    """Return a JSON pointer with `*` for each position in a list, so that equal mistakes have equal paths."""
    return _INDEX.sub("/*", path)


def shown_path(path: str) -> str:
    """Return a path as the summary shows it."""
    return "other places" if path == OTHER_PATHS else path or "the whole answer"


def _count(paths: dict[str, int], path: str, number: int = 1) -> None:
    name = path if path in paths or len(paths) < _MAX_PATHS else OTHER_PATHS
    paths[name] = paths.get(name, 0) + number


def _most_first(paths: dict[str, int]) -> dict[str, int]:
    return dict(Counter(paths).most_common())
