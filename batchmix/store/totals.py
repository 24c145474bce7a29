"""Totals of results: what a part's footer, `status` and `summary.json` add up."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from batchmix.records import Completion, Tokens, Usage


class FailureCount(msgspec.Struct):
    """One kind of failure: how often, and one example to read."""

    count: int
    row: int
    message: str


class EstimatedUsage(msgspec.Struct, frozen=True, gc=False):
    """What answers are taken for that have no cost of their own; added up like numbers."""

    answers: int = 0
    tokens: Tokens = Tokens()
    beside: int = 0
    """Of the tokens, how many stand in no `total_tokens`."""

    @staticmethod
    def of(answer: Completion, prompt_tokens: int) -> EstimatedUsage:
        """Return what an answer without a whole usage is taken for, by an estimate of its prompt."""
        tokens = answer.tokens(prompt_tokens)
        return EstimatedUsage(1, tokens, tokens.prompt + tokens.completion - (answer.usage.total_tokens or 0))

    def __add__(self, other: EstimatedUsage) -> EstimatedUsage:
        """Return a sum."""
        return EstimatedUsage(self.answers + other.answers, self.tokens + other.tokens, self.beside + other.beside)


class Cost(msgspec.Struct):
    """What one model's results cost."""

    usd: float = 0.0
    """Of the answers that have a price."""
    priced: int = 0
    """How many these are."""
    maybe_usd: float = 0.0
    """Of attempts that may have been billed beside the answers, at what their rows' answers cost."""
    maybe_unpriced: int = 0
    """Such attempts of rows that have no priced answer."""
    retries: int = 0
    """Attempts that were billed, by the usage they came with, although they held no answer."""
    retries_usd: float = 0.0
    """Of these, as far as there is a price."""
    retries_unpriced: int = 0
    """Of these, how many have none."""
    retries_tokens: int = 0
    """Of these, prompts and answers."""
    unreported: EstimatedUsage = msgspec.field(default=EstimatedUsage(), name="untold")
    """Of answers without a whole usage, by estimates."""
    unpriced: EstimatedUsage = EstimatedUsage()
    """Of answers with a whole usage that no price is known for."""
    lost: Tokens = Tokens()
    """Of attempts that may have been billed beside the answers, by estimates of their requests."""

    @property
    def billed_retries_usd(self) -> float | None:
        """What was billed for attempts that held no answer; None: the model has no price, as far as is seen."""
        return self.retries_usd if self.priced or self.retries > self.retries_unpriced else None

    @property
    def beside_rows(self) -> Cost:
        """The part of this that stands in no result row."""
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
        """What may have been billed beside the answers; what nobody knows is taken for an average answer."""
        if not self.priced:
            return None
        return self.maybe_usd + self.maybe_unpriced * self.usd / self.priced

    def add(self, other: Cost) -> None:
        """Add another part of the run."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def add_estimates(self, unreported: EstimatedUsage, lost: Tokens) -> None:
        """Add what is known of a row's usage by estimates only."""
        self.unreported += unreported
        self.lost += lost

    def retry(self, usd: float | None, usage: Usage) -> None:
        """Add an attempt that was billed although it held no answer."""
        self.retries += 1
        self.retries_usd += usd or 0.0
        self.retries_unpriced += usd is None
        self.retries_tokens += (usage.prompt_tokens or 0) + (usage.completion_tokens or 0)

    def row(self, usd: float | None, maybe_billed: int) -> None:
        """Add a result row, or what is known of one so far."""
        if usd is not None:
            self.usd += usd
            self.priced += 1
            self.maybe_usd += usd * maybe_billed
        else:
            self.maybe_unpriced += maybe_billed


class Totals(msgspec.Struct):
    """Sums over result rows. Token sums leave out rows whose usage the provider did not tell."""

    ok: int = 0
    failed: int = 0
    rejected: int = 0
    reused: int = 0
    """Answers that were taken from other runs; their tokens are in no sum here."""
    attempts: int = 0
    maybe_billed: int = 0
    """Attempts that were sent and whose end was never heard, or held under a 200 neither an answer nor its usage."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    cost_usd: float | None = None
    """None: no answer has a price."""
    unpriced: int = 0
    """Answers without a price."""
    first_sent_ms: int | None = None
    last_finished_ms: int | None = None
    failures: dict[str, FailureCount] = {}
    models: dict[str, dict[str, int]] = {}
    """Rows by status for each model."""
    costs: dict[str, Cost] = {}
    """For each model."""

    @property
    def ended(self) -> int:
        """Results of any status."""
        return self.ok + self.failed + self.rejected

    @property
    def maybe_billed_usd(self) -> float | None:
        """What may have been billed beside the answers; None: no model has a price."""
        known = [usd for cost in self.costs.values() if (usd := cost.maybe_billed_usd) is not None]
        return sum(known) if known else None

    @property
    def billed_retries(self) -> int:
        """Attempts that were billed, by the usage they came with, although they held no answer."""
        return sum(cost.retries for cost in self.costs.values())

    @property
    def billed_retries_usd(self) -> float | None:
        """What these cost; None: no model has a price."""
        known = [usd for cost in self.costs.values() if (usd := cost.billed_retries_usd) is not None]
        return sum(known) if known else None

    def cost(self, model: str) -> Cost:
        """Return what stands for a model, to be added to."""
        return self.costs.setdefault(model, Cost())

    def add(self, other: Totals) -> None:
        """Add another part of the run."""
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        if other.cost_usd is not None:
            self.cost_usd = (self.cost_usd or 0.0) + other.cost_usd
        self.add_times((other.first_sent_ms,), (other.last_finished_ms,))
        for kind, failures in other.failures.items():
            self.fail(kind, failures.row, failures.message, failures.count)
        for model, counts in other.models.items():
            for status, count in counts.items():
                self.count(model, status, count)
        for model, cost in other.costs.items():
            self.cost(model).add(cost)

    def add_times(self, sent_ms: Iterable[int | None], finished_ms: Iterable[int | None]) -> None:
        """Widen the span from the first request sent to the last answer."""
        self.first_sent_ms = min(_known(self.first_sent_ms, *sent_ms), default=None)
        self.last_finished_ms = max(_known(self.last_finished_ms, *finished_ms), default=None)

    def count(self, model: str, status: str, number: int = 1) -> None:
        """Count results of a model (not in the sums of the whole)."""
        counts = self.models.setdefault(model, {})
        counts[status] = counts.get(status, 0) + number

    def fail(self, kind: str, row: int, message: str, number: int = 1) -> None:
        """Count failures of a kind; the first row of each kind is its example."""
        known = self.failures.get(kind)
        if known is None:
            self.failures[kind] = FailureCount(number, row, message)
            return
        known.count += number
        if row < known.row:
            known.row, known.message = row, message


COUNTS = (
    "prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens",
)  # fmt: skip
"""Of tokens, as result columns have them too."""
_SUMS = ("ok", "failed", "rejected", "reused", "attempts", "maybe_billed", "unpriced", *COUNTS)


def _known(*values: int | None) -> list[int]:
    return [value for value in values if value is not None]
