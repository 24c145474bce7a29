"""Setting up the rehearsal provider, a local server that stands in for a real provider, for a run."""

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
    """Return the behaviour that the job's rehearsal URL describes; None for a real provider. Raises `JobError`."""
    if not job.provider.rehearsal:
        return None
    from batchmix.rehearsal import Behaviour  # imports a web server, which few runs need

    try:
        return Behaviour.parse(job.provider.base_url.removeprefix(REHEARSAL).lstrip("?"))
    except ValueError as error:
        raise JobError(f"provider.base_url: {error}") from error


def rehearsal_catalogue(behaviour: Behaviour) -> Catalogue:
    """Return the catalogue of models that the rehearsal provider serves, without starting it.

    If its behaviour names no models, it serves every model, and no model id is checked against the catalogue.
    """
    from batchmix.rehearsal.lookups import catalogue

    offers = read_catalogue(msgspec.json.encode(catalogue(behaviour)))
    return Catalogue(offers, fresh=bool(behaviour.models))


def rehearsal_server(behaviour: Behaviour) -> Rehearsal:
    """Return the rehearsal provider as an async context manager, which starts its server and yields the URL."""
    from batchmix.rehearsal import Rehearsal

    # Its request log has no reader here, and memory must stay flat.
    return Rehearsal(dataclasses.replace(behaviour, ledger=False))
