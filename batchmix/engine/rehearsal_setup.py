"""Sets up the rehearsal provider for a run: a local server that stands in for a real provider."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import msgspec

from batchmix.errors import JobError
from batchmix.job import REHEARSAL, CheckedJob
from batchmix.prices.catalogue import Catalogue, read_catalogue

if TYPE_CHECKING:
    from batchmix.rehearsal import Behaviour, Rehearsal


def rehearsal_behaviour(job: CheckedJob) -> Behaviour | None:
    """Return the behaviour that the job's rehearsal URL sets; None for a real provider. Raises `JobError`."""
    if not job.provider.rehearsal:
        return None
    from batchmix.rehearsal import Behaviour  # imports a web server, which few runs need

    try:
        return Behaviour.parse(job.provider.base_url.removeprefix(REHEARSAL).lstrip("?"))
    except ValueError as error:
        raise JobError(f"provider.base_url: {error}") from error


def rehearsal_catalogue(behaviour: Behaviour) -> Catalogue:
    """Return the catalogue of the models that the rehearsal provider offers, without starting the provider.

    If `behaviour` names no models, the provider answers for every model, and no model is checked against the catalogue,
    which says of those that it does not list only what they can do.
    """
    from batchmix.rehearsal.lookups import catalogue

    offers = read_catalogue(msgspec.json.encode(catalogue(behaviour)))
    if behaviour.models:
        return Catalogue(offers, fresh=True)
    any_model = dataclasses.replace(behaviour, models=("any",), own={})
    (others,) = read_catalogue(msgspec.json.encode(catalogue(any_model))).values()
    return Catalogue(offers, fresh=False, others=others)


def rehearsal_server(behaviour: Behaviour) -> Rehearsal:
    """Return an async context manager that starts the rehearsal provider's server and yields its URL."""
    from batchmix.rehearsal import Rehearsal

    # Nobody reads the request log here, and it would grow with each request.
    return Rehearsal(dataclasses.replace(behaviour, ledger=False))
