"""Resumes a run: finds the shards in the run folder that have work left.

If the job or the input has changed since the last start, the answers in the folder are compared with the new requests.
If an answer would be dropped or requested again, the start is refused; `--update` allows it.
"""

from __future__ import annotations

import base64
from collections.abc import Container, Iterable

import msgspec

from batchmix.engine.missing_answers import check_missing
from batchmix.engine.shard_comparison import Digests, ShardComparison
from batchmix.errors import RunError
from batchmix.formats.amounts import counted
from batchmix.job import CheckedJob
from batchmix.job.masking import redacted_paths
from batchmix.load import Dataset, Scan
from batchmix.redact import Secrets
from batchmix.store.filesystem import sync_folder
from batchmix.store.inventory import Inventory
from batchmix.store.ledger import ShardDropped, ShardLeftOpen, ShardSealed
from batchmix.store.parts import part_path
from batchmix.store.run_folder import Layout, RunFile
from batchmix.store.schema import VERSION, PartFooter, RunIdentity


class PendingWork(msgspec.Struct):
    """The work of this start: the shards to send, to write again, and to remove."""

    run: RunFile
    digests: Digests
    shards: list[int]
    """Shards with work left, in input order."""
    done: list[PartFooter]
    """Footers of the parts that have no work left."""
    outdated_shards: list[int]
    """Shards in `done` whose parts have an older schema version. Their parts are written again after all others."""
    stale: list[int]
    """Shards beyond the end of the input. Their parts and journals are removed."""
    damaged_parts: frozenset[int]
    """Shards whose parts are damaged. Their parts are written again."""
    ledger_updates: list[ShardSealed | ShardLeftOpen]
    """Lines to append to the ledger before anything else in the folder changes."""

    @property
    def changes_parts(self) -> bool:
        """Whether this start may write or remove parts."""
        return bool(self.shards or self.outdated_shards or self.stale)

    def await_shards(self, shards: Iterable[int]) -> None:
        """Take up shards whose input is still to come, also if they have a part, which was made of what there was."""
        self.shards = sorted({*self.shards, *shards})
        self.done = [footer for footer in self.done if footer.shard not in set(self.shards)]

    def limit_to(self, shards: Container[int]) -> None:
        """Leave the work in other shards, and the rewriting of outdated parts, to another start."""
        self.shards = [index for index in self.shards if index in shards]
        self.outdated_shards = []


class Resume:
    """Finds the work that is left, by comparing a job and its input with a run folder."""

    def __init__(self, job: CheckedJob, dataset: Dataset, inventory: Inventory) -> None:
        self._job = job
        self._dataset = dataset
        self._inventory = inventory
        self._comparison = ShardComparison(job, dataset, inventory)

    def work(self, previous: RunFile | None, *, update: bool, retry_rejected: bool) -> PendingWork:
        """Return the work of this start.

        Unless `update` is set, raises `RunError` if answers are missing, or would be dropped or requested again.
        """
        ledger_updates = [*self._inventory.unrecorded(), *check_missing(self._comparison, update=update)]
        count = self._comparison.count
        unfinished = [index for index in range(count) if self._has_work(index, retry_rejected=retry_rejected)]
        # A part without work may hold answers to requests that have changed, and no start has compared them yet.
        if not update and (retry_rejected or self._has_changed(previous)):
            self._refuse_lost_answers(previous, unfinished)
        done = [self._inventory.parts[index] for index in range(count) if index not in set(unfinished)]
        stale = sorted(
            index for index in self._inventory.parts.keys() | self._inventory.journals.keys() if index >= count
        )
        return PendingWork(
            run=self._run_file(previous),
            digests=self._comparison.digests,
            shards=unfinished,
            done=done,
            outdated_shards=self._outdated_shards(done, unfinished, update=update),
            stale=stale,
            damaged_parts=frozenset(self._inventory.damaged_parts),
            ledger_updates=ledger_updates,
        )

    def _outdated_shards(self, done: list[PartFooter], unfinished: list[int], *, update: bool) -> list[int]:
        """Return the shards among `done` whose parts have an older schema version.

        Parts of one run need the same version. So if there are only older parts, and none is to be written, return an
        empty list, except for an update.
        """
        outdated = [footer.shard for footer in done if footer.version != VERSION]
        return outdated if update or unfinished or len(outdated) < len(done) else []

    def _has_changed(self, previous: RunFile | None) -> bool:
        """Return whether the job or the input has changed since the last start.

        Without a `run.json`, any existing part or journal counts as a change.
        """
        return self._inventory.holds_any if previous is None else previous.accepted != self._comparison.digests.accepted

    def _run_file(self, previous: RunFile | None) -> RunFile:
        scan = self._dataset.scan
        names = [model.name for model in self._dataset.models]
        job, secrets = self._job.public(), self._inventory.layout.secrets or Secrets()
        models_of_each = len(names) if self._job.models else 1
        identity = self._identity(previous)
        return RunFile(
            name=self._job.name,
            rehearsal=self._job.provider.rehearsal,
            shard_rows=scan.shard_rows,
            job=job,
            requests=self._comparison.digests.requests,
            accepted=self._comparison.digests.accepted,
            columns=self._comparison.digests.columns,
            carried=base64.b64encode(self._dataset.carried_schema.serialize()).decode(),
            models=names,
            rows=scan.rows,
            results=scan.rows * models_of_each * self._job.samples,
            scan=msgspec.to_builtins(scan),
            starts=previous.starts if previous else [],
            canary=previous.canary if previous else {},
            run=identity.run,
            night=identity.night,
            ways={model.name: model.way for model in self._dataset.models if model.way},
            masked=[list(path) for path in redacted_paths(job, secrets)],
        )

    def _identity(self, previous: RunFile | None) -> RunIdentity:
        """Return the identity that the run has had from its first start, or a new one."""
        layout, job = self._inventory.layout, self._job
        if previous is not None and previous.run:
            return layout.identity(previous)
        known = next((footer for footer in self._inventory.parts.values() if footer.run), None)
        if known is not None:
            return RunIdentity(job.name, known.run, known.night)
        return RunIdentity(job.name, layout.name_of_run(job.night), job.night)

    def _has_work(self, index: int, *, retry_rejected: bool) -> bool:
        footer, digests = self._inventory.parts.get(index), self._comparison.digests
        if footer is None or index in self._inventory.journals or footer.totals.failed:
            return True
        if footer.digest != digests.shard(index) or footer.columns != digests.columns:
            return True
        return retry_rejected and footer.totals.rejected > 0

    def _refuse_lost_answers(self, previous: RunFile | None, unfinished: list[int]) -> None:
        changed = dropped = 0
        secrets = self._inventory.layout.secrets
        before = previous.classifier(secrets) if previous and self._changed_answer(previous) else None
        for index in sorted(self._inventory.parts.keys() | self._inventory.journals.keys()):
            if index in unfinished or index >= self._comparison.count:
                _, changed_here, dropped_here = self._comparison.compare(index, before)
                changed, dropped = changed + changed_here, dropped + dropped_here
        folder = self._inventory.layout.root
        if changed or dropped:
            parts = [f"request {counted(changed, 'existing answer')} again"] * bool(changed)
            parts += [f"drop {counted(dropped, 'answer')} of rows or models that are no longer in the job"] * bool(
                dropped
            )
            raise RunError(
                f"{folder}: {self._what_changed(previous)}; resuming would {' and '.join(parts)}."
                " Add --update to do that, or choose another folder with --out"
            )
        if any(footer.columns != self._comparison.digests.columns for footer in self._inventory.parts.values()):
            raise RunError(
                f"{folder}: {self._changed_columns(previous)} since; add"
                " --update to write the finished parts again with them (nothing is sent for that), or choose another"
                " folder with --out"
            )

    def _changed_answer(self, previous: RunFile | None) -> list[str]:
        """Return the settings of the answers' columns that have changed since the last start."""
        answer = self._job.public().get("answer") or {}
        before = (previous.job.get("answer") or {}) if previous else answer
        return [f"answer.{name}" for name in ("schema", "flatten") if answer.get(name) != before.get(name)]

    def _changed_columns(self, previous: RunFile | None) -> str:
        if names := self._changed_answer(previous):
            return f"{' and '.join(names)}, and with it the columns of the answers, have changed"
        return "the carried columns (input.columns, input.id, or a column's type) have changed"

    def _what_changed(self, previous: RunFile | None) -> str:
        if previous is None:
            return "the answers there are not to the job's requests"
        digests, limit = self._comparison.digests, self._dataset.scan.limit
        same = (previous.requests, previous.columns) == (digests.requests, digests.columns)
        scan = previous_scan(previous)
        if same and scan is not None and [span.digest for span in scan.shards] == digests.spans:
            return (
                "batchmix now makes other requests of some rows than when the run began (NaN is null, 0.1 of 32 bits is"
                " 0.1, and the weight of a message is not sent)"
            )
        if limit is None or limit >= previous.rows or not same:
            return "the job or its input has changed since"
        return f"--limit {limit} differs from before: this run has {counted(previous.rows, 'row')}"


def drop_stale(layout: Layout, stale: list[int]) -> None:
    """Remove the parts and journals of shards that the input no longer has."""
    journals = layout.journals()
    layout.ledger.append(*map(ShardDropped, stale))
    for index in stale:
        part_path(layout.data, index).unlink(missing_ok=True)
        for path in journals.get(index, {}).values():
            path.unlink(missing_ok=True)
    if stale:
        sync_folder(layout.data)
        sync_folder(layout.journal)


def previous_scan(previous: RunFile | None) -> Scan | None:
    """Return the result of the scan by an earlier start. None if there is none, or this version can't read it."""
    if previous is None:
        return None
    try:
        scan = msgspec.convert(previous.scan, Scan)
    except msgspec.ValidationError:
        return None
    per_file = (scan.paths, scan.sizes, scan.digests, scan.stamps)
    return scan if all(len(values) == len(scan.sources) for values in per_file) else None
