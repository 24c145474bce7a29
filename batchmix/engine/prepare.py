"""What comes before anything is sent: the input scanned, the work found, the models priced, other runs opened."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from batchmix.engine.conflicts import check_same_run
from batchmix.engine.resume import Resume, Work, known_scan
from batchmix.engine.shutdown import check_deadline
from batchmix.engine.status import Phase, RunStatus
from batchmix.errors import JobError, PartDamaged, RunUnreadable
from batchmix.job import REHEARSAL, Job
from batchmix.load import Dataset, ScanOptions, open_dataset
from batchmix.load.rubrics import check_rubrics
from batchmix.load.sources import STDIN, find_sources
from batchmix.prices.catalogue import Catalogue, read_catalogue
from batchmix.prices.cost import Prices
from batchmix.prices.lookup import PriceLookup
from batchmix.store.inventory import Held
from batchmix.store.reuse import Reusable
from batchmix.store.run_folder import Layout, RunFile
from batchmix.store.schema import RESULT_COLUMNS

if TYPE_CHECKING:
    from batchmix.rehearsal import Behaviour


_logger = logging.getLogger(__name__)


class Options(msgspec.Struct, frozen=True):
    """How this start is to go; nothing of it makes another request."""

    limit: int | None = None
    update: bool = False
    retry_rejected: bool = False
    reject_bad_rows: bool = False
    keep_going: bool = False
    canary: int | None = None
    """Only so many rows, drawn from all of the input; the others are left for another start."""
    models: tuple[str, ...] = ()
    """Only these, by the names of their entries; empty: all."""
    wait: bool = False
    """Wait for whoever works on the folder, rather than raise `RunLocked`."""


class Ready(msgspec.Struct, frozen=True):
    """What a start knows before it sends."""

    dataset: Dataset
    work: Work
    prices: Prices
    reusable: Reusable | None
    """Other runs' answers; None: the job names no other run."""


def prepare(job: Job, layout: Layout, spool: Path, options: Options, run_status: RunStatus) -> Ready:
    """Hold a job against its input and its folder; what is spooled of an input that is refused is taken away.

    Raises `UsageError` for all that must be mended before anything is sent.
    """
    behaviour = rehearsal_behaviour(job)  # a mistake in it is found before anything else is done
    held = Held(layout, whole=options.update)
    known = _known(layout, held)
    check_same_run(job, known, held)
    _refuse_own_files(job, layout)
    lookup = PriceLookup(
        job,
        known.prices if known else {},
        known.models if known else (),
        _own_catalogue(behaviour) if behaviour else None,
    )
    run_status.enter(Phase.SCANNING)
    shard_rows = (known.shard_rows if known else held.shard_rows) or job.output.shard_rows
    cut = ScanOptions(shard_rows, options.limit, reject=options.reject_bad_rows)
    dataset = _input(job, spool, known, cut, run_status)
    try:
        if job.eval:
            job.eval.check_columns(dataset.carried_schema.names)
            check_rubrics(job.eval, dataset.carried_schema.names)
        work = Resume(job, dataset, held).work(known, update=options.update, retry_rejected=options.retry_rejected)
        _check_models(options.models, [model.name for model in work.models])
        work.run.prices = lookup.settled(work.models)
        reusable = _reusable(job)
    except BaseException:
        dataset.discard()
        raise
    return Ready(dataset, work, Prices(work.run.prices, work.models), reusable)


def _refuse_own_files(job: Job, layout: Layout) -> None:
    """Raise `JobError` where a run would read what it writes."""
    own = [folder.resolve() for folder in (layout.data, layout.journal, layout.input, layout.evaluation)]
    for source in find_sources(job.input.path):
        if source.path != STDIN and any(Path(source.path).resolve().is_relative_to(folder) for folder in own):
            raise JobError(f"input.path: {source.label} lies in the run's own folder; choose another with --out")


def _known(layout: Layout, held: Held) -> RunFile | None:
    """Return `run.json`, or None where there is none, or where what lies in the folder must do without it."""
    try:
        known, why = layout.read_run(), "is missing"
        if known is not None and not layout.run_is_whole():
            known, why = None, "was damaged or changed, its checksum does not hold"
    except RunUnreadable as error:
        if not held.holds_any:
            raise
        known, why = None, error.reason
    if held.unknown:
        words = "%s: %d of its lines are damaged; what they said of answers is not known"
        _logger.warning(words, layout.ledger.path, held.unknown)
    if known is None and (held.holds_any or layout.run_json.exists()):
        _logger.warning(
            "%s: %s; what it said is taken from the job and the answers that are there", layout.run_json, why
        )
    return known


def _input(job: Job, spool: Path, known: RunFile | None, cut: ScanOptions, run_status: RunStatus) -> Dataset:
    """Return the scanned input. Raises `InputError` or `JobError`."""

    began = time.monotonic()

    def progress(rows: int) -> None:
        run_status.scan(rows)
        check_deadline(job.timeouts, began)

    return open_dataset(
        job,
        cut,
        spool=spool,
        previous=known_scan(known),
        reserved=RESULT_COLUMNS,
        on_progress=progress,
    )


def _reusable(job: Job) -> Reusable | None:
    """Return the answers of the runs that the job names. Raises `JobError`."""
    if not job.reuse.folders:
        return None
    if any(Path(folder).resolve() == Path(job.output.path).resolve() for folder in job.reuse.folders):
        raise JobError("reuse.from: names the run itself")
    try:
        return Reusable(job.reuse.folders, rehearsal=job.provider.rehearsal)
    except PartDamaged as error:
        raise JobError(f"reuse.from: {error}") from error


def _check_models(chosen: tuple[str, ...], names: list[str]) -> None:
    for name in chosen:
        if name not in names:
            raise JobError(f"--models: the job has no {name!r}; it has {', '.join(names)}")


def _own_catalogue(behaviour: Behaviour) -> Catalogue:
    """Return what the stand-in would say of its models, before it is there to be asked.

    Where it was not told which models there are it has any, and no id is wrong.
    """
    from batchmix.rehearsal.lookups import catalogue

    offers = read_catalogue(msgspec.json.encode(catalogue(behaviour)))
    return Catalogue(offers, fresh=bool(behaviour.models))


def rehearsal_behaviour(job: Job) -> Behaviour | None:
    """Return how the stand-in provider is to behave, or None where a real one answers. Raises `JobError`."""
    if not job.provider.rehearsal:
        return None
    from batchmix.rehearsal import Behaviour  # a web server is heavy, and seldom needed

    try:
        return Behaviour.parse(job.provider.base_url.removeprefix(REHEARSAL).lstrip("?"))
    except ValueError as error:
        raise JobError(f"provider.base_url: {error}") from error
