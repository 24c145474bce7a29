"""Whether the account has enough for what is left to send."""

from __future__ import annotations

from threading import Thread

from batchmix.engine.prepare import rehearsal_behaviour
from batchmix.formats.amounts import usd
from batchmix.job import Job
from batchmix.prices.balance import get_balance
from batchmix.prices.catalogue import has_catalogue
from batchmix.redact import Secrets

_TIMEOUT_S = 5.0
_WAIT_S = 2.0
"""No start waits longer for it, once everything else is ready."""


class Balance:
    """The USD that an account has left, looked for while something else is done."""

    def __init__(self, job: Job, secrets: Secrets) -> None:
        self._usd: float | None = None
        self._asking = Thread(target=self._ask, args=(job.provider.base_url, secrets), daemon=True)
        behaviour = rehearsal_behaviour(job)
        if behaviour is not None:
            self._usd = behaviour.balance_usd if behaviour.balance_usd >= 0 else None
        elif has_catalogue(job.provider.base_url) and secrets.headers:
            self._asking.start()

    def _ask(self, base_url: str, secrets: Secrets) -> None:
        self._usd = get_balance(base_url, secrets, _TIMEOUT_S)

    def left(self) -> float | None:
        """Return what is left; None where that has no bound, or nobody told it in time."""
        if self._asking.ident is not None:
            self._asking.join(_WAIT_S)
        return self._usd


def shortage(left_usd: float, bounds: tuple[float | None, float | None], cap: float | None) -> str:
    """Return what to say where what is left to send may cost more than there is; nothing where there is enough.

    `bounds` are those of its cost, where they are known; `left_usd` is what there is; `cap` is the job's own.
    """
    known = [bound if cap is None else min(bound, cap) for bound in bounds if bound is not None]
    if not known or max(known) <= left_usd:
        return ""
    span = " to ".join(map(usd, dict.fromkeys(known)))
    more = " and more" if bounds[1] is None else ""
    return (
        f"the balance is {usd(left_usd)}, and what is left to send costs about {span}{more}; the run will stop when the"
        " money is gone, and go on from there when there is more"
    )
