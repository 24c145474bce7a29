"""Where a run's prices come from, and that they stay what they were."""

from __future__ import annotations

from threading import Thread

from batchmix.errors import JobError
from batchmix.job import Job, Model, Price
from batchmix.prices.catalogue import Catalogue, get_catalogue, has_catalogue
from batchmix.prices.cost import Prices
from batchmix.prices.genai_prices import listed_price
from batchmix.store.run_folder import RunFile
from batchmix.store.totals import Cost
from batchmix.store.view import View


class PriceLookup:
    """The prices of a job's models, looked for while something else is done.

    The job's own go before those of the run's first start (so that a resume counts as the start did), those before
    the gateway's catalogue, and that before the package genai-prices. The catalogue is asked only where a model has
    no price yet. A stand-in gives its `own` catalogue, as the gateway would.
    """

    def __init__(self, job: Job, known: RunFile | None, own: Catalogue | None = None) -> None:
        self._base_url = job.provider.base_url
        self._budget = job.budget
        self._rehearsal = job.provider.rehearsal
        self._told = (known.prices if known else {}) | job.prices
        self._told |= {model.name: model.price for model in job.models if model.price}
        ids = [model.id for model in job.models] or (known.models if known else [])
        self._catalogue = own
        self._asking = Thread(target=self._ask, daemon=True)  # an input that is refused does not wait for it
        if has_catalogue(self._base_url) and (not ids or any(name not in self._told for name in ids)):
            self._asking.start()

    def settled(self, models: tuple[Model, ...]) -> dict[str, Price]:
        """Return the prices that are known, by entry or model id.

        Raises `JobError` for a model that there is not, and for one without a price where USD are capped.
        """
        prices = self._found(models)
        known = Prices(prices, models)
        unpriced = [model.name for model in models if known.of(model.name) is None]
        if unpriced and self._budget.max_usd is not None:
            raise JobError(
                f"budget.max_usd: no price is known for {unpriced[0]}; give one under [prices], or cap tokens with"
                " budget.max_tokens"
            )
        return prices

    def _found(self, models: tuple[Model, ...]) -> dict[str, Price]:
        unpriced = [model.id for model in models if not {model.name, model.id} & self._told.keys()]
        if not unpriced:
            return self._told
        if self._asking.ident is not None:
            self._asking.join()
        catalogue = self._catalogue
        if catalogue:
            catalogue.check(unpriced)
        offered = catalogue.prices if catalogue else {}
        listed = {} if self._rehearsal else {name: self._listed(name) for name in unpriced if name not in offered}
        return {name: price for name, price in listed.items() if price} | offered | self._told

    def _ask(self) -> None:
        self._catalogue = get_catalogue(self._base_url)

    def _listed(self, model: str) -> Price | None:
        return listed_price(model, self._base_url)


def spent(view: View, prices: Prices) -> tuple[float, float]:
    """Return the USD and tokens that a run has used, by the account in its folder.

    Answers and attempts whose usage nobody told are taken for what the budget took them for when they came; of what
    was never heard of again, each counts as an average answer, or by its request where there is no answer to go by.
    It is never less than an earlier start came to: answers that have been replaced since were paid for too.
    """
    totals = view.totals
    usd = tokens = 0.0
    for model, cost in totals.costs.items():
        usd += cost.usd + cost.retries_usd + _dearest(prices.of(model), cost)
        unknown = cost.untold.tokens + cost.unpriced.tokens
        usd += prices.taken_for(model, unknown.prompt, unknown.completion)
        known = cost.maybe_billed_usd
        asked = prices.taken_for(model, cost.lost.prompt, cost.lost.completion)
        usd += asked + prices.surcharge(model, cost.lost.prompt) if known is None else known
        tokens += cost.retries_tokens + cost.untold.beside
    answers = totals.ok - totals.reused
    unheard = totals.maybe_billed * totals.total_tokens / answers if answers else 0.0
    lost = sum(cost.lost.prompt + cost.lost.completion for cost in totals.costs.values())
    counted = sum(cost.untold.answers + cost.unpriced.answers for cost in totals.costs.values())
    usd += max(0, totals.unpriced - counted) * (totals.cost_usd or 0.0) / max(1, answers - totals.unpriced)
    tokens += totals.total_tokens + (unheard or lost)
    return tuple(map(max, (usd, tokens), *(start.spent for start in view.run.starts)))


def _dearest(price: Price | None, cost: Cost) -> float:
    """Return the most that retries cost of which the tokens are known and not the price."""
    if price is None or not cost.retries_unpriced:
        return 0.0
    return cost.retries_tokens / cost.retries * cost.retries_unpriced * max(price.input, price.output) / 1e6
