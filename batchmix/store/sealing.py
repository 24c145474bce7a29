"""Seals shards: their results become parts, and their journals are removed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import msgspec
import pyarrow as pa

from batchmix.answers.typed import TypedAnswers
from batchmix.store.events import JournalHeader
from batchmix.store.ledger import ShardLeftOpen, ShardSealed
from batchmix.store.parts import SealHooks, part_path, seal_part
from batchmix.store.result_rows import Price, ResultRows
from batchmix.store.row_slots import by_row
from batchmix.store.run_folder import Layout
from batchmix.store.schema import PartFooter, Seal
from batchmix.store.shard import Shard


class ShardSpec(msgspec.Struct, frozen=True):
    """Settings for opening and sealing shards, which are the same for all shards of a run."""

    schema: pa.Schema
    shard_rows: int
    rows: int
    models: tuple[str, ...]
    digest: Callable[[int], str]
    """Returns the digest of a shard's input bytes and of the part of the job from which requests are made."""
    columns: str
    """The digest of the carried columns."""
    carried: Callable[[int], Iterator[pa.RecordBatch]]
    """Returns the carried columns of a shard, one record per input row. Raises `InputChanged`."""
    price: Price
    raw: bool
    """Whether parts keep the responses as they were received."""
    header: JournalHeader
    """The first line of journals. Parts repeat its values in their footers."""
    damaged_parts: frozenset[int]
    """The shards whose damaged parts the user has accepted. Their readable rows are kept, and the others are sent
    again.
    """
    typed: TypedAnswers | None = None
    """Checks the answers against the job's schema. None if the job has none."""


def seal_shard(shard: Shard, spec: ShardSpec, layout: Layout, pace: Callable[[], None]) -> None:
    """Write a shard's part and remove its journals. `pace` is called after each batch of rows.

    If rows have failed amid their repairs, the journals keep their invalid answers, from which the next start goes on.
    Raises `NoSpace`, `DiskError`, and `InputChanged`.
    """

    def finish() -> PartFooter:
        return _footer(shard.index, spec, results)

    def record(footer: PartFooter, seal: Seal) -> None:
        is_left_open = bool(shard.unfinished_turns)
        layout.ledger.append(ShardSealed.of(footer, seal), *[ShardLeftOpen(shard.index)] * is_left_open)

    results = ResultRows(shard, spec.price, raw=spec.raw)
    wanted = [key for key, state in shard.states.items() if state.wanted]
    first = shard.index * spec.shard_rows
    batches = results.batches(spec.schema, spec.carried(shard.index), first, by_row(wanted, spec.models))
    hooks = SealHooks(pace, finish, record, layout.file_mode)
    seal_part(part_path(layout.data, shard.index), layout.journal, spec.schema, batches, hooks)
    shard.remove_journals()


def _footer(index: int, spec: ShardSpec, results: ResultRows) -> PartFooter:
    first = index * spec.shard_rows
    return PartFooter(
        index,
        first,
        min(first + spec.shard_rows, spec.rows),
        spec.digest(index),
        spec.columns,
        results.totals,
        rehearsal=spec.header.rehearsal,
        shard_rows=spec.header.shard_rows,
        sealed_ms=time.time_ns() // 1_000_000,
    )
