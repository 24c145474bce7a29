"""What a run would do: everything that `pipeline.run` does before it sends, and nothing that it writes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import msgspec

from batchmix.job import Job
from batchmix.pipeline import Options, open_input, rehearsal_behaviour
from batchmix.records import Board, Request, Unsendable
from batchmix.resume import Resume, Work, check_same_run
from batchmix.send.answers import read_json
from batchmix.send.classify import judge
from batchmix.store.parts import part_path
from batchmix.store.rundir import Layout
from batchmix.store.shard import Shard


class Plan(msgspec.Struct):
    """What a run would send."""

    name: str
    folder: str
    rows: int
    results: int
    url: str
    headers: dict[str, str]
    requests: int = 0
    """Still to be sent."""
    done: int = 0
    rejected: int = 0
    """Rows that can't be asked."""
    rejected_example: str = ""
    prompt_tokens: int = 0
    """An estimate, of what is still to be sent."""
    max_tokens: int | None = 0
    """The most that answers may have; None where a request does not say."""
    least_s: float | None = None
    """The least time that the job's own limits allow; None without limits."""
    first: Any = None
    """The body of the first request."""

    def as_json(self) -> dict[str, Any]:
        """Return the plan for `--json`."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found

    @property
    def most_tokens_text(self) -> str:
        """The bound on answers in words."""
        return "an unknown number" if self.max_tokens is None else f"at most {self.max_tokens:,}"


def plan(job: Job, options: Options) -> Plan:
    """Return what a run would send. Raises `UsageError` for all that a run would refuse."""
    rehearsal_behaviour(job)
    layout = Layout(Path(job.output.path))
    known = layout.read_run()
    if known is not None:
        check_same_run(job, known, layout.root)
    with tempfile.TemporaryDirectory(prefix="batchmix-plan-") as spool:
        dataset = open_input(job, Path(spool), known, options, Board())
        resume = Resume(job, dataset, layout, judge)
        work = resume.work(known, update=options.update, retry_rejected=options.retry_rejected)
        found = Plan(
            name=job.name,
            folder=job.output.path,
            rows=work.run.rows,
            results=work.run.results,
            url=job.provider.base_url,
            headers={"Content-Type": "application/json", **dict.fromkeys(job.provider.headers, "***")},
        )
        if job.provider.api_key_env and not job.provider.rehearsal:
            found.headers["Authorization"] = "Bearer ***"
        found.done = sum(footer.totals.ended for footer in work.done)
        for index in work.shards:
            _count_shard(found, index, layout, dataset, work, retry_rejected=options.retry_rejected)
    found.least_s = _least_s(job, found)
    return found


def _count_shard(found: Plan, index: int, layout: Layout, dataset: Any, work: Work, *, retry_rejected: bool) -> None:
    shard = Shard(index, layout.journals().get(index, {}), part_path(layout.data, index), judge)
    shard.close()
    for model in work.models:
        for batch in dataset.requests(index, model):
            for request in batch:
                if not shard.needs(request, retry_rejected=retry_rejected):
                    found.done += 1
                elif isinstance(request, Unsendable):
                    found.rejected += 1
                    found.rejected_example = found.rejected_example or f"row {request.row}: {request.failure.message}"
                else:
                    _count(found, request)


def _count(found: Plan, request: Request) -> None:
    if found.first is None:
        found.first = read_json(request.body)
        found.url += request.path
    found.requests += 1
    found.prompt_tokens += request.prompt_tokens
    if found.max_tokens is not None:
        found.max_tokens = None if request.max_tokens is None else found.max_tokens + request.max_tokens


def _least_s(job: Job, found: Plan) -> float | None:
    limits = job.models[0].limits if job.models else job.limits
    lanes = max(1, len(job.models))
    times = []
    if limits.requests_per_minute:
        times.append(found.requests / lanes / limits.requests_per_minute * 60)
    if limits.tokens_per_minute:
        times.append((found.prompt_tokens + (found.max_tokens or 0)) / lanes / limits.tokens_per_minute * 60)
    return max(times, default=None)
