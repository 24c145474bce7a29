"""The money of a run: the cost so far, and whether the account's balance covers the remaining requests."""

from __future__ import annotations

from threading import Thread

from batchmix.engine.rehearsal_setup import rehearsal_behaviour
from batchmix.formats.amounts import usd
from batchmix.job import CheckedJob, Price
from batchmix.prices.balance import get_balance
from batchmix.prices.catalogue import has_catalogue
from batchmix.prices.cost import Prices
from batchmix.redact import Secrets
from batchmix.store.totals import Cost
from batchmix.store.view import View

_TIMEOUT_S = 5.0
"""Timeout of the request for the balance, in seconds."""
_WAIT_S = 2.0
"""Maximum seconds that a start waits for the balance once everything else is ready."""


class BalanceLookup:
    """Looks up the account's balance in a thread, while the input is read."""

    def __init__(self, job: CheckedJob, secrets: Secrets) -> None:
        self._usd: float | None = None
        self._fetching = Thread(target=self._fetch, args=(job.provider.base_url, secrets), daemon=True)
        behaviour = rehearsal_behaviour(job)
        if behaviour is not None:
            self._usd = behaviour.balance_usd if behaviour.balance_usd >= 0 else None
        elif has_catalogue(job.provider.base_url) and secrets.headers:
            self._fetching.start()

    def _fetch(self, base_url: str, secrets: Secrets) -> None:
        self._usd = get_balance(base_url, secrets, _TIMEOUT_S)

    def usd(self) -> float | None:
        """Return the balance. None if the balance is unlimited, is not reported, or did not arrive in time."""
        if self._fetching.ident is not None:
            self._fetching.join(_WAIT_S)
        return self._usd


def shortage(balance_usd: float, bounds: tuple[float | None, float | None], cap: float | None) -> str:
    """Return a warning if the remaining requests may cost more than the balance; otherwise an empty text.

    `bounds` are the lower and the upper bound on their cost, each None if unknown. `cap` is the job's `max_usd`.
    """
    costs = [bound if cap is None else min(bound, cap) for bound in bounds if bound is not None]
    if not costs or max(costs) <= balance_usd:
        return ""
    span = " to ".join(map(usd, dict.fromkeys(costs)))
    more = " and more" if bounds[1] is None else ""
    return (
        f"the balance is {usd(balance_usd)}, and what is left to send costs about {span}{more}; the run will stop when"
        " the money is gone, and go on from there when there is more"
    )


def used_so_far(view: View, prices: Prices) -> tuple[float, float]:
    """Return the USD and the tokens that a run has used, from the answers and attempts recorded in its folder.

    If no usage was reported, it is estimated in the same way as by the budget. An attempt that may have been billed
    without an answer counts as an average answer; if there are no answers, it is estimated from its request. The result
    is never less than at an earlier start, because answers that have been replaced since then were paid too.
    """
    totals = view.totals
    usd = tokens = 0.0
    for model, cost in totals.costs.items():
        usd += cost.usd + cost.retries_usd + _dearest(prices.price_of(model), cost)
        unknown = cost.unreported.tokens + cost.unpriced.tokens
        usd += prices.estimate_usd(model, unknown.prompt, unknown.completion)
        by_average = cost.maybe_billed_usd
        by_request = prices.estimate_usd(model, cost.lost.prompt, cost.lost.completion)
        by_request += prices.cache_write_extra_usd(model, cost.lost.prompt)
        usd += by_request if by_average is None else by_average
        tokens += cost.retries_tokens + cost.unreported.beside
    answers = totals.ok - totals.reused
    by_average = totals.maybe_billed * totals.total_tokens / answers if answers else 0.0
    by_request = sum(cost.lost.prompt + cost.lost.completion for cost in totals.costs.values())
    counted = sum(cost.unreported.answers + cost.unpriced.answers for cost in totals.costs.values())
    usd += max(0, totals.unpriced - counted) * (totals.cost_usd or 0.0) / max(1, answers - totals.unpriced)
    tokens += totals.total_tokens + (by_average or by_request)
    return tuple(map(max, (usd, tokens), *(start.spent for start in view.run.starts)))


def _dearest(price: Price | None, cost: Cost) -> float:
    """Return an upper bound on the cost of billed retries that have no price of their own.

    Only their number of tokens is known, so each token is charged at the higher of the two prices.
    """
    if price is None or not cost.retries_unpriced:
        return 0.0
    return cost.retries_tokens / cost.retries * cost.retries_unpriced * max(price.input, price.output) / 1e6
