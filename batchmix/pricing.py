"""Where a run's prices come from, and that they stay what they were."""

from __future__ import annotations

from threading import Thread

from batchmix.errors import JobError
from batchmix.job import Job, Model, Price
from batchmix.send.catalogue import Catalogue, get_catalogue, has_catalogue
from batchmix.send.price_list import listed_price
from batchmix.send.prices import Prices
from batchmix.store.rundir import RunFile
from batchmix.store.view import View


class Quotes:
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


def spent(view: View) -> tuple[float, float]:
    """Return the USD and tokens that a run has used; what nobody knows counts as an average answer."""
    totals = view.totals
    usd = totals.cost_usd or 0.0
    lost = len(view.in_flight)  # this process has sent nothing yet: they are those of one that was killed
    answers = totals.ok - totals.reused
    each_usd = usd / max(1, answers - totals.unpriced)
    each_tokens = totals.total_tokens / max(1, answers)
    unpriced = lost + totals.unpriced + sum(cost.retries_unpriced for cost in totals.costs.values())
    retries_tokens = sum(cost.retries_tokens for cost in totals.costs.values())
    usd += (totals.billed_retries_usd or 0.0) + (totals.maybe_billed_usd or 0.0) + unpriced * each_usd
    return usd, totals.total_tokens + retries_tokens + (totals.maybe_billed + lost) * each_tokens
