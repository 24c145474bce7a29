"""One job from end to end: load → send → store. Read this first."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import logging
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from batchmix.arrow import set_up_arrow
from batchmix.canary import draw_canary
from batchmix.errors import BatchmixError, Interrupted, JobError, NoSpace, Stopped
from batchmix.job import REHEARSAL, Budget, Job
from batchmix.lanes import Course, Lane, run_lanes
from batchmix.load import Dataset, open_dataset
from batchmix.pace import noted
from batchmix.pricing import Quotes, spent
from batchmix.records import Board
from batchmix.redact import Secrets
from batchmix.resume import Resume, Work, check_same_run, drop_stale, known_scan
from batchmix.send.budget import LanePurse, Purse
from batchmix.send.classify import judge
from batchmix.send.client import Client
from batchmix.send.pool import Halt, Rules
from batchmix.send.prices import Prices
from batchmix.store.open_shards import Blueprint, OpenShards
from batchmix.store.reuse import Reusable
from batchmix.store.rundir import Layout, RunFile, Start, locked_folder, now_text
from batchmix.store.schema import RESULT_COLUMNS, part_schema
from batchmix.store.view import View, read_view

if TYPE_CHECKING:
    from batchmix.rehearsal import Behaviour, Rehearsal

_logger = logging.getLogger(__name__)
_DRAIN_SHARE = 0.1
"""Of the time to a deadline, at the most, is for what is in flight to end."""


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


def run(job: Job, secrets: Secrets, options: Options, board: Board) -> View:
    """Bring a run as far as it goes, and return what stands in its folder then.

    Raises `UsageError` where nothing was sent, `Stopped` and `Interrupted` where the same call resumes.
    """
    began = time.monotonic()
    set_up_arrow()
    rehearsal_behaviour(job)  # a mistake in it is found before anything is made
    with locked_folder(Path(job.output.path), wait=options.wait) as layout:
        layout.redacted = secrets.redacted
        known = layout.read_run()
        if known is not None:
            check_same_run(job, known, layout.root)
        quotes = Quotes(job, known)
        board.phase = "scanning"
        dataset = open_input(job, layout.input, known, options, board)
        try:
            work = Resume(job, dataset, layout, judge).work(
                known, update=options.update, retry_rejected=options.retry_rejected
            )
            _check_models(options.models, [model.name for model in work.models])
            work.run.prices = quotes.settled(work.models)
            reusable = open_reusable(job)
        except BatchmixError:
            dataset.discard()
            raise
        prices = Prices(work.run.prices, work.models)
        if options.canary:
            draw_canary(dataset, work, job.samples, options.canary)
        with _recorded(work, layout, prices, canary=bool(options.canary)):
            dataset.drop_stale_spools()
            drop_stale(layout, work.stale)
            if work.shards:
                _run_loop(_send(_Call(job, secrets, options, reusable, began), layout, dataset, work, board))
        return read_view(layout.root, judge, prices)


def open_reusable(job: Job) -> Reusable | None:
    """Return the answers of the runs that the job names. Raises `JobError`."""
    if not job.reuse.folders:
        return None
    if any(Path(folder).resolve() == Path(job.output.path).resolve() for folder in job.reuse.folders):
        raise JobError("reuse.from: names the run itself")
    return Reusable(job.reuse.folders, rehearsal=job.provider.rehearsal)


def _check_models(chosen: tuple[str, ...], names: list[str]) -> None:
    for name in chosen:
        if name not in names:
            raise JobError(f"--models: the job has no {name!r}; it has {', '.join(names)}")


def open_input(job: Job, spool: Path, known: RunFile | None, options: Options, board: Board) -> Dataset:
    """Return the scanned input. Raises `InputError` or `JobError`."""

    def progress(rows: int) -> None:
        board.scanned = rows

    dataset = open_dataset(
        job,
        spool=spool,
        shard_rows=known.shard_rows if known else job.output.shard_rows,
        known=known_scan(known),
        limit=options.limit,
        reject_bad_rows=options.reject_bad_rows,
        reserved=RESULT_COLUMNS,
        on_progress=progress,
    )
    if job.eval:
        job.eval.check_columns(dataset.carried_schema.names)
    return dataset


def rehearsal_behaviour(job: Job) -> Behaviour | None:
    """Return how the stand-in provider is to behave, or None where a real one answers. Raises `JobError`."""
    if not job.provider.rehearsal:
        return None
    from batchmix.rehearsal import Behaviour  # a web server is heavy, and seldom needed

    try:
        return Behaviour.parse(job.provider.base_url.removeprefix(REHEARSAL).lstrip("?"))
    except ValueError as error:
        raise JobError(f"provider.base_url: {error}") from error


class _Call(msgspec.Struct, frozen=True):
    job: Job
    secrets: Secrets
    options: Options
    reusable: Reusable | None
    began: float
    """On the monotonic clock."""


async def _send(call: _Call, layout: Layout, dataset: Dataset, work: Work, board: Board) -> None:
    job, options = call.job, call.options
    # One thread seals while the other reads and syncs; each more would keep memory of its own.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
    halt = Halt(job.timeouts.drain_s)
    draws = work.run.canary if options.canary else {}
    if draws:
        board.results = job.samples * sum(len(draw.picks) for draw in draws.values())
    else:
        board.results = work.run.results
        for footer in work.done:
            board.ok, board.rejected = board.ok + footer.totals.ok, board.rejected + footer.totals.rejected
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(_interrupts(halt, board))
        stack.enter_context(_deadline(call, halt, board))
        await stack.enter_async_context(noted(board, work.run.starts[-1]))
        behaviour = rehearsal_behaviour(job)
        url = await stack.enter_async_context(_stand_in(behaviour)) if behaviour else job.provider.base_url
        concurrency = sum(model.limits.concurrency for model in work.models)
        client = await stack.enter_async_context(Client(url, call.secrets, job.timeouts, concurrency))
        shards = OpenShards(layout, _blueprint(job, dataset, work), len(work.models), halt.stop)
        await stack.enter_async_context(shards)
        most = board.results - board.ok - board.rejected
        shards.hold(min(concurrency, most))
        course = Course(
            client, dataset, shards, work.shards, work.run.shard_rows, halt,
            _rules(job, options), options.retry_rejected, board,
            _purse(job, layout, work, halt), call.reusable, draws,
        )  # fmt: skip
        board.phase = "sending"
        _logger.info("%d of %d shards have work left", len(work.shards), len(dataset.scan.spans))
        lanes = [Lane(number, model, course) for number, model in enumerate(work.models)]
        chosen = [lane for lane in lanes if not options.models or lane.model.name in options.models]
        await run_lanes(chosen, [lane for lane in lanes if lane not in chosen], most, halt)
        board.phase = "sealing"
    board.warnings.extend(shards.damage)
    if halt.reason:
        raise halt.reason


def _rules(job: Job, options: Options) -> Rules:
    retry, row_s = job.retry, job.timeouts.row_s
    return Rules(retry.attempts, options.keep_going, outage_s=retry.outage_s, row_s=row_s or math.inf)


@contextlib.contextmanager
def _deadline(call: _Call, halt: Halt, board: Board) -> Iterator[None]:
    """Stop in time for the job's deadline: first nothing more leaves, then what is in flight is cut."""
    job_s = call.job.timeouts.job_s
    if job_s is None:
        yield
        return

    def stop() -> None:
        board.phase = "draining"
        halt.stop(Stopped(f"the deadline of {job_s:g} s (timeouts.job_s) has come"), drain_s)

    loop = asyncio.get_running_loop()
    left_s = call.began + job_s - time.monotonic()
    drain_s = min(call.job.timeouts.drain_s, _DRAIN_SHARE * job_s)
    timer = loop.call_later(max(0.0, left_s - drain_s), stop)
    try:
        yield
    finally:
        timer.cancel()


def _stand_in(behaviour: Behaviour) -> Rehearsal:
    from batchmix.rehearsal import Rehearsal

    # Nobody reads its ledger here, and memory is to stay flat.
    return Rehearsal(dataclasses.replace(behaviour, ledger=False))


def _purse(job: Job, layout: Layout, work: Work, halt: Halt) -> Callable[[str], LanePurse] | None:
    if job.budget == Budget():
        return None
    prices = Prices(work.run.prices, work.models)
    purse = Purse(job.budget, spent(read_view(layout.root, judge, prices)), halt.stop)
    return lambda model: LanePurse(purse, model, prices)


def _blueprint(job: Job, dataset: Dataset, work: Work) -> Blueprint:
    return Blueprint(
        schema=part_schema(dataset.carried_schema, job.name),
        shard_rows=work.run.shard_rows,
        rows=work.run.rows,
        models=tuple(model.name for model in work.models),
        digest=work.digests.shard,
        columns=work.digests.columns,
        carried=dataset.carried,
        judge=judge,
        price=Prices(work.run.prices, work.models),
        raw=job.output.raw,
    )


@contextlib.contextmanager
def _recorded(work: Work, layout: Layout, prices: Prices, *, canary: bool) -> Iterator[None]:
    """Write this start into `run.json`, and its end, with the summary, however it ends."""
    start = Start(now_text(), os.getpid(), socket.gethostname())
    work.run.starts.append(start)
    layout.write_run(work.run)
    code, reason = 0, "only the canary was sent" if canary else ""
    try:
        yield
    except BatchmixError as error:
        code, reason = error.exit_code, str(error)
        raise
    except BaseException as error:
        code, reason = 1, type(error).__name__
        raise
    finally:
        with contextlib.suppress(NoSpace):
            view = read_view(layout.root, judge, prices)
            start.ended_at, start.reason = now_text(), reason
            start.exit_code = code if code or canary else exit_code(view)
            layout.write_run(work.run)
            layout.write_summary(view.summary())


def exit_code(view: View) -> int:
    """Return the exit code of a run that went to its end."""
    return 0 if view.totals.ok == view.run.results else 1


@contextlib.contextmanager
def _interrupts(halt: Halt, board: Board) -> Iterator[None]:
    """Let the first SIGINT, SIGTERM or SIGHUP drain, and the second cut."""
    loop = asyncio.get_running_loop()

    def interrupted(number: int) -> None:
        if halt.stopping.is_set():
            halt.cutting.set()
        board.phase = "draining"
        halt.stop(Interrupted(f"interrupted by {signal.Signals(number).name}", number))

    signals = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # else nohup wants it to live on
        signals.append(signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in signals}
    for number in signals:
        loop.add_signal_handler(number, interrupted, number)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
            signal.signal(number, before[number])


def _run_loop(work: Coroutine[None, None, None]) -> None:
    # The event loop shares the interpreter's lock with the threads that read and seal, and gives it up at each system
    # call; with the default of 5 ms it would wait that long for it each time, and answers would lie unread.
    sys.setswitchinterval(0.00005)
    # What was imported never becomes garbage: looking through it would stop the loop for tens of milliseconds.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    try:
        import uvloop
    except ImportError:
        asyncio.run(work)
    else:
        uvloop.run(work)
