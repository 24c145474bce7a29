"""Prepares a start: scans the input, finds the work left, looks up prices, and opens other runs to reuse answers."""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import msgspec

from batchmix.engine.account import BalanceLookup
from batchmix.engine.answers import SchemaSent, sent_schemas, settled_ways, typed_of
from batchmix.engine.canary import draw_canary
from batchmix.engine.flow import SealedParts
from batchmix.engine.rehearsal_setup import rehearsal_behaviour, rehearsal_catalogue
from batchmix.engine.resume import PendingWork, Resume, previous_scan
from batchmix.engine.run_status import Phase, RunStatus
from batchmix.engine.shutdown import StopRequest, check_deadline
from batchmix.errors import InputError, JobError, PartDamaged, RunError, RunUnreadable
from batchmix.formats.amounts import counted
from batchmix.formats.pyarrow_setup import set_up_arrow
from batchmix.job import CheckedJob
from batchmix.load import RUN, Dataset, ScanOptions, check_eval_input, find_sources, missing_parts, open_dataset
from batchmix.prices.budget import Purse
from batchmix.prices.cost import Prices
from batchmix.prices.lookup import PriceLookup
from batchmix.records import CanaryDraw
from batchmix.redact import Secrets
from batchmix.remote.files import is_url
from batchmix.remote.stubs import read_origin
from batchmix.responses.classify import Classifier
from batchmix.store.inventory import FileOrigin, Inventory
from batchmix.store.result_feed import ResultQueue
from batchmix.store.reuse import ReusableAnswers, ReuseCheck
from batchmix.store.run_folder import Layout, RunFile
from batchmix.store.schema import RESULT_COLUMNS

_logger = logging.getLogger(__name__)


class Options(msgspec.Struct, frozen=True):
    """What the caller gives for one start, beside the job. It does not change any request."""

    limit: int | None = None
    update: bool = False
    retry_rejected: bool = False
    reject_bad_rows: bool = False
    keep_going: bool = False
    canary: int | None = None
    """Number of random rows per model. Only these are sent; the other rows are left for another start. None: all rows
    are sent."""
    models: tuple[str, ...] = ()
    """Names of the models to send to. Empty: all models of the job."""
    scheduled: bool = False
    """Whether the scheduler starts the run. It then waits for another process that works on the folder, instead of
    raising `RunLocked`."""
    rows: BinaryIO | None = None
    """Replaces stdin, or has the rows that the job's `input.path` says are in memory. None for the process's stdin, and
    for the run folder's copy of rows in memory. If it is empty, the run folder's copy is read in both cases."""
    results: ResultQueue | None = None
    """Gets each result of the run as soon as it is there, also those of earlier starts. None if they are not needed."""
    stop_request: StopRequest = msgspec.field(default_factory=StopRequest)
    """Through it, another thread can stop the run."""
    rows_from: SealedParts | None = None
    """The parts of the step before, whose rows are taken as they come. None if all rows are there."""
    parts_to: SealedParts | None = None
    """Is told which parts of this run are final. None if nobody waits for them."""
    purse: Purse | None = None
    """The budget of a whole chain, of which the run is a step. None if the run has the budget for itself."""
    is_reusable: ReuseCheck | None = None
    """Whether another run's answer to a request is reused. None: each complete one is."""

    def of_judges(self) -> Options:
        """Return the options of the judges that score the run's answers: those that say which requests are sent."""
        return Options(retry_rejected=self.retry_rejected, keep_going=self.keep_going, stop_request=self.stop_request)

    @property
    def is_try(self) -> bool:
        """Whether this start leaves out rows or models of the job on purpose."""
        return bool(self.limit is not None or self.models or self.canary)


class PreparedRun(msgspec.Struct, frozen=True):
    """The result of `prepare`: the checked job, its input, its work and its prices."""

    job: CheckedJob
    options: Options
    layout: Layout
    dataset: Dataset
    work: PendingWork
    prices: Prices
    reusable: ReusableAnswers | None
    """The answers of the other runs that the job names in `reuse.from`; None if the job names no runs."""
    balance: BalanceLookup
    schemas: tuple[SchemaSent, ...] = ()
    """How the schema of the answers is sent to each model. Empty if the job has none."""

    @property
    def canary(self) -> dict[str, CanaryDraw]:
        """The drawn rows that this start sends, by model. Empty if it sends all rows."""
        return self.work.run.canary if self.options.canary else {}


def prepare(
    job: CheckedJob, layout: Layout, options: Options, run_status: RunStatus, spool: Path | None = None
) -> PreparedRun:
    """Check a job against its input and its run folder, and return everything that a start needs for sending.

    `spool` is the folder for copies of stdin and of compressed input, by default a folder in the run folder. Raises
    `UsageError` if anything must be fixed before sending. New files in the spool are then removed again.
    """
    set_up_arrow()
    balance = BalanceLookup(job, layout.secrets or Secrets())
    inventory = Inventory(layout, whole=options.update)
    previous = _run_file(layout, inventory)
    _check_same_run(job, previous, inventory)
    _refuse_own_files(job, layout)
    coming = options.rows_from.pending if options.rows_from else None
    if coming is None:
        _refuse_unfinished(job)
    lookup = _price_lookup(job, previous)
    run_status.enter(Phase.SCANNING)
    shard_rows = (previous.shard_rows if previous else inventory.shard_rows) or job.output.shard_rows
    scan_options = ScanOptions(
        shard_rows,
        options.limit,
        reject_bad_rows=options.reject_bad_rows,
        reserved=RESULT_COLUMNS | job.answer_columns,
        query_again=options.update,
        on_progress=_progress(job, run_status, options.stop_request),
    )
    dataset = open_dataset(
        job, scan_options, spool=spool or layout.input, previous=previous_scan(previous), stdin=options.rows
    )
    try:
        if job.eval:
            check_eval_input(job, dataset)
        if job.answer:
            dataset.settle_ways(settled_ways(job, dataset.models, lookup.catalogue(), previous))
        schemas = sent_schemas(job, dataset.models, lookup.catalogue()) if job.answer else ()
        work = Resume(job, dataset, inventory).work(
            previous, update=options.update, retry_rejected=options.retry_rejected
        )
        if coming:
            work.await_shards(index for index in range(len(dataset.scan.shards)) if dataset.parts_of(index) & coming)
        _check_models(options.models, [model.name for model in dataset.models])
        work.run.fix_prices(lookup.settled(dataset.models))
        reusable = _reusable(job, options.is_reusable)
        if options.canary:
            draw_canary(dataset, work, job, options.canary)
    except BaseException:
        dataset.discard()
        raise
    prices = Prices(work.run.prices, dataset.models)
    return PreparedRun(job, options, layout, dataset, work, prices, reusable, balance, schemas)


def _price_lookup(job: CheckedJob, previous: RunFile | None) -> PriceLookup:
    behaviour = rehearsal_behaviour(job)
    catalogue = rehearsal_catalogue(behaviour) if behaviour else None
    if previous is None:
        return PriceLookup(job, catalogue=catalogue)
    return PriceLookup(job, previous.prices, previous.models, catalogue)


def _check_same_run(job: CheckedJob, previous: RunFile | None, inventory: Inventory) -> None:
    """Raise `RunError` if a file in the folder belongs to another job, or if rehearsed and real answers would mix."""
    root = inventory.layout.root
    own = [FileOrigin(root, previous.name, previous.rehearsal, previous.shard_rows)] if previous else []
    for origin in [*own, *inventory.origins]:
        if origin.job != job.name:
            raise RunError(
                f"{origin.path}: belongs to another job, {origin.job!r}; this one is {job.name!r}; choose another"
                " folder with --out"
            )
        if origin.rehearsal is None and previous is None and job.provider.rehearsal:
            raise RunError(
                f"{origin.path}: does not say whether these answers were rehearsed, and rehearsed ones never mix with"
                " real ones; put run.json back, or choose another folder with --out"
            )
        if origin.rehearsal not in {None, job.provider.rehearsal}:
            source = "by rehearsal" if origin.rehearsal else "by a real provider"
            raise RunError(
                f"{origin.path}: was filled {source}, and rehearsed answers never mix with real ones; choose another"
                " folder with --out"
            )


def _refuse_own_files(job: CheckedJob, layout: Layout) -> None:
    """Raise `JobError` if an input file is one of the files that the run itself writes."""
    own = [folder.resolve() for folder in (layout.data, layout.journal, layout.input, layout.evaluation)]
    origin = read_origin(layout.root)
    urls = tuple(f"{origin.url}/{folder.name}/" for folder in own) if origin else ()
    for source in find_sources(job.input.path):
        if is_url(source.path):
            is_own = source.path.startswith(urls)
        else:
            is_own = not source.is_stream and any(Path(source.path).resolve().is_relative_to(folder) for folder in own)
        if is_own:
            raise JobError(f"input.path: {source.label} lies in the run's own folder; choose another with --out")


def _refuse_unfinished(job: CheckedJob) -> None:
    """Raise `InputError` if the input is a run that lacks results."""
    parts = find_sources(job.input.path)
    missing = missing_parts(tuple(part.path for part in parts)) if parts[0].format == RUN else 0
    if missing:
        folder = job.input.path
        raise InputError(
            f"{folder}: this run is the input, and it is unfinished: {counted(missing, 'part')} of {len(parts):,} are"
            f" missing; go on with it first: batchmix resume {shlex.quote(folder)}"
        )


def _run_file(layout: Layout, inventory: Inventory) -> RunFile | None:
    """Read `run.json`. None if it is missing or damaged; the run is then resumed from the answers in the folder.

    Raises `RunUnreadable` if it is damaged and there are no answers.
    """
    try:
        run, why = layout.read_run(), "is missing"
        if run is not None and not layout.run_is_whole():
            run, why = None, "was damaged or changed, its checksum does not hold"
    except RunUnreadable as error:
        if not inventory.holds_any:
            raise
        run, why = None, error.reason
    if inventory.damaged_ledger_lines:
        message = "%s: %d of its lines are damaged; what they said of answers is unknown"
        _logger.warning(message, layout.ledger.path, inventory.damaged_ledger_lines)
    if run is None and (inventory.holds_any or layout.run_json.exists()):
        _logger.warning(
            "%s: %s; what it said is taken from the job and the answers that are there", layout.run_json, why
        )
    return run


def _progress(job: CheckedJob, run_status: RunStatus, stop_request: StopRequest) -> Callable[[int], None]:
    """Return a function that records the number of scanned rows.

    It raises `Stopped` after the job's deadline, and the reason of the stop request if the run is to stop.
    """
    began = time.monotonic()

    def progress(rows: int) -> None:
        run_status.set_scanned(rows)
        stop_request.check()
        check_deadline(job.timeouts, began)

    return progress


def _reusable(job: CheckedJob, check: ReuseCheck | None) -> ReusableAnswers | None:
    """Open the answers of the runs that the job names in `reuse.from`; None if it names none. Raises `JobError`."""
    if not job.reuse.folders:
        return None
    if any(Path(folder).resolve() == Path(job.output.path).resolve() for folder in job.reuse.folders):
        raise JobError("reuse.from: names the run itself")
    try:
        return ReusableAnswers(
            job.reuse.folders, Classifier(typed=typed_of(job)), rehearsal=job.provider.rehearsal, check=check
        )
    except PartDamaged as error:
        raise JobError(f"reuse.from: {error}") from error


def _check_models(chosen: tuple[str, ...], names: list[str]) -> None:
    for name in chosen:
        if name not in names:
            raise JobError(f"--models: the job has no {name!r}; it has {', '.join(names)}")
