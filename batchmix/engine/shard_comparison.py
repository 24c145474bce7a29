"""Compares a job and its input with the shards in a run folder, by digests or answer by answer."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from batchmix.engine.answers import typed_of
from batchmix.job import CheckedJob
from batchmix.load import Dataset
from batchmix.records import Status
from batchmix.responses.classify import Classifier
from batchmix.responses.streaming import STREAMING
from batchmix.store.inventory import Inventory
from batchmix.store.parts import part_path
from batchmix.store.shard import Shard

_REQUEST_VERSION = 3
"""Version of the code that turns rows into requests. After a change of the version, the next start compares all answers
with the new requests."""


class Digests:
    """Digests of the job and the input. They show whether a part still belongs to this job and input."""

    def __init__(self, job: CheckedJob, dataset: Dataset) -> None:
        source = job.input
        self.requests = _digest(
            {
                "prompt": source.prompt,
                "system": source.system,
                "messages": source.messages,
                "models": [(model.name, model.id, _request_params(model.params)) for model in dataset.models],
                "samples": job.samples,
                "path": job.provider.path,
                **{key: column for key in ("model", "params", "when") if (column := getattr(source, key)) is not None},
                **({"own": dataset.row_params} if dataset.row_params else {}),
                **({"answer": [job.answer.schema, *(model.way for model in dataset.models)]} if job.answer else {}),
            }
        )
        columns = [str(dataset.carried_schema.remove_metadata()), source.id, source.columns]
        self.columns = _digest([*columns, job.answer.schema, job.answer.flatten] if job.answer else columns)
        self._dataset = dataset
        self.accepted = _digest([_REQUEST_VERSION, self.requests, self.columns, self.spans])

    @property
    def spans(self) -> list[str]:
        """The digests of the shards' input, as far as it is there."""
        return [span.digest for span in self._dataset.scan.shards]

    def shard(self, index: int) -> str:
        """Return the digest of a shard. It covers the shard's input and the job's settings that affect requests."""
        return _digest([self.requests, self._dataset.scan.shards[index].digest])


class ShardComparison:
    """Compares a job and its input with the shards in a run folder."""

    def __init__(self, job: CheckedJob, dataset: Dataset, inventory: Inventory) -> None:
        self.digests = Digests(job, dataset)
        self.inventory = inventory
        self.count = len(dataset.scan.shards)
        """Number of shards in the input."""
        self._dataset = dataset
        self._samples = job.samples
        self._classifier = Classifier(typed=typed_of(job))

    def shard(self, index: int, classifier: Classifier | None = None) -> Shard:
        """Read a shard from the folder and close its files."""
        part, journals = part_path(self.inventory.layout.data, index), self.inventory.journals.get(index, {})
        shard = Shard(index, journals, part, classifier=classifier or self._classifier)
        shard.close()
        return shard

    def results(self, index: int) -> int:
        """Return the number of results that a shard has once it is finished."""
        scan = self._dataset.scan
        return min(scan.shard_rows, scan.rows - index * scan.shard_rows) * len(self._dataset.models) * self._samples

    def compare(self, index: int, before: Classifier | None = None) -> tuple[Shard, int, int]:
        """Compare a shard's answers with the job's requests.

        `before` is what classified the answers in the journals, if the job's schema has changed since then. Return the
        shard, the number of answers whose request has changed or that no longer fit the job's schema, and the number of
        answers without a request.
        """
        shard = self.shard(index)
        answers = {key: state.hash for key, state in shard.states.items() if state.status is Status.OK}
        changed = sum(state.is_unfit for state in shard.states.values())
        if before and index in self.inventory.journals:
            lacking = shard.states.keys() - answers.keys()
            earlier = self.shard(index, before).states
            changed += sum(earlier[key].status is Status.OK and not shard.states[key].is_unfit for key in lacking)
        for model in self._dataset.models if index < self.count else ():
            for batch in self._dataset.requests(index, model):
                for request in batch:
                    hash_ = answers.pop(request.key, None)
                    changed += hash_ is not None and hash_ != request.hash
        return shard, changed, len(answers)


def _request_params(params: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters that affect the answer: all except the streaming parameters."""
    return {name: value for name, value in params.items() if name not in STREAMING}


def _digest(value: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()[:32]
