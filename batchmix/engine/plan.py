"""Planning a run: all that `run_job` does before it sends, without writing anything."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from batchmix.engine.account import shortage
from batchmix.engine.distinct import DistinctCounter, distinct_warning
from batchmix.engine.folder_lock import check_ours
from batchmix.engine.prepare import Options, PreparedRun, prepare
from batchmix.engine.run_status import RunStatus
from batchmix.formats.lenient_json import read_json
from batchmix.job import Job, Limits, Price, masked, masked_url
from batchmix.records import RejectedRow, Request
from batchmix.redact import MASK, Secrets
from batchmix.store.first_rows import FirstRows, first_rows_in
from batchmix.store.parts import list_parts, part_path
from batchmix.store.run_folder import Layout
from batchmix.store.shard import Shard

_logger = logging.getLogger(__name__)
Number = TypeVar("Number", int, float)
_FEW = 256
"""Requests of each model from which the cost of the rest is estimated before a run."""
_PROMPTS = (0.5, 1.5)
"""Prompt tokens are estimated from bytes; in most languages the count lies between these shares of it."""


class LanePlan(msgspec.Struct):
    """What a run would send to one model."""

    model: str
    requests: int = 0
    prompt_tokens: int = 0
    """An estimate."""
    max_tokens: int | None = 0
    """The most that answers may have; None where a request sets no maximum."""
    least_usd: float | None = None
    """With short prompts and answers of one token; None: no price is known."""
    most_usd: float | None = None
    """With long prompts and the longest answers; None also where these have no bound."""
    least_s: float | None = None
    """The least time that the job's own limits allow; None without limits."""

    def count(self, request: Request) -> None:
        """Add a request."""
        self.requests += 1
        self.prompt_tokens += request.prompt_tokens
        if self.max_tokens is not None:
            self.max_tokens = None if request.max_tokens is None else self.max_tokens + request.max_tokens

    def finish(self, price: Price | None, limits: Limits) -> None:
        """Set what follows from the counts."""
        short, long = (self.prompt_tokens * share for share in _PROMPTS)
        if price:
            answers = self.requests if self.max_tokens is None else min(self.requests, self.max_tokens)
            self.least_usd = (short * price.input + answers * price.output) / 1e6
            if self.max_tokens is not None:
                self.most_usd = (long * price.input + self.max_tokens * price.output) / 1e6
        times = []
        if limits.requests_per_minute:
            times.append(self.requests / limits.requests_per_minute * 60)
        if limits.tokens_per_minute:
            times.append((short + self.requests) / limits.tokens_per_minute * 60)
        self.least_s = max(times, default=None)


class Plan(msgspec.Struct):
    """What a run would send."""

    name: str
    folder: str
    rows: int
    results: int
    samples: int
    """Answers for each row and model."""
    url: str
    headers: dict[str, str]
    own_params: tuple[str, ...] = ()
    """Columns that are sent as the rows' own parameters."""
    requests: int = 0
    """Still to be sent."""
    different: int = 0
    """How many of these are different, apart from their samples; beyond 65,536 an estimate."""
    done: int = 0
    reused: int = 0
    """Answers that are taken from other runs."""
    repeated: int = 0
    """Rows with the same request as an earlier row, whose answer they take."""
    same_draws: bool = False
    """Reused or repeated answers would differ if they were sampled again."""
    rejected: int = 0
    """Rows of which no request can be made."""
    rejected_example: str = ""
    lanes: list[LanePlan] = []
    """For each model, what is still to be sent."""
    balance_usd: float | None = None
    """The account's balance; None where it is not reported."""
    shortage: str = ""
    """A warning where that may not be enough; empty: none."""
    first: Any = None
    """The body of the first request."""

    @property
    def duplicates_warning(self) -> str:
        """A warning where suspiciously few requests are different; empty: none."""
        return distinct_warning(self.different, self.requests // self.samples)

    @property
    def prompt_tokens(self) -> int:
        """An estimate, of what is still to be sent."""
        return sum(lane.prompt_tokens for lane in self.lanes)

    @property
    def max_tokens(self) -> int | None:
        """The most that answers may have; None where a request sets no maximum."""
        return _sum([lane.max_tokens for lane in self.lanes])

    @property
    def least_usd(self) -> float | None:
        """The least that it costs; None where a model has no price."""
        return _sum([lane.least_usd for lane in self.lanes])

    @property
    def most_usd(self) -> float | None:
        """The most that it costs if nothing is billed twice; None without a bound or a price."""
        return _sum([lane.most_usd for lane in self.lanes])

    @property
    def least_s(self) -> float | None:
        """The least time that the job's own limits allow; None without limits. Lanes run in parallel."""
        return max((lane.least_s for lane in self.lanes if lane.least_s is not None), default=None)

    def as_json(self) -> dict[str, Any]:
        """Return the plan for `--json`."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        whole = ("prompt_tokens", "max_tokens", "least_usd", "most_usd", "least_s")
        return found | {name: getattr(self, name) for name in whole}


def plan(job: Job, options: Options, secrets: Secrets | None = None) -> Plan:
    """Return what a run would send; with `secrets`, also the account's balance.

    Raises `UsageError` for all that a run would refuse.
    """
    layout = Layout(Path(job.output.path), secrets=secrets)
    check_ours(layout)
    with tempfile.TemporaryDirectory(prefix="batchmix-plan-") as spool:
        prepared = prepare(job, layout, options, RunStatus(), Path(spool))
        work = prepared.work
        found = Plan(
            name=job.name,
            folder=job.output.path,
            rows=work.run.rows,
            results=work.run.results,
            samples=job.samples,
            url=masked_url(job.provider.base_url),
            own_params=prepared.dataset.row_params,
            headers={"Content-Type": "application/json", **dict.fromkeys(job.provider.headers, MASK)},
        )
        if job.provider.api_key_env and not job.provider.rehearsal:
            found.headers["Authorization"] = f"Bearer {MASK}"
        found.done = sum(footer.totals.finished for footer in work.done)
        found.lanes = [LanePlan(model.name) for model in work.models]
        firsts: dict[str, FirstRows] = {}
        if job.reuse.dedupe:
            parts = list_parts(layout.data).values()
            firsts = {model.name: first_rows_in(parts, model.name) for model in work.models}
        counting = _Counting(found, prepared, firsts, retry_rejected=options.retry_rejected)
        for index in work.shards:
            counting.count(Shard(index, layout.journals().get(index, {}), part_path(layout.data, index)))
        found.different = counting.different
    varying = any(model.params.get("temperature") != 0 for model in work.models)
    found.same_draws = varying and found.reused + found.repeated > 0
    for lane, model in zip(found.lanes, work.models, strict=True):
        lane.finish(prepared.prices.of(model.name), model.limits)
    found.balance_usd = prepared.balance.usd()
    if found.balance_usd is not None:
        found.shortage = shortage(found.balance_usd, (found.least_usd, found.most_usd), job.budget.max_usd)
    return found


def estimated_usd(prepared: PreparedRun) -> tuple[float | None, float | None]:
    """Return the least and the most that the rest will cost, estimated from its first requests."""
    work, lanes = prepared.work, [LanePlan(model.name) for model in prepared.work.models]
    left = work.run.results - sum(footer.totals.finished for footer in work.done)
    for model, lane in zip(work.models, lanes, strict=True):
        for batch in prepared.dataset.requests(work.shards[0], model) if work.shards else ():
            for request in batch:
                if isinstance(request, Request):
                    lane.count(request)
            if lane.requests >= _FEW:
                break
        lane.finish(prepared.prices.of(model.name), model.limits)
    share = left / max(1, sum(lane.requests for lane in lanes))
    least, most = _sum([lane.least_usd for lane in lanes]), _sum([lane.most_usd for lane in lanes])
    return least and least * share, most and most * share


def warn_of_shortage(prepared: PreparedRun) -> None:
    """Log a warning where the account's balance may not cover what is left to send."""
    balance_usd = prepared.balance.usd()
    if balance_usd is None:
        return
    warning = shortage(balance_usd, estimated_usd(prepared), prepared.job.budget.max_usd)
    if warning:
        _logger.warning("%s", warning)


class _Counting:
    """Counts the requests that shards have left into a plan."""

    def __init__(
        self, plan: Plan, prepared: PreparedRun, firsts: dict[str, FirstRows], *, retry_rejected: bool
    ) -> None:
        self._plan = plan
        self._prepared = prepared
        self._firsts = firsts
        self._retry_rejected = retry_rejected
        self._hashes = DistinctCounter()

    @property
    def different(self) -> int:
        return len(self._hashes)

    def count(self, shard: Shard) -> None:
        shard.close()
        for model, lane in zip(self._prepared.work.models, self._plan.lanes, strict=True):
            for batch in self._prepared.dataset.requests(shard.index, model):
                needed = shard.need_work(batch, retry_rejected=self._retry_rejected)
                for request, needs_work in zip(batch, needed, strict=True):
                    self._count(request, lane, needed=needs_work)

    def _count(self, request: Request | RejectedRow, lane: LanePlan, *, needed: bool) -> None:
        plan, reusable = self._plan, self._prepared.reusable
        if not needed:
            plan.done += 1
            self._repeats(request)
        elif isinstance(request, RejectedRow):
            plan.rejected += 1
            plan.rejected_example = plan.rejected_example or f"row {request.row}: {request.failure.message}"
        else:
            if plan.first is None:
                plan.first = masked(read_json(request.body))
                plan.url += request.path
            if reusable and reusable.holds(request):
                plan.reused += 1
            elif self._repeats(request):
                plan.repeated += 1
            else:
                lane.count(request)
                plan.requests += 1
                self._hashes.add(request.hash)

    def _repeats(self, request: Request | RejectedRow) -> bool:
        """Return whether the row takes the answer of an earlier row with the same request."""
        firsts = self._firsts.get(request.model)
        if firsts is None or isinstance(request, RejectedRow):
            return False
        return firsts.first(request.hash, request.row, request.sample) != request.row


def _sum(parts: Sequence[Number | None]) -> Number | None:
    """Return a sum, or None where a part is unknown."""
    numbers = [part for part in parts if part is not None]
    return sum(numbers[1:], start=numbers[0]) if numbers and len(numbers) == len(parts) else None
