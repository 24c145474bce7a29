"""The job file as a person writes it: which keys there are, and of what types."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from batchmix.job.cron import Schedule
from batchmix.job.evaluation import Eval
from batchmix.job.values import Budget, Count, Input, Limits, Price, Retry, Reuse, Timeouts


class ModelEntry(msgspec.Struct, frozen=True):
    """One of `[[models]]`; what is None is as for the whole job."""

    id: str
    name: str | None = None
    params: dict[str, Any] = {}
    limits: Limits | None = None
    prices: Price | None = None


class ProviderTable(msgspec.Struct, frozen=True):
    """`[provider]`."""

    base_url: str | None = None
    api_key_env: str = "AIHUBMIX_API_KEY"
    headers: dict[str, str] = {}


class OutputTable(msgspec.Struct, frozen=True):
    """`[output]`; the path is still a template."""

    path: str = "runs/{name}"
    shard_rows: Count = 10_000
    raw: bool = True
    mode: str | None = None


class JobTable(msgspec.Struct, frozen=True):
    """The file as a person writes it."""

    input: Input
    name: str | None = None
    model: str | None = None
    models: tuple[ModelEntry, ...] = ()
    samples: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1
    params: dict[str, Any] = {}
    provider: ProviderTable = ProviderTable()
    limits: Limits = Limits()
    retry: Retry = Retry()
    timeouts: Timeouts = Timeouts()
    budget: Budget = Budget()
    reuse: Reuse = Reuse()
    prices: dict[str, Price] = {}
    output: OutputTable = OutputTable()
    schedule: Schedule | None = None
    eval: Eval | None = None
