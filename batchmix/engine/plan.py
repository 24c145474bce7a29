"""Plans a run: counts the requests that it would send, and estimates their cost. Writes nothing to the run folder."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from batchmix.engine.account import shortage
from batchmix.engine.answers import SchemaSent, typed_of
from batchmix.engine.distinct import DistinctCounter, distinct_warning
from batchmix.engine.eval_plan import DetectableFall, JudgePlan
from batchmix.engine.folder_lock import check_ours
from batchmix.engine.lane_plan import LanePlan
from batchmix.engine.prefixes import PrefixTree
from batchmix.engine.prepare import Options, PreparedRun, prepare
from batchmix.engine.run_status import RunStatus
from batchmix.formats.amounts import counted, usd
from batchmix.formats.display import clean
from batchmix.formats.lenient_json import read_json
from batchmix.job import CheckedJob, masked, masked_url
from batchmix.records import SKIPPED, RejectedRow, Request
from batchmix.redact import MASK, Secrets
from batchmix.responses.classify import Classifier
from batchmix.store.first_rows import FirstRows, first_rows_in
from batchmix.store.parts import list_parts, part_path
from batchmix.store.run_folder import Layout
from batchmix.store.shard import Shard

_logger = logging.getLogger(__name__)
Number = TypeVar("Number", int, float)
_FEW = 256
"""Before sending, the cost of a run is estimated from about this many requests of each model."""


class Plan(msgspec.Struct):
    """A summary of the requests that a run would send, as `batchmix plan` shows it.

    >>> bm.plan(["Never again"], "Classify: {{ text }}", model="gpt-4o-mini", base_url="rehearsal:")
    <Plan table: 1 row, 1 request to send, 1 of them different, 0 done; cost unknown>
    """

    name: str
    folder: str
    rows: int
    results: int
    samples: int
    """Number of answers to request for each row and model."""
    url: str
    headers: dict[str, str]
    own_params: tuple[str, ...] = ()
    """Input columns whose values are sent as request parameters of their row."""
    requests: int = 0
    """Number of requests that are still to be sent."""
    different: int = 0
    """Number of different requests among `requests`. Samples of one row count once. An estimate beyond 65,536."""
    done: int = 0
    """Number of results that need no more work."""
    reused: int = 0
    """Number of answers that are taken from other runs."""
    repeated: int = 0
    """Number of results that take the answer of an earlier row with the same request."""
    same_draws: bool = False
    """Whether answers are reused or repeated although a new request might give a different answer."""
    rejected: int = 0
    """Number of results without a request, because the row can't be turned into a request."""
    rejected_example: str = ""
    skipped: int = 0
    """Number of results without a request, because the job's condition is false for the row."""
    lanes: list[LanePlan] = []
    """The requests still to be sent, by model."""
    balance_usd: float | None = None
    """The account's balance; None if the provider does not report it."""
    shortage: str = ""
    """A warning that the balance may not cover the run; empty if there is none."""
    schemas: tuple[SchemaSent, ...] = ()
    """How the schema of the answers is sent to each model. Empty if the job has none."""
    repair: int | None = None
    """How often a row may be asked to repair an invalid answer. None if the job has no schema."""
    first: Any = None
    """The body of the first request."""
    judges: list[JudgePlan] = []
    """The requests to judges that may follow, by judge and model. Empty if the job has no judge."""
    detectable: list[DetectableFall] = []
    """How small a fall of each score the run could find. Empty if the job has no scorers."""

    def __repr__(self) -> str:
        cost = "unknown" if self.least_usd is None else f"{usd(self.least_usd)} and more"
        if self.least_usd is not None and self.most_usd is not None:
            cost = f"{usd(self.least_usd)} to {usd(self.most_usd)}"
        sent = f"{counted(self.requests, 'request')} to send, {self.different:,} of them different"
        return clean(f"<Plan {self.name}: {counted(self.rows, 'row')}, {sent}, {self.done:,} done; cost {cost}>")

    @property
    def duplicates_warning(self) -> str:
        """A warning that suspiciously many requests are identical; empty if there is none."""
        return distinct_warning(self.different, self.requests // self.samples)

    @property
    def prompt_tokens(self) -> int:
        """Estimated prompt tokens of all requests that are still to be sent."""
        return sum(lane.prompt_tokens for lane in self.lanes)

    @property
    def max_tokens(self) -> int | None:
        """Upper bound on the tokens of all answers without repairs; None if a request sets no maximum."""
        return _sum([lane.max_tokens for lane in self.lanes])

    @property
    def least_usd(self) -> float | None:
        """Lower bound on the cost; None if the price of a model is unknown."""
        return _sum([lane.least_usd for lane in self.lanes])

    @property
    def most_usd(self) -> float | None:
        """Upper bound on the cost if no retry is billed. None if a price is unknown or a request sets no maximum.

        It includes all repairs of invalid answers that the job allows.
        """
        return _sum([lane.most_usd for lane in self.lanes])

    @property
    def most_without_repairs_usd(self) -> float | None:
        """Upper bound on the cost if all first answers are valid, as in `most_usd`."""
        return _sum([lane.most_without_repairs_usd for lane in self.lanes])

    @property
    def least_cached_usd(self) -> float | None:
        """Lower bound on the cost if requests that begin alike are read from a prompt cache; None if it is the same."""
        return self._with_cache("least")

    @property
    def most_cached_usd(self) -> float | None:
        """Upper bound on the cost in that case. None as in `most_usd` and `least_cached_usd`."""
        return self._with_cache("most")

    def _with_cache(self, bound: str) -> float | None:
        cached = [getattr(lane, f"{bound}_cached_usd") for lane in self.lanes]
        if cached.count(None) == len(cached):
            return None
        full = [getattr(lane, f"{bound}_usd") for lane in self.lanes]
        return _sum([one if usd is None else usd for usd, one in zip(cached, full, strict=True)])

    @property
    def least_s(self) -> float | None:
        """Lower bound on the duration in seconds: that of the slowest model. None if the job sets no limits."""
        return max((lane.least_s for lane in self.lanes if lane.least_s is not None), default=None)

    def as_json(self) -> dict[str, Any]:
        """Return the plan for `--json`."""
        fields: dict[str, Any] = msgspec.to_builtins(self)
        whole = (
            "prompt_tokens", "max_tokens", "least_usd", "most_usd", "most_without_repairs_usd", "least_cached_usd",
            "most_cached_usd", "least_s",
        )  # fmt: skip
        return fields | {name: getattr(self, name) for name in whole}


def plan_run(job: CheckedJob, options: Options, secrets: Secrets | None = None) -> Plan:
    """Plan a run: read its input and its folder, and count the requests that are left.

    The account's balance is looked up only if `secrets` are given. Raises the `UsageError` that the run would raise.
    """
    layout = Layout(Path(job.output.path), secrets=secrets)
    check_ours(layout)
    with tempfile.TemporaryDirectory(prefix="batchmix-plan-") as spool:
        prepared = prepare(job, layout, options, RunStatus(), Path(spool))
        work, models = prepared.work, prepared.dataset.models
        result = Plan(
            name=job.name,
            folder=job.output.path,
            rows=work.run.rows,
            results=work.run.results,
            samples=job.samples,
            url=masked_url(job.provider.base_url),
            own_params=prepared.dataset.row_params,
            headers={"Content-Type": "application/json", **dict.fromkeys(job.provider.headers, MASK)},
            schemas=prepared.schemas,
            repair=job.answer.repair if job.answer else None,
        )
        if job.provider.api_key_env and not job.provider.rehearsal:
            result.headers["Authorization"] = f"Bearer {MASK}"
        result.done = sum(footer.totals.finished for footer in work.done)
        result.lanes = [LanePlan(model.name) for model in models]
        firsts: dict[str, FirstRows] = {}
        if job.reuse.dedupe:
            parts = list_parts(layout.data).values()
            firsts = {model.name: first_rows_in(parts, model.name) for model in models}
        classifier = Classifier(typed=typed_of(job))
        counting = _Counting(result, prepared, firsts, retry_rejected=options.retry_rejected)
        for index in work.shards:
            counting.count(
                Shard(index, layout.journals().get(index, {}), part_path(layout.data, index), classifier=classifier)
            )
        result.different = counting.different
    varying = any(model.params.get("temperature") != 0 for model in models)
    result.same_draws = varying and result.reused + result.repeated > 0
    for lane, model in zip(result.lanes, models, strict=True):
        lane.finish(prepared.prices.price_of(model.name), model.limits, job.answer.repair if job.answer else 0)
    result.balance_usd = prepared.balance.usd()
    if result.balance_usd is not None:
        result.shortage = shortage(result.balance_usd, (result.least_usd, result.most_usd), job.budget.max_usd)
    return result


def estimated_usd(prepared: PreparedRun) -> tuple[float | None, float | None]:
    """Return a lower and an upper bound on the cost of the remaining requests. They are None if unknown.

    The bounds are estimated from the first shard with work left.
    """
    answer = prepared.job.answer
    work, lanes = prepared.work, [LanePlan(model.name) for model in prepared.dataset.models]
    results_left = work.run.results - sum(footer.totals.finished for footer in work.done)
    for model, lane in zip(prepared.dataset.models, lanes, strict=True):
        for batch in prepared.dataset.requests(work.shards[0], model) if work.shards else ():
            for request in batch:
                if isinstance(request, Request):
                    lane.count(request)
            if lane.requests >= _FEW:
                break
        lane.finish(prepared.prices.price_of(model.name), model.limits, answer.repair if answer else 0)
    share = results_left / max(1, sum(lane.requests for lane in lanes))
    least, most = _sum([lane.least_usd for lane in lanes]), _sum([lane.most_usd for lane in lanes])
    return least and least * share, most and most * share


def warn_of_shortage(prepared: PreparedRun) -> None:
    """Log a warning if the account's balance may not cover the remaining requests."""
    balance_usd = prepared.balance.usd()
    if balance_usd is None:
        return
    warning = shortage(balance_usd, estimated_usd(prepared), prepared.job.budget.max_usd)
    if warning:
        _logger.warning("%s", warning)


class _Counting:
    """Reads shards, and adds their remaining requests to a plan."""

    def __init__(
        self, plan: Plan, prepared: PreparedRun, firsts: dict[str, FirstRows], *, retry_rejected: bool
    ) -> None:
        self._plan = plan
        self._prepared = prepared
        self._firsts = firsts
        self._retry_rejected = retry_rejected
        self._hashes = DistinctCounter()
        self._is_marked = prepared.job.cache.mark is not None
        models = prepared.dataset.models
        self._trees = {model.name: PrefixTree(model.id, is_marked=True, lanes=len(models)) for model in models}

    @property
    def different(self) -> int:
        return len(self._hashes)

    def count(self, shard: Shard) -> None:
        shard.close()
        for model, lane in zip(self._prepared.dataset.models, self._plan.lanes, strict=True):
            for batch in self._prepared.dataset.requests(shard.index, model):
                needed = shard.need_work(batch, retry_rejected=self._retry_rejected)
                for request, needs_work in zip(batch, needed, strict=True):
                    self._count(request, lane, needed=needs_work)

    def _count(self, request: Request | RejectedRow, lane: LanePlan, *, needed: bool) -> None:
        plan, reusable = self._plan, self._prepared.reusable
        if not needed:
            plan.done += 1
            self._repeats(request)
        elif isinstance(request, RejectedRow) and request.failure.type == SKIPPED:
            plan.skipped += 1
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
                lane.count_prefix(request, self._trees[request.model], is_marked=self._is_marked)
                plan.requests += 1
                self._hashes.add(request.hash)

    def _repeats(self, request: Request | RejectedRow) -> bool:
        """Return whether the row takes the answer of an earlier row with the same request."""
        firsts = self._firsts.get(request.model)
        if firsts is None or isinstance(request, RejectedRow):
            return False
        return firsts.first(request.hash, request.row, request.sample) != request.row


def _sum(parts: Sequence[Number | None]) -> Number | None:
    """Return the sum of some numbers. None if any of them is None, or if there are no numbers."""
    numbers = [part for part in parts if part is not None]
    return sum(numbers[1:], start=numbers[0]) if numbers and len(numbers) == len(parts) else None
