"""Comparing a job and its input with the shards in a run folder: by digests, and answer by answer."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from batchmix.job import Job, Model
from batchmix.load import STREAMING, Dataset, Scan
from batchmix.records import Status
from batchmix.store.inventory import Inventory
from batchmix.store.parts import part_path
from batchmix.store.shard import Shard

_REQUEST_VERSION = 3
"""How requests are made of rows. It is raised when that changes; then answers to other requests are counted once."""


class Digests:
    """Digests that tell whether a part still belongs to the job and the input."""

    def __init__(self, job: Job, models: tuple[Model, ...], dataset: Dataset) -> None:
        source = job.input
        self.requests = _digest(
            {
                "prompt": source.prompt,
                "system": source.system,
                "messages": source.messages,
                "models": [(model.name, model.id, _request_params(model.params)) for model in models],
                "samples": job.samples,
                "path": job.provider.path,
                **{key: column for key in ("model", "params") if (column := getattr(source, key)) is not None},
                **({"own": dataset.row_params} if dataset.row_params else {}),
            }
        )
        self.columns = _digest([str(dataset.carried_schema.remove_metadata()), source.id, source.columns])
        self.spans = [span.digest for span in dataset.scan.shards]
        self.accepted = _digest([_REQUEST_VERSION, self.requests, self.columns, self.spans])

    def shard(self, index: int) -> str:
        """Return the digest of a shard: its input bytes and the request-making part of the job."""
        return _digest([self.requests, self.spans[index]])


class ShardComparison:
    """A job and its input beside what is in the run folder."""

    def __init__(self, job: Job, dataset: Dataset, held: Inventory) -> None:
        self.models = lane_models(job, dataset.scan)
        self.digests = Digests(job, self.models, dataset)
        self.held = held
        self.count = len(dataset.scan.shards)
        """Shards of the input."""
        self._dataset = dataset
        self._samples = job.samples

    def shard(self, index: int) -> Shard:
        """Return a shard as it is in the folder, with its files closed."""
        part = part_path(self.held.layout.data, index)
        shard = Shard(index, self.held.journals.get(index, {}), part)
        shard.close()
        return shard

    def results(self, index: int) -> int:
        """Return how many results a shard is to have."""
        scan = self._dataset.scan
        return min(scan.shard_rows, scan.rows - index * scan.shard_rows) * len(self.models) * self._samples

    def compared(self, index: int) -> tuple[Shard, int, int]:
        """Return a shard, how many of its answers have another request now, and how many have none any more."""
        shard = self.shard(index)
        answers = {key: state.hash for key, state in shard.states.items() if state.status is Status.OK}
        changed = 0
        for model in self.models if index < self.count else ():
            for batch in self._dataset.requests(index, model):
                for request in batch:
                    hash_ = answers.pop(request.key, None)
                    changed += hash_ is not None and hash_ != request.hash
        return shard, changed, len(answers)


def lane_models(job: Job, scan: Scan) -> tuple[Model, ...]:
    """Return the job's models, or those that its rows name."""
    return job.models or tuple(Model(name, name, job.params, job.limits, places=job.places) for name in scan.models)


def _request_params(params: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters that change a request; those of streaming do not."""
    return {name: value for name, value in params.items() if name not in STREAMING}


def _digest(value: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()[:32]
