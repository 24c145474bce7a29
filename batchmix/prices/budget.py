"""The cap on a run: what was spent, and what is in flight at its estimate.

A request is admitted only while all that was spent, all that is in flight and it itself fit under the cap. So the cap
is passed by no more than what the requests in flight turn out larger than was estimated. Estimates are learned: the
mean of the answers so far, drawn towards the most that the request allows while there are few.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from batchmix.errors import BudgetSpent
from batchmix.formats.amounts import usd
from batchmix.job import Budget
from batchmix.prices.cost import Prices
from batchmix.records import UNKNOWN_COMPLETION, Completion, Exchange, Failure, Key, Request

_PRIOR = 8
"""So many answers weigh as much as what was expected before."""

Amount = tuple[float, float]
"""USD and tokens."""
_NOTHING: Amount = (0.0, 0.0)


class RunBudget:
    """What all lanes of a run spend from; `on_spent` is called once nothing more fits and nothing is in flight."""

    def __init__(self, budget: Budget, spent: Amount, on_spent: Callable[[BudgetSpent], None]) -> None:
        self.spent = spent
        """In all starts; what may have been billed counts."""
        self.held = _NOTHING
        """The estimates of what is in flight."""
        self._caps = (budget.max_usd or math.inf, float(budget.max_tokens or math.inf))
        self._on_spent = on_spent
        self._in_flight = 0
        self._waiting: set[Callable[[], None]] = set()

    def take(self, amount: Amount, wake: Callable[[], None]) -> bool:
        """Hold an amount if it fits; else `wake` is called when something was settled."""
        fits = all(
            spent + held + more <= cap
            for spent, held, more, cap in zip(self.spent, self.held, amount, self._caps, strict=True)
        )
        if fits:
            self.held = _sum(self.held, amount)
            self._in_flight += 1
        elif self._in_flight:
            self._waiting.add(wake)
        else:
            self._on_spent(BudgetSpent(self._message()))
        return fits

    def settle(self, held: Amount, spent: Amount) -> None:
        """Let go of what was held, and count what was spent instead."""
        self._in_flight -= 1
        self.held = _sum(self.held, (-held[0], -held[1])) if self._in_flight else _NOTHING
        self.spent = _sum(self.spent, spent)
        waiting, self._waiting = self._waiting, set()
        for wake in waiting:
            wake()

    def _message(self) -> str:
        (spent_usd, tokens), (most_usd, most_tokens) = self.spent, self._caps
        parts = [f"{usd(spent_usd)} of {usd(most_usd)} (budget.max_usd)"] * (most_usd < math.inf)
        parts += [f"{tokens:,.0f} of {most_tokens:,.0f} tokens (budget.max_tokens)"] * (most_tokens < math.inf)
        return f"the budget has no room for another request: {' and '.join(parts)}; raise it to go on"


class LaneBudget:
    """One lane's share of the run's budget, and what it has learned of its answers."""

    def __init__(self, budget: RunBudget, model: str, prices: Prices) -> None:
        self._budget = budget
        self._model = model
        self._prices = prices
        self._held: dict[Key, Amount] = {}
        self._answers = 0
        self._completion_tokens = 0
        self._prompt_tokens = 0
        self._prompt_estimates = 0
        self._written = float(_PRIOR)

    def admits(self, request: Request, wake: Callable[[], None]) -> bool:
        """Hold what a request will probably cost, if that fits; else `wake` is called when that may have changed."""
        amount = self.estimate(request)
        if not self._budget.take(amount, wake):
            return False
        self._held[request.key] = amount
        return True

    def estimate(self, request: Request) -> Amount:
        """Return what a request will probably cost, by what answers have taught so far."""
        most = math.inf if request.max_tokens is None else request.max_tokens
        before = UNKNOWN_COMPLETION if request.max_tokens is None else request.max_tokens
        completion = (_PRIOR * before + self._completion_tokens) / (_PRIOR + self._answers)
        ratio = self._prompt_tokens / self._prompt_estimates if self._prompt_estimates else 1.0
        prompt = request.prompt_tokens * ratio
        completion = min(completion, most)
        written = prompt * self._written / (_PRIOR + self._answers)
        usd = self._prices.taken_for(self._model, prompt, completion) + self._prices.surcharge(self._model, written)
        return usd, prompt + completion

    def settle(self, request: Request, exchange: Exchange | None, outcome: Completion | Failure | None) -> None:
        """Count what came of a request; both are None where that was never heard."""
        held = self._held.pop(request.key)
        if exchange is None or outcome is None:
            spent = held
        elif outcome.usage is not None:
            answer = outcome if isinstance(outcome, Completion) else Completion(usage=outcome.usage)
            spent = self._prices.counted(self._model, exchange.served_model, answer, request.prompt_tokens)
        else:
            spent = held if exchange.maybe_billed or outcome.maybe_billed else _NOTHING
        if isinstance(outcome, Completion):
            self._learn(request, outcome)
        self._budget.settle(held, spent)

    def _learn(self, request: Request, answer: Completion) -> None:
        tokens = answer.tokens(request.prompt_tokens)
        self._answers += 1
        self._completion_tokens += tokens.completion
        self._prompt_tokens += tokens.prompt
        self._prompt_estimates += request.prompt_tokens
        self._written += (answer.usage.cache_write_tokens or 0) / max(1, tokens.prompt)


def _sum(one: Amount, other: Amount) -> Amount:
    return one[0] + other[0], one[1] + other[1]
