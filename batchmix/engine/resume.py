"""What a start finds in the run folder, and what it may do with it.

A job and an input that were accepted once are not asked about again; anything else is held against the answers that
are there, and only a person's `--update` lets any of them go.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import msgspec

from batchmix.engine.conflicts import MissingAnswers, refuse_missing
from batchmix.errors import RunError
from batchmix.formats.amounts import counted
from batchmix.job import Job, Model
from batchmix.load import STREAMING, Dataset, Scan
from batchmix.records import CLASSIFIER_VERSION
from batchmix.store.filesystem import sync_folder
from batchmix.store.inventory import Inventory
from batchmix.store.ledger import ShardDropped, ShardLeftOpen, ShardSealed
from batchmix.store.parts import part_path
from batchmix.store.run_folder import Layout, RunFile
from batchmix.store.schema import VERSION, PartFooter
from batchmix.store.shard import Shard

_READING = 3
"""How rows become requests. Where that changes, answers to what was asked otherwise are counted once."""


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
                **({"own": dataset.row_params} if dataset.row_params else {}),
            }
        )
        self.columns = _digest([str(dataset.carried_schema.remove_metadata()), asked.id, asked.columns])
        self.spans = [span.digest for span in dataset.scan.shards]
        self.accepted = _digest([_READING, self.requests, self.columns, self.spans])

    def shard(self, index: int) -> str:
        """Return the digest of a shard: its input bytes and the request-making part of the job."""
        return _digest([self.requests, self.spans[index]])


class Work(msgspec.Struct):
    """What this start is to do."""

    run: RunFile
    models: tuple[Model, ...]
    digests: Digests
    shards: list[int]
    """Those that have work left, in order."""
    done: list[PartFooter]
    """Of the parts that have no work left."""
    old: list[int]
    """Of these, the shards of earlier versions; written again after all else, so that all parts have one schema."""
    stale: list[int]
    """Shards beyond the end of the input, whose parts and journals are to go."""
    torn: frozenset[int]
    """Shards whose parts are not whole, and that are made whole again."""
    news: list[ShardSealed | ShardLeftOpen]
    """For the ledger, before anything changes."""


class Resume:
    """Holds a job and its input against what stands in the run folder."""

    def __init__(self, job: Job, dataset: Dataset, held: Inventory) -> None:
        self._job = job
        self._dataset = dataset
        self._held = held
        self._layout = held.layout
        self.models = lane_models(job, dataset.scan)
        self._digests = Digests(job, self.models, dataset)
        self._journals = held.journals
        self._footers = held.parts

    def work(self, known: RunFile | None, *, update: bool, retry_rejected: bool) -> Work:
        """Return what is to be done. Raises `RunError` where answers would be lost or asked for again."""
        news = [*self._held.unrecorded(), *self._left_by_others(update=update)]
        spans = self._dataset.scan.shards
        left = [index for index in range(len(spans)) if self._has_work(index, retry_rejected=retry_rejected)]
        # A part that was left as it is may have been asked for in another way, by which nobody has looked at it yet.
        if not update and (retry_rejected or self._is_other(known)):
            self._refuse_lost_answers(known, left)
        done = [self._footers[index] for index in range(len(spans)) if index not in set(left)]
        stale = sorted(index for index in self._footers.keys() | self._journals.keys() if index >= len(spans))
        return Work(
            self._run_file(known), self.models, self._digests, left, done, self._old(done, left), stale,
            frozenset(self._held.torn), news,
        )  # fmt: skip

    def _old(self, done: list[PartFooter], left: list[int]) -> list[int]:
        """Return the shards whose parts are of another version than what this start, or one before, writes."""
        old = [footer.shard for footer in done if footer.version != VERSION]
        return old if left or len(old) < len(done) else []

    def _is_other(self, known: RunFile | None) -> bool:
        """Return whether this is not what the folder was last about, as far as that is known."""
        return self._held.holds_any if known is None else known.accepted != self._digests.accepted

    def _left_by_others(self, *, update: bool) -> list[ShardLeftOpen]:
        """Return how shards are left that are not as they were left. Raises `RunError` where answers are missing."""
        spans = len(self._dataset.scan.shards)
        troubles = {index: words for index in range(spans) if (words := self._held.losses(index))}
        found = [self._missing(index, words) for index, words in troubles.items()]
        others = {
            index for index, judgings in self._held.classifier_versions.items() if judgings != {CLASSIFIER_VERSION}
        }
        found += [self._judged_otherwise(index) for index in sorted(others - troubles.keys()) if index < spans]
        if not self._held.last_states or (self._held.damaged_ledger_lines and not found):
            found = self._by_summary(self._layout.answers_in_summary(), found)
        if not update:
            refuse_missing(found, self._layout.root)
        return [one.left for one in found if one.left]

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

    def _refuse_lost_answers(self, known: RunFile | None, left: list[int]) -> None:
        again = gone = 0
        for index in sorted(self._footers.keys() | self._journals.keys()):
            if index in left or index >= len(self._dataset.scan.shards):
                _, asked, dropped = self._compared(index)
                again, gone = again + asked, gone + dropped
        folder = self._layout.root
        if again or gone:
            parts = [f"ask again for {counted(again, 'answer')} that {'is' if again == 1 else 'are'} there"] * bool(
                again
            )
            parts += [f"drop {counted(gone, 'answer')} of rows or models that it no longer asks for"] * bool(gone)
            raise RunError(
                f"{folder}: {self._what_changed(known)}; going on would {' and '.join(parts)}."
                " Add --update to do that, or choose another folder with --out"
            )
        if any(footer.columns != self._digests.columns for footer in self._footers.values()):
            raise RunError(
                f"{folder}: the carried columns (input.columns, input.id, or a column's type) have changed since; add"
                " --update to write the finished parts again with them (nothing is asked again), or choose another"
                " folder with --out"
            )

    def _what_changed(self, known: RunFile | None) -> str:
        if known is None:
            return "what lies there is not what the job asks for"
        limit = self._dataset.scan.limit
        same = (known.requests, known.columns) == (self._digests.requests, self._digests.columns)
        scan = previous_scan(known)
        if same and scan is not None and [span.digest for span in scan.shards] == self._digests.spans:
            return (
                "since it began, batchmix has come to ask some rows otherwise (NaN is null, 0.1 of 32 bits is 0.1,"
                " and the weight of a message is not sent)"
            )
        if limit is None or limit >= known.rows or not same:
            return "the job or its input has changed since"
        return f"--limit {limit} is another than before: this run is about {counted(known.rows, 'row')}"

    def _shard(self, index: int) -> Shard:
        part = part_path(self._layout.data, index)
        shard = Shard(index, self._journals.get(index, {}), part)
        shard.close()
        return shard

    def _missing(self, index: int, words: list[str]) -> MissingAnswers:
        """Return what is missing of a shard that is not as it was last known."""
        held, known = self._held, self._held.last_state(index)
        shard, again, gone = self._compared(index)
        there = fitting = shard.answers
        if known.sealed and not known.open and known.sealed.digest == self._digests.shard(index):
            fitting -= again + gone  # all that the part had were answers to what the job asks
        missing = max(0, known.answers - fitting)
        room, more = self._results(index) - there - missing, 0
        if known.exact:
            pass
        elif held.journals_are_short(index) or (index in held.torn and not known.sealed):
            more = room
        else:
            more = min(room, sum(one.answer for one in shard.damage[known.damaged :]))
        left = ShardLeftOpen(index, there, held.whole_bytes(index), len(shard.damage), torn=index in held.torn)
        return MissingAnswers(missing, more, words, left)

    def _judged_otherwise(self, index: int) -> MissingAnswers:
        """Return what is missing of a shard of whose journals another version has told what is an answer."""
        known, shard = self._held.last_state(index), self._shard(index)
        more = 0 if known.exact else shard.possible_answers
        shard.close()
        journal = self._layout.journal_path(index, min(self._journals[index]))
        words = [f"{journal}: another version of batchmix took more for an answer than this one does"]
        left = ShardLeftOpen(index, shard.answers, self._held.whole_bytes(index), len(shard.damage))
        return MissingAnswers(max(0, known.answers - shard.answers), more, words, left, otherwise=True)

    def _results(self, index: int) -> int:
        rows = min(self._dataset.scan.shard_rows, self._dataset.scan.rows - index * self._dataset.scan.shard_rows)
        return rows * len(self.models) * self._job.samples

    def _by_summary(self, known: int, found: list[MissingAnswers]) -> list[MissingAnswers]:
        """Return what is missing where nothing is known of shards, but how many answers the last summary counted."""
        footers, held = self._footers, self._held
        if known <= sum(footer.totals.ok for footer in footers.values()):
            return [msgspec.structs.replace(one, more=0) for one in found]
        looked = held.journals.keys() | held.torn.keys()
        there = sum(footer.totals.ok for index, footer in footers.items() if index not in looked)
        there += sum(self._shard(index).answers for index in looked)
        words = [f"{self._layout.summary_json} knows of {known}, and {there} are there"]
        words += [word for one in found for word in one.words]
        absent = set(range(len(self._dataset.scan.shards))) - footers.keys() - looked
        words += [f"{part_path(self._layout.data, index)}: is missing" for index in sorted(absent)]
        lost = MissingAnswers(max(0, known - there), 0, words, None)
        return [lost, *(msgspec.structs.replace(one, answers=0, more=0) for one in found)]

    def _compared(self, index: int) -> tuple[Shard, int, int]:
        """Return a shard, how many of its answers would be asked for again, and how many would go."""
        shard = self._shard(index)
        answers = {key: state.hash for key, state in shard.states.items() if state.status == "ok"}
        again = 0
        for model in self.models if index < len(self._dataset.scan.shards) else ():
            for batch in self._dataset.requests(index, model):
                for request in batch:
                    known = answers.pop(request.key, None)
                    again += known is not None and known != request.hash
        return shard, again, len(answers)


def lane_models(job: Job, scan: Scan) -> tuple[Model, ...]:
    """Return the job's models, or those that its rows name."""
    return job.models or tuple(Model(name, name, job.params, job.limits, places=job.places) for name in scan.models)


def drop_stale(layout: Layout, stale: list[int]) -> None:
    """Remove parts and journals of shards that the input no longer has."""
    journals = layout.journals()
    layout.ledger.append(*map(ShardDropped, stale))
    for index in stale:
        part_path(layout.data, index).unlink(missing_ok=True)
        for path in journals.get(index, {}).values():
            path.unlink(missing_ok=True)
    if stale:
        sync_folder(layout.data)
        sync_folder(layout.journal)


def previous_scan(known: RunFile | None) -> Scan | None:
    """Return the scan of an earlier start, or None if there is none that this version understands."""
    if known is None:
        return None
    try:
        scan = msgspec.convert(known.scan, Scan)
    except msgspec.ValidationError:
        return None
    of_files = (scan.paths, scan.sizes, scan.digests, scan.stamps)
    return scan if all(len(each) == len(scan.sources) for each in of_files) else None


def _asking(params: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters that make another request; how its answer comes is not among them."""
    return {name: value for name, value in params.items() if name not in STREAMING}


def _digest(value: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()[:32]
