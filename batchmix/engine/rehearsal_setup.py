"""The rehearsal provider, which stands in for a real one: how it is to behave, its catalogue, its server."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import msgspec

from batchmix.errors import JobError
from batchmix.job import REHEARSAL, Job
from batchmix.prices.catalogue import Catalogue, read_catalogue

if TYPE_CHECKING:
    from batchmix.rehearsal import Behaviour, Rehearsal


def rehearsal_behaviour(job: Job) -> Behaviour | None:
    """Return how the rehearsal provider is to behave, or None for a real provider. Raises `JobError`."""
    if not job.provider.rehearsal:
        return None
    from batchmix.rehearsal import Behaviour  # imports a web server, which few runs need

    try:
        return Behaviour.parse(job.provider.base_url.removeprefix(REHEARSAL).lstrip("?"))
    except ValueError as error:
        raise JobError(f"provider.base_url: {error}") from error


def rehearsal_catalogue(behaviour: Behaviour) -> Catalogue:
    """Return the model list that the rehearsal provider will serve, before it is started.

    Where its behaviour names no models it has every model, and no id is wrong.
    """
    from batchmix.rehearsal.lookups import catalogue

    offers = read_catalogue(msgspec.json.encode(catalogue(behaviour)))
    return Catalogue(offers, fresh=bool(behaviour.models))


def rehearsal_server(behaviour: Behaviour) -> Rehearsal:
    """Return the provider, to be entered as a context that gives its URL."""
    from batchmix.rehearsal import Rehearsal

    # Its request log has no reader here, and memory must stay flat.
    return Rehearsal(dataclasses.replace(behaviour, ledger=False))
