"""Reads what some rows took in all: their answers, and the attempts that were billed beside them."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import msgspec

from batchmix.records import Key, Status
from batchmix.store.parts import part_path
from batchmix.store.result_rows import Price, ResultRows
from batchmix.store.row_slots import named
from batchmix.store.row_state import RowState
from batchmix.store.shard import Shard
from batchmix.store.view import View


class RowCost(msgspec.Struct, frozen=True):
    """What a row took, including its repairs and its other attempts that were billed without a valid answer."""

    row: int
    model: str
    is_ok: bool
    requests: int
    """The number of requests that were billed."""
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    """None if the price of a request is unknown."""
    latency_s: float | None
    """The latency of the last answer."""


def read_row_costs(view: View, rows: list[int], price: Price) -> Iterator[RowCost]:
    """Yield what some input rows took that have an answer, or none that fits the job's schema. `rows` must be in order.

    Rows whose usage is unknown are left out. Of a sealed row only the last answer is kept; its earlier ones count like
    that one.
    """
    journals, shard_rows = view.layout.journals(), view.run.shard_rows
    for index, some in itertools.groupby(rows, key=lambda row: row // shard_rows):
        wanted = set(some)
        part = part_path(view.layout.data, index)
        classifier = view.run.classifier(view.layout.secrets)
        with contextlib.closing(Shard(index, journals.get(index, {}), part, classifier=classifier)) as shard:
            results = ResultRows(shard, price, raw=False)
            for key in sorted(key for key, state in shard.states.items() if key[0] in wanted and state.status):
                found = _row_cost(named(results.row(key)), key, shard.states[key], price)
                if found is not None:
                    yield found


def _row_cost(values: dict[str, Any], key: Key, state: RowState, price: Price) -> RowCost | None:
    has_usage = None not in (values["prompt_tokens"], values["completion_tokens"])
    if values["status"] == Status.OK and has_usage:
        own = [(values["prompt_tokens"], values["completion_tokens"], values["cost_usd"])]
    elif values["status"] != Status.OK and state.chain and state.chain.gave_up:
        own = []  # the row does not hold the usage of its answers
    else:
        return None
    beside = [
        (usage.prompt_tokens or 0, usage.completion_tokens or 0, price(key[1], served, usage))
        for served, usage in state.billed_failures
    ]
    if state.result is None:
        beside = own * (values["repairs"] or 0)
    prompts, completions, costs = zip(*own, *beside, strict=True) if own or beside else ((), (), ())
    return RowCost(
        row=key[0],
        model=key[1],
        is_ok=bool(own),
        requests=len(costs),
        prompt_tokens=sum(prompts),
        completion_tokens=sum(completions),
        cost_usd=None if None in costs else sum(costs),
        latency_s=values["latency_s"],
    )
