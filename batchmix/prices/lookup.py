"""Looks up the prices of a run's models at its first start. Later starts use the same prices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from threading import Thread

from batchmix.errors import JobError
from batchmix.job import CheckedJob, Model, Price
from batchmix.prices.catalogue import Catalogue, get_catalogue, has_catalogue
from batchmix.prices.cost import Prices
from batchmix.prices.genai_prices import listed_price


class PriceLookup:
    """The prices of a job's models, looked up in a thread while the input is read.

    A price comes from the first of these that has it: the job, the run's first start (`earlier`), the gateway's
    catalogue, the package genai-prices. The catalogue is fetched only if a model has no price yet, or if
    the job's schema may be sent in `response_format`, which not all models support. `models` are the
    model ids of an earlier start, for a job whose rows name the models. `catalogue` is the rehearsal provider's, and
    replaces the gateway's.
    """

    def __init__(
        self,
        job: CheckedJob,
        earlier: Mapping[str, Price] | None = None,
        models: Sequence[str] = (),
        catalogue: Catalogue | None = None,
    ) -> None:
        self._base_url = job.provider.base_url
        self._budget = job.budget
        self._rehearsal = job.provider.rehearsal
        self._given = {**(earlier or {}), **job.prices}
        self._given |= {model.name: model.price for model in job.models if model.price}
        ids = [model.id for model in job.models] or models
        self._catalogue = catalogue
        self._fetching = Thread(target=self._fetch, daemon=True)  # the program may end before it does, on invalid input
        if has_catalogue(self._base_url) and (
            not ids
            or any(name not in self._given for name in ids)
            or (job.answer and job.answer.send in {"auto", "response_format"})
        ):
            self._fetching.start()

    def catalogue(self) -> Catalogue | None:
        """Wait for the lookup, and return the catalogue. None if there is none, or if it was not needed."""
        if self._fetching.ident is not None:
            self._fetching.join()
        return self._catalogue

    def settled(self, models: tuple[Model, ...]) -> dict[str, Price]:
        """Wait for the lookup, and return all prices by the name of the job's model entry or by model id.

        Raises `JobError` if a model does not exist, or if a model has no price although the budget is in USD.
        """
        known = self._known(models)
        prices = Prices(known, models)
        unpriced = [model.name for model in models if prices.price_of(model.name) is None]
        if unpriced and self._budget.max_usd is not None:
            raise JobError(
                f"budget.max_usd: no price is known for {unpriced[0]}; give one under [prices], or cap tokens with"
                " budget.max_tokens"
            )
        return known

    def _known(self, models: tuple[Model, ...]) -> dict[str, Price]:
        unpriced = [model.id for model in models if not {model.name, model.id} & self._given.keys()]
        if not unpriced:
            return self._given
        catalogue = self.catalogue()
        if catalogue:
            catalogue.check(unpriced)
        published = catalogue.prices if catalogue else {}
        missing = () if self._rehearsal else (name for name in unpriced if name not in published)
        packaged = {name: price for name in missing if (price := listed_price(name, self._base_url))}
        return packaged | published | self._given

    def _fetch(self) -> None:
        self._catalogue = get_catalogue(self._base_url)
