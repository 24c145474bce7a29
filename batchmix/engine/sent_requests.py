"""Builds the requests of finished results again, since a run folder holds answers and not what was asked."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from batchmix.engine.reader import dataset_of, recorded_job_in, run_of
from batchmix.load import Dataset
from batchmix.records import Key, Request


def sent_requests(folder: Path, keys: Collection[Key]) -> Iterator[Request]:
    """Yield the first request of each of these results, as the run's job and its input make it now.

    Results of which no request can be made any more are left out. The input may have changed since: a request is the
    one that was sent if its hash is the result's. Raises `UsageError` or `Stopped` if the input can't be read.
    """
    if not keys:
        return
    run = run_of(folder)
    dataset = dataset_of(run, recorded_job_in(run), folder)
    try:
        if run.ways:
            dataset.settle_ways(run.ways)
        yield from _requests(dataset, frozenset(keys), run.shard_rows)
    finally:
        dataset.discard()


def _requests(dataset: Dataset, keys: frozenset[Key], shard_rows: int) -> Iterator[Request]:
    for model in dataset.models:
        rows: dict[int, set[int]] = {}
        for row, _, _ in (key for key in keys if key[1] == model.name):
            rows.setdefault(row // shard_rows, set()).add(row)
        for shard in sorted(rows):
            if shard >= len(dataset.scan.shards):  # the input has become shorter
                continue
            for batch in dataset.requests(shard, model, frozenset(rows[shard])):
                yield from (request for request in batch if isinstance(request, Request) and request.key in keys)
