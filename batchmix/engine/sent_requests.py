"""Builds the requests of finished results again, since a run folder holds answers and not what was asked."""

from __future__ import annotations

import contextlib
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


class RequestStream:
    """The first requests of a run's results, for keys in the order of the results. Each shard is read once."""

    def __init__(self, dataset: Dataset, shard_rows: int) -> None:
        self._dataset = dataset
        self._shard_rows = shard_rows
        self._models = {model.name: model for model in dataset.models}
        self._reading: dict[str, tuple[int, Iterator[Request]]] = {}
        self._ahead: dict[str, Request | None] = {}

    def find(self, key: Key) -> Request | None:
        """Return the request of a key, which must come after the last one of its model.

        None if no request can be made of it any more. Raises `Stopped`.
        """
        row, model, sample = key
        shard = row // self._shard_rows
        if model not in self._models or shard >= len(self._dataset.scan.shards):
            return None
        if self._reading.get(model, (-1,))[0] != shard:
            self._reading[model] = (shard, self._requests(shard, model))
            self._ahead[model] = next(self._reading[model][1], None)
        while (ahead := self._ahead[model]) is not None and (ahead.row, ahead.sample) < (row, sample):
            self._ahead[model] = next(self._reading[model][1], None)
        return ahead if ahead is not None and ahead.key == key else None

    def _requests(self, shard: int, model: str) -> Iterator[Request]:
        for batch in self._dataset.requests(shard, self._models[model]):
            yield from (request for request in batch if isinstance(request, Request))


@contextlib.contextmanager
def request_stream(folder: Path) -> Iterator[RequestStream]:
    """Yield the requests of a run's results, as the run's job and its input make them now.

    Raises `UsageError` or `Stopped` if the input can't be read.
    """
    run = run_of(folder)
    dataset = dataset_of(run, recorded_job_in(run), folder)
    try:
        if run.ways:
            dataset.settle_ways(run.ways)
        yield RequestStream(dataset, run.shard_rows)
    finally:
        dataset.discard()
