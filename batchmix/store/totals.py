"""Adds up results, for a part's footer, for `status` and for `summary.json`."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec

from batchmix.records import SKIPPED, Status, Tokens, Usage
from batchmix.store.answer_totals import AnswerTotals, checked_rows
from batchmix.store.usage_totals import CacheTotals, EstimatedUsage, cache_totals


class FailureCount(msgspec.Struct):
    """The number of failures of one type, and an example."""

    count: int
    row: int
    message: str


class Cost(msgspec.Struct):
    """The cost of one model's results."""

    usd: float = 0.0
    """The cost of the answers that have a price."""
    priced: int = 0
    """The number of answers that have a price."""
    maybe_usd: float = 0.0
    """The cost of attempts that may have been billed in addition to an answer, each at the cost of that answer."""
    maybe_unpriced: int = 0
    """The number of attempts that may have been billed for rows without a priced answer."""
    retries: int = 0
    """Number of attempts without an answer whose usage says that they were billed."""
    retries_usd: float = 0.0
    """The cost of the billed attempts without an answer, as far as prices are known."""
    retries_unpriced: int = 0
    """The number of billed attempts without an answer whose price is unknown."""
    retries_tokens: int = 0
    """The prompt and completion tokens of the billed attempts without an answer."""
    unreported: EstimatedUsage = msgspec.field(default=EstimatedUsage(), name="untold")
    """The estimated usage of answers that did not report a complete usage."""
    unpriced: EstimatedUsage = EstimatedUsage()
    """The usage of answers with a complete usage whose price is unknown."""
    lost: Tokens = Tokens()
    """The estimated tokens of attempts that may have been billed in addition to the answers."""
    cache: CacheTotals = CacheTotals()
    """The answers that used a prompt cache."""

    @property
    def billed_retries_usd(self) -> float | None:
        """The cost of billed attempts without an answer. None if no result shows that the model has a price."""
        return self.retries_usd if self.has_price else None

    @property
    def has_price(self) -> bool:
        """Whether any result or billed attempt shows that the model has a price."""
        return self.priced > 0 or self.retries > self.retries_unpriced

    @property
    def beside_rows(self) -> Cost:
        """The part of the cost that no result row contains."""
        return Cost(
            retries=self.retries,
            retries_usd=self.retries_usd,
            retries_unpriced=self.retries_unpriced,
            retries_tokens=self.retries_tokens,
            unreported=self.unreported,
            lost=self.lost,
        )

    @property
    def maybe_billed_usd(self) -> float | None:
        """The cost that may have been billed in addition to the answers. None if no answer has a price.

        An attempt of unknown cost counts like an average answer.
        """
        if not self.priced:
            return None
        return self.maybe_usd + self.maybe_unpriced * self.usd / self.priced

    def add(self, other: Cost) -> None:
        """Add the cost of another part of the run."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def add_estimates(self, unreported: EstimatedUsage, lost: Tokens) -> None:
        """Add estimates of usage that was not reported."""
        self.unreported += unreported
        self.lost += lost

    def add_retry(self, usd: float | None, usage: Usage, number: int = 1) -> None:
        """Add an attempt billed without an answer, or take it back (-1). `usd` is None if the price is unknown."""
        self.retries += number
        self.retries_usd += number * (usd or 0.0)
        self.retries_unpriced += number * (usd is None)
        self.retries_tokens += number * ((usage.prompt_tokens or 0) + (usage.completion_tokens or 0))

    def add_row(self, usd: float | None, maybe_billed: int) -> None:
        """Add a result: its cost (None if unknown), and its number of attempts that may have been billed without an
        answer.
        """
        if usd is not None:
            self.usd += usd
            self.priced += 1
            self.maybe_usd += usd * maybe_billed
        else:
            self.maybe_unpriced += maybe_billed


class Totals(msgspec.Struct):
    """Sums over result rows. Token sums leave out rows whose usage was not reported."""

    ok: int = 0
    failed: int = 0
    rejected: int = 0
    reused: int = 0
    """The number of answers from other runs. Their tokens are not included in the sums."""
    attempts: int = 0
    maybe_billed: int = 0
    """The number of attempts without a response, or with a 200 that had neither an answer nor a usage."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    cost_usd: float | None = None
    """None if no answer has a price."""
    unpriced: int = 0
    """The number of answers without a price."""
    first_sent_ms: int | None = None
    last_finished_ms: int | None = None
    failures: dict[str, FailureCount] = {}
    models: dict[str, dict[str, int]] = {}
    """The number of rows with each status, for each model."""
    costs: dict[str, Cost] = {}
    """The cost of each model's results."""
    answers: dict[str, AnswerTotals] | None = None
    """How each model's answers fared in the check by the job's schema. None if the job has no schema."""

    @property
    def finished(self) -> int:
        """The number of results of any status."""
        return self.ok + self.failed + self.rejected

    @property
    def skipped(self) -> int:
        """The number of the rejected results that were not asked for, because the job's condition was false."""
        found = self.failures.get(SKIPPED)
        return found.count if found else 0

    @property
    def as_asked(self) -> int:
        """The number of results that are as they should be: answers, and those that were not asked for."""
        return self.ok + self.skipped

    @property
    def maybe_billed_usd(self) -> float | None:
        """The cost that may have been billed in addition to the answers. None if no model has a price."""
        costs = [usd for cost in self.costs.values() if (usd := cost.maybe_billed_usd) is not None]
        return sum(costs) if costs else None

    @property
    def billed_retries(self) -> int:
        """Number of attempts without an answer whose usage says that they were billed."""
        return sum(cost.retries for cost in self.costs.values())

    @property
    def billed_retries_usd(self) -> float | None:
        """The cost of billed attempts without an answer. None if no model has a price."""
        costs = [usd for cost in self.costs.values() if (usd := cost.billed_retries_usd) is not None]
        return sum(costs) if costs else None

    def cost(self, model: str) -> Cost:
        """Return the cost of a model's results, for adding to it."""
        cost = self.costs.get(model)
        if cost is None:
            cost = self.costs[model] = Cost()
        return cost

    def checked(self, model: str) -> AnswerTotals:
        """Return how a model's answers fared in the check, for adding to it. The job must have a schema."""
        assert self.answers is not None
        return self.answers.setdefault(model, AnswerTotals())

    def add(self, other: Totals) -> None:
        """Add the totals of another part of the run."""
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        if other.cost_usd is not None:
            self.cost_usd = (self.cost_usd or 0.0) + other.cost_usd
        self.add_times((other.first_sent_ms,), (other.last_finished_ms,))
        for type_, failures in other.failures.items():
            self.add_failures(type_, failures.row, failures.message, failures.count)
        for model, counts in other.models.items():
            for status, count in counts.items():
                self.count(model, status, count)
        for model, cost in other.costs.items():
            self.cost(model).add(cost)
        if self.answers is not None:
            for model, answers in (other.answers or {}).items():
                self.checked(model).add(answers)

    def add_columns(self, columns: dict[str, tuple[Any, ...]]) -> None:
        """Add result rows, given as the values of each column."""
        runs = columns["reused_from"]
        reused = len(runs) - runs.count(None)
        paid = _paid(columns) if reused else columns
        self.reused += reused
        self.attempts += sum(columns["attempts"])  # a row may have been sent before its answer was reused
        self.maybe_billed += sum(columns["maybe_billed"])
        for name in COUNTS:
            setattr(self, name, getattr(self, name) + sum(filter(None, paid[name])))
        for (model, status), count in Counter(zip(columns["model"], columns["status"], strict=True)).items():
            setattr(self, status, getattr(self, status) + count)
            self.count(model, status, count)
        costs = [cost for cost in paid["cost_usd"] if cost is not None]
        if costs:
            self.cost_usd = (self.cost_usd or 0.0) + sum(costs)
        unpriced = columns["status"].count(Status.OK) - reused - len(costs)
        if unpriced:
            self.unpriced += unpriced
            self._add_unpriced(columns)
        if costs or any(columns["maybe_billed"]):
            for model, usd, lost, run in zip(*(columns[name] for name in _COSTLY), strict=True):
                if (run is None and usd is not None) or lost:
                    self.cost(model).add_row(usd if run is None else None, lost)
        for model, used in cache_totals(paid).items():
            self.cost(model).cache += used
        if self.answers is not None:
            for model, rows in checked_rows(columns).items():
                self.checked(model).add_rows(rows)
        self.add_times(columns["sent_at"], columns["finished_at"])
        if columns["status"].count(Status.OK) < len(runs):
            for row, status, type_, message in zip(*(columns[name] for name in _FAILURE), strict=True):
                if status != Status.OK:
                    self.add_failures(type_, row, message)

    def _add_unpriced(self, columns: dict[str, tuple[Any, ...]]) -> None:
        """Add answers with a usage whose price is unknown."""
        sums: dict[str, tuple[int, int, int]] = {}
        for model, status, run, usd, prompt, completion in zip(*(columns[name] for name in _UNPRICED), strict=True):
            if status == Status.OK and run is None and usd is None and prompt is not None and completion is not None:
                answers, prompts, completions = sums.get(model, (0, 0, 0))
                sums[model] = answers + 1, prompts + prompt, completions + completion
        for model, (answers, prompts, completions) in sums.items():
            self.cost(model).unpriced += EstimatedUsage(answers, Tokens(prompts, completions))

    def set_attempts(self, attempts: int, maybe_billed: int) -> None:
        """Replace the counts of attempts with counts that include unfinished rows."""
        self.attempts, self.maybe_billed = attempts, maybe_billed

    def add_times(self, sent_ms: Iterable[int | None], finished_ms: Iterable[int | None]) -> None:
        """Extend the time span between the first request and the last answer by these times."""
        self.first_sent_ms = min(_not_none(self.first_sent_ms, *sent_ms), default=None)
        self.last_finished_ms = max(_not_none(self.last_finished_ms, *finished_ms), default=None)

    def count(self, model: str, status: str, number: int = 1) -> None:
        """Count results of a model with a status. The sums over all models do not change."""
        counts = self.models.setdefault(model, {})
        counts[status] = counts.get(status, 0) + number

    def add_failures(self, type_: str, row: int, message: str, number: int = 1) -> None:
        """Count failures of a type. The failure of the first row is the example."""
        counted = self.failures.get(type_)
        if counted is None:
            self.failures[type_] = FailureCount(number, row, message)
            return
        counted.count += number
        if row < counted.row:
            counted.row, counted.message = row, message


COUNTS = (
    "prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens",
)  # fmt: skip
"""Token counts, by the names of the result columns."""
_SUMS = ("ok", "failed", "rejected", "reused", "attempts", "maybe_billed", "unpriced", *COUNTS)
_COSTLY = ("model", "cost_usd", "maybe_billed", "reused_from")
_UNPRICED = ("model", "status", "reused_from", "cost_usd", "prompt_tokens", "completion_tokens")
_FAILURE = ("row", "status", "error_type", "error_message")


def _paid(columns: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
    """Return the columns without the rows whose answers were reused."""
    rows = [run is None for run in columns["reused_from"]]
    return {name: tuple(itertools.compress(values, rows)) for name, values in columns.items()}


def _not_none(*values: int | None) -> list[int]:
    return [value for value in values if value is not None]
