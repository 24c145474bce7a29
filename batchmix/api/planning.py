"""`plan`: what a run would send."""

from __future__ import annotations

import concurrent.futures
import os
from typing import Any, Unpack

from batchmix.api.messages import speaking_python
from batchmix.api.settings import Settings
from batchmix.api.start import Arguments, prepared_call
from batchmix.engine.local_output import local_output
from batchmix.engine.plan import Plan
from batchmix.errors import UsageError
from batchmix.job.secrets import secrets_if_set
from batchmix.verdict.planning import planned

__all__ = ["Plan", "plan"]


def plan(
    data: Any,
    prompt: str | None = None,
    *,
    model: str | None = None,
    out: str | os.PathLike[str] | None = None,
    **settings: Unpack[Settings],
) -> Plan:
    """Return what `run` with the same arguments would send: requests, bounds of the cost, the first request.

    Sends nothing, writes nothing into the run folder, and needs no key. Looks up the prices of models at the gateway.
    An iterator is consumed. Raises the `UsageError` that `run` would raise before it sends anything.

    >>> texts = ["I loved it", "Never again"]
    >>> plan = bm.plan(texts, "Classify: {{ text }}", model="gpt-4o-mini", base_url="rehearsal:")
    >>> plan.requests, plan.different, plan.first["messages"]
    (2, 2, [{'role': 'user', 'content': 'Classify: I loved it'}])
    """
    if "canary" in settings:
        raise UsageError(
            "canary: sends requests, and a plan sends none; call bm.run(…, canary=…), and see its forecast"
        )
    # In a thread, because looking up prices takes an event loop, and the caller's thread may have one running.
    with speaking_python(), concurrent.futures.ThreadPoolExecutor(1, "batchmix") as executor:
        call = prepared_call(Arguments(data, prompt, model, out, settings))
        try:
            secrets = secrets_if_set(call.job.provider, os.environ)
            with local_output(call.job, writes=False) as job:
                return executor.submit(planned, job, call.options, secrets).result()
        finally:
            call.discard()
