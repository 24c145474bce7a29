"""What a start finds in the run folder, and what it may do with it.

A job and an input that were accepted once are not asked about again; anything else is held against the answers that
are there, and only a person's `--update` lets any of them go.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

import msgspec

from batchmix.errors import RunError
from batchmix.job import Job, Model
from batchmix.load import Dataset, Scan
from batchmix.load.streaming import STREAMING
from batchmix.store.files import sync_folder
from batchmix.store.parts import list_parts, part_path, read_part_footer
from batchmix.store.rundir import Layout, RunFile
from batchmix.store.schema import PartFooter
from batchmix.store.shard import Judge, Shard, request_hash

_READING = 2
"""How values become texts in a prompt. Where that changes, answers to what was asked otherwise are counted once."""


class Digests:
    """What tells whether a part still belongs to the job and the input."""

    def __init__(self, job: Job, models: tuple[Model, ...], dataset: Dataset) -> None:
        asked = job.input
        self.requests = _digest(
            {
                "prompt": asked.prompt,
                "system": asked.system,
                "messages": asked.messages,
                "models": [(model.name, model.id, _asking(model.params)) for model in models],
                "samples": job.samples,
                "path": job.provider.path,
                **{key: column for key in ("model", "params") if (column := getattr(asked, key)) is not None},
            }
        )
        self.columns = _digest([str(dataset.carried_schema.remove_metadata()), asked.id, asked.columns])
        self._spans = [span.digest for span in dataset.scan.spans]
        self.accepted = _digest([_READING, self.requests, self.columns, self._spans])

    def shard(self, index: int) -> str:
        """Return the digest of a shard: its input bytes and the request-making part of the job."""
        return _digest([self.requests, self._spans[index]])


class Work(msgspec.Struct):
    """What this start is to do."""

    run: RunFile
    models: tuple[Model, ...]
    digests: Digests
    shards: list[int]
    """Those that have work left, in order."""
    done: list[PartFooter]
    """Of the parts that are left as they are."""
    stale: list[int]
    """Shards beyond the end of the input, whose parts and journals are to go."""


class Resume:
    """Holds a job and its input against what stands in the run folder."""

    def __init__(self, job: Job, dataset: Dataset, layout: Layout, judge: Judge) -> None:
        self._job = job
        self._dataset = dataset
        self._layout = layout
        self._judge = judge
        self.models = lane_models(job, dataset.scan)
        self._digests = Digests(job, self.models, dataset)
        self._journals = layout.journals()
        self._footers = {index: read_part_footer(path) for index, path in list_parts(layout.data).items()}

    def work(self, known: RunFile | None, *, update: bool, retry_rejected: bool) -> Work:
        """Return what is to be done. Raises `RunError` where answers would be lost or asked for again."""
        if known is not None and known.accepted != self._digests.accepted and not update:
            self._refuse_lost_answers(known)
        spans = self._dataset.scan.spans
        left = [index for index in range(len(spans)) if self._has_work(index, retry_rejected=retry_rejected)]
        done = [self._footers[index] for index in range(len(spans)) if index not in set(left)]
        stale = sorted(index for index in self._footers.keys() | self._journals.keys() if index >= len(spans))
        return Work(self._run_file(known), self.models, self._digests, left, done, stale)

    def _run_file(self, known: RunFile | None) -> RunFile:
        scan = self._dataset.scan
        names = [model.name for model in self.models]
        asked_of_each = len(names) if self._job.models else 1
        return RunFile(
            name=self._job.name,
            rehearsal=self._job.provider.rehearsal,
            shard_rows=scan.shard_rows,
            job=self._job.public(),
            requests=self._digests.requests,
            accepted=self._digests.accepted,
            columns=self._digests.columns,
            carried=base64.b64encode(self._dataset.carried_schema.serialize()).decode(),
            models=names,
            rows=scan.rows,
            results=scan.rows * asked_of_each * self._job.samples,
            scan=msgspec.to_builtins(scan),
            starts=known.starts if known else [],
            canary=known.canary if known else {},
        )

    def _has_work(self, index: int, *, retry_rejected: bool) -> bool:
        footer = self._footers.get(index)
        if footer is None or index in self._journals or footer.totals.failed:
            return True
        if footer.digest != self._digests.shard(index) or footer.columns != self._digests.columns:
            return True
        return retry_rejected and footer.totals.rejected > 0

    def _refuse_lost_answers(self, known: RunFile) -> None:
        again = gone = 0
        for index in sorted(self._footers.keys() | self._journals.keys()):
            if index in self._journals or not self._same_requests(index) or self._footers[index].totals.failed:
                asked, dropped = self._lost_answers(index)
                again, gone = again + asked, gone + dropped
        folder = self._layout.root
        if again or gone:
            parts = [f"ask again for {again} answers that are there"] * bool(again)
            parts += [f"drop {gone} answers of rows or models that it no longer asks for"] * bool(gone)
            raise RunError(
                f"{folder}: {self._what_changed(known)}; going on would {' and '.join(parts)}."
                " Add --update to do that, or choose another folder with --out"
            )
        if self._footers and known.columns != self._digests.columns:
            raise RunError(
                f"{folder}: the carried columns (input.columns, input.id, or a column's type) have changed since; add"
                " --update to write the finished parts again with them (nothing is asked again), or choose another"
                " folder with --out"
            )

    def _what_changed(self, known: RunFile) -> str:
        limit = self._dataset.scan.limit
        same = (known.requests, known.columns) == (self._digests.requests, self._digests.columns)
        if limit is None or limit >= known.rows or not same:
            return "the job or its input has changed since"
        return f"--limit {limit} is another than before: this run is about {known.rows:,} rows (--limit {known.rows})"

    def _same_requests(self, index: int) -> bool:
        known = index < len(self._dataset.scan.spans)
        return known and self._footers[index].digest == self._digests.shard(index)

    def _lost_answers(self, index: int) -> tuple[int, int]:
        """Return how many answers of a shard would be asked for again, and how many would go."""
        part = part_path(self._layout.data, index)
        shard = Shard(index, self._journals.get(index, {}), part, self._judge)
        shard.close()
        answers = {key: entry.hash for key, entry in shard.entries.items() if entry.status == "ok"}
        again = 0
        for model in self.models if index < len(self._dataset.scan.spans) else ():
            for batch in self._dataset.requests(index, model):
                for request in batch:
                    known = answers.pop(request.key, None)
                    again += known is not None and known != request_hash(request)
        return again, len(answers)


def lane_models(job: Job, scan: Scan) -> tuple[Model, ...]:
    """Return the job's models, or those that its rows name."""
    return job.models or tuple(Model(name, name, job.params, job.limits, places=job.places) for name in scan.models)


def check_same_run(job: Job, known: RunFile, root: Path) -> None:
    """Raise `RunError` where a folder can't be this job's at all."""
    if known.name != job.name:
        raise RunError(
            f"{root}: is the run of another job, {known.name!r}; this one is {job.name!r}; choose another --out"
        )
    if known.rehearsal != job.provider.rehearsal:
        raise RunError(
            f"{root}: was filled {'by rehearsal' if known.rehearsal else 'by a real provider'}, and rehearsed answers"
            " never mix with real ones; choose another folder with --out"
        )


def drop_stale(layout: Layout, stale: list[int]) -> None:
    """Remove parts and journals of shards that the input no longer has."""
    journals = layout.journals()
    for index in stale:
        part_path(layout.data, index).unlink(missing_ok=True)
        for path in journals.get(index, {}).values():
            path.unlink(missing_ok=True)
    if stale:
        sync_folder(layout.data)
        sync_folder(layout.journal)


def known_scan(known: RunFile | None) -> Scan | None:
    """Return the scan of an earlier start, or None if there is none that this version understands."""
    if known is None:
        return None
    try:
        return msgspec.convert(known.scan, Scan)
    except msgspec.ValidationError:
        return None


def _asking(params: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters that make another request; how its answer comes is not among them."""
    return {name: value for name, value in params.items() if name not in STREAMING}


def _digest(value: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()[:32]
