"""Keeps a run within its budget in USD and in tokens.

A request is admitted only if its estimated cost, the estimates of all requests in flight, and the amount spent so far
together stay within the budget. The run can therefore exceed its budget only by the amount by which the requests in
flight cost more than estimated. A request's estimate is based on the mean of the completions so far. Before the first
completion, it assumes a completion as long as the request's `max_tokens` allows.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable

from batchmix.errors import BudgetSpent
from batchmix.formats.amounts import usd
from batchmix.job import Budget
from batchmix.prices.cost import Prices
from batchmix.records import UNKNOWN_COMPLETION, Completion, Exchange, Failure, Key, Request

_PRIOR = 8
"""The first estimate weighs as much as this many completions."""

Amount = tuple[float, float]
"""An amount in USD and in tokens."""
_NOTHING: Amount = (0.0, 0.0)


class Purse:
    """One step's share in the budget of a whole chain, whose steps spend it in a thread each.

    `held` has for each step a function that returns what the step has spent and reserved. All steps share it.
    """

    def __init__(self, held: list[Callable[[], Amount]], step: int, lock: threading.Lock) -> None:
        self.lock = lock
        """To be held while a step reserves an amount, so that two don't take the same room."""
        self._held = held
        self._step = step

    @property
    def others(self) -> Amount:
        """What all other steps have spent and reserved."""
        total = _NOTHING
        for step, held in enumerate(self._held):
            total = total if step == self._step else _sum(total, held())
        return total

    def open(self, held: Callable[[], Amount]) -> None:
        """Count what the step holds from now on."""
        self._held[self._step] = held


class RunBudget:
    """The budget that all lanes of a run share.

    `on_spent` is called when a request does not fit although no other request of the run is in flight. `purse` is what
    it shares with the other steps of its chain.
    """

    def __init__(
        self, budget: Budget, spent: Amount, on_spent: Callable[[BudgetSpent], None], purse: Purse | None = None
    ) -> None:
        self.spent = spent
        """The amount spent in all starts of the run, including attempts that may have been billed."""
        self.reserved = _NOTHING
        """The sum of the estimates of the requests in flight."""
        self._caps = (budget.max_usd or math.inf, float(budget.max_tokens or math.inf))
        self._on_spent = on_spent
        self._in_flight = 0
        self._waiting: set[Callable[[], None]] = set()
        self._purse = purse
        if purse:
            purse.open(lambda: _sum(self.spent, self.reserved))

    def take(self, amount: Amount, wake: Callable[[], None]) -> bool:
        """Reserve an amount for a request, and return whether the budget has room for it.

        If it has none, `wake` is called once another request is settled. If no other request is in flight, the budget
        is spent.
        """
        with self._purse.lock if self._purse else contextlib.nullcontext():
            fits = self._fits(amount)
            if fits:
                self.reserved = _sum(self.reserved, amount)
        if fits:
            self._in_flight += 1
        elif self._in_flight:
            self._waiting.add(wake)
        else:
            self._on_spent(BudgetSpent(self._message()))
        return fits

    def _fits(self, amount: Amount) -> bool:
        others = self._purse.others if self._purse else _NOTHING
        parts = zip(self.spent, self.reserved, others, amount, self._caps, strict=True)
        return all(spent + reserved + other + more <= cap for spent, reserved, other, more, cap in parts)

    def settle(self, reserved: Amount, spent: Amount) -> None:
        """Replace the amount reserved for a request by the amount that the request cost."""
        self._in_flight -= 1
        self.reserved = _sum(self.reserved, (-reserved[0], -reserved[1])) if self._in_flight else _NOTHING
        self.spent = _sum(self.spent, spent)
        waiting, self._waiting = self._waiting, set()
        for wake in waiting:
            wake()

    def _message(self) -> str:
        spent = _sum(self.spent, self._purse.others) if self._purse else self.spent
        (spent_usd, tokens), (max_usd, max_tokens) = spent, self._caps
        parts = [f"{usd(spent_usd)} of {usd(max_usd)} (budget.max_usd)"] * (max_usd < math.inf)
        parts += [f"{tokens:,.0f} of {max_tokens:,.0f} tokens (budget.max_tokens)"] * (max_tokens < math.inf)
        return f"the budget has no room for another request: {' and '.join(parts)}; raise it to go on"


class LaneBudget:
    """One lane's access to the run's budget. It estimates the cost of requests from the lane's own completions."""

    def __init__(self, budget: RunBudget, model: str, prices: Prices) -> None:
        self._budget = budget
        self._model = model
        self._prices = prices
        self._reserved: dict[Key, Amount] = {}
        self._completions = 0
        self._completion_tokens = 0
        self._prompt_tokens = 0
        self._prompt_estimates = 0
        self._written = float(_PRIOR)

    def admits(self, request: Request, wake: Callable[[], None]) -> bool:
        """Reserve a request's estimated cost, and return whether the budget has room for it.

        If it has none, `wake` is called when there may be room.
        """
        amount = self.estimate(request)
        if not self._budget.take(amount, wake):
            return False
        self._reserved[request.key] = amount
        return True

    def estimate(self, request: Request) -> Amount:
        """Return a request's estimated cost, based on the completions so far."""
        limit = math.inf if request.max_tokens is None else request.max_tokens
        first = UNKNOWN_COMPLETION if request.max_tokens is None else request.max_tokens
        completion = (_PRIOR * first + self._completion_tokens) / (_PRIOR + self._completions)
        ratio = self._prompt_tokens / self._prompt_estimates if self._prompt_estimates else 1.0
        prompt = request.prompt_tokens * ratio
        completion = min(completion, limit)
        written = prompt * self._written / (_PRIOR + self._completions)
        usd = self._prices.estimate_usd(self._model, prompt, completion)
        return usd + self._prices.cache_write_extra_usd(self._model, written), prompt + completion

    def settle(self, request: Request, exchange: Exchange | None, outcome: Completion | Failure | None) -> None:
        """Replace a request's estimated cost by its real cost.

        `exchange` and `outcome` are None if no response arrived.
        """
        reserved = self._reserved.pop(request.key)
        if exchange is None or outcome is None:
            spent = reserved
        elif outcome.usage is not None:
            completion = outcome if isinstance(outcome, Completion) else Completion(usage=outcome.usage)
            spent = self._prices.counted(self._model, exchange.served_model, completion, request.prompt_tokens)
        else:
            spent = reserved if exchange.maybe_billed or outcome.maybe_billed else _NOTHING
        if isinstance(outcome, Completion):
            self._learn(request, outcome)
        self._budget.settle(reserved, spent)

    def _learn(self, request: Request, completion: Completion) -> None:
        tokens = completion.tokens(request.prompt_tokens)
        self._completions += 1
        self._completion_tokens += tokens.completion
        self._prompt_tokens += tokens.prompt
        self._prompt_estimates += request.prompt_tokens
        self._written += (completion.usage.cache_write_tokens or 0) / max(1, tokens.prompt)


def _sum(left: Amount, right: Amount) -> Amount:
    return left[0] + right[0], left[1] + right[1]
