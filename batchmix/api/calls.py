"""The functions that run a job: at once, on the caller's event loop, or result by result; and that open a run
folder."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, Unpack

from batchmix.api.results import Result
from batchmix.api.run import Run
from batchmix.api.settings import Settings
from batchmix.api.start import Arguments, begin, finished, prepared_beside, prepared_call
from batchmix.api.worker import Worker
from batchmix.engine import reader
from batchmix.errors import BatchmixError
from batchmix.remote.objects import is_remote
from batchmix.store.result_feed import ResultQueue


def run(
    data: Any,
    prompt: str | None = None,
    *,
    model: str | None = None,
    out: str | os.PathLike[str] | None = None,
    **settings: Unpack[Settings],
) -> Run:
    """Send a request for each row of `data`, and return the run once it has finished. The same call resumes it.

    `data` is a table in memory (a DataFrame of pandas or Polars, an Arrow table, reader or dataset, a Dataset of
    Hugging Face, a DuckDB relation, dicts, strings, an iterator of them), the path of an input or of a job file, a
    `Job`, or a `Run` to go on with. `prompt` is a template such as `"Classify: {{ text }}"`. `out` is the run folder;
    without it, data in memory has a folder below `runs/` that is named by a digest of the rows and of what is asked, so
    that the same call again costs nothing.

    `settings` are the short names of the command line (`system`, `messages`, `examples`, `schema`, `base_url`, `rpm`,
    `tpm`, `concurrency`, `deadline`, `date`), those of this start (`limit`, `canary`, `update`, `retry_rejected`,
    `bad_rows`, `keep_going`, `progress`), and the keys of a job file (`name`, `models`, `samples`, `input`, `params`,
    `answer`, `provider`, `limits`, `retry`, `timeouts`, `budget`, `reuse`, `cache`, `prices`, `output`, `eval`,
    `schedule`).

    Rows without an answer raise nothing: see `Run.failures`. Raises `UsageError` if the call, the job or the input is
    wrong, before anything is sent; `Stopped` if the run stopped early, and `Interrupted` after Ctrl-C, once the
    requests in flight have returned. The latter two have the run so far as `error.run`.

    >>> run = bm.run([{"text": "I loved it"}], "Classify: {{ text }}", model="gpt-4o-mini", base_url="rehearsal:")
    >>> run.to_arrow(["row", "status"]).to_pylist()
    [{'row': 0, 'status': 'ok'}]
    """
    call = prepared_call(Arguments(data, prompt, model, out, settings))
    with call.shown():
        return finished(call)


async def arun(
    data: Any,
    prompt: str | None = None,
    *,
    model: str | None = None,
    out: str | os.PathLike[str] | None = None,
    **settings: Unpack[Settings],
) -> Run:
    """Do what `run` does without blocking the caller's event loop.

    Cancelling drains the run: the requests in flight return and are kept, and then the cancellation goes on. Cancelling
    again cuts them off. An iterator is consumed in another thread.

    >>> call = bm.arun(["I loved it"], "Classify: {{ text }}", model="gpt-4o-mini", base_url="rehearsal:")
    >>> asyncio.run(call).status
    'finished'
    """
    call = await prepared_beside(Arguments(data, prompt, model, out, settings))
    with call.shown():
        return await begin(call).wait_async()


async def stream(
    data: Any,
    prompt: str | None = None,
    *,
    model: str | None = None,
    out: str | os.PathLike[str] | None = None,
    **settings: Unpack[Settings],
) -> AsyncGenerator[Result, None]:
    """Do what `run` does, and yield each result as soon as it is in the run folder, in the order in which they come.

    The results of earlier starts are yielded too, so that each result of the run is yielded once. No more rows are sent
    while a thousand results wait to be taken. Closing the generator drains the run: the requests in flight return and
    are kept. `async for … break` closes it; `contextlib.aclosing` makes sure of it after an exception too.

    >>> async def show() -> None:
    ...     stream = bm.stream(["I loved it"], "Classify: {{ text }}", model="gpt-4o-mini", base_url="rehearsal:")
    ...     async with contextlib.aclosing(stream) as results:
    ...         async for result in results:
    ...             print(result.row, result.status)
    >>> asyncio.run(show())
    0 ok
    """
    call = await prepared_beside(Arguments(data, prompt, model, out, settings))
    with call.shown():
        queue = ResultQueue()
        results = _Results(queue, begin(call, queue))
        try:
            while (values := await results.next()) is not None:
                yield Result(**values)
        except BaseException:
            results.leave()
            if _has_loop():
                with contextlib.suppress(BatchmixError):  # the run is over, as it was to be
                    await results.worker.wait_async()
            raise
        await results.worker.wait_async()


def _has_loop() -> bool:
    """Return whether an event loop runs. None does if a generator is dropped after its loop was closed."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class _Results:
    """The results of a run, for one that takes them. The run is stopped once it is left or nobody has it any more.

    A generator that is dropped without an event loop to close it is not told; its variables are.
    """

    def __init__(self, queue: ResultQueue, worker: Worker[Run]) -> None:
        self._queue = queue
        self.next = queue.get
        self.worker = worker

    def leave(self) -> None:
        """Take no more results, and stop the run, unless it is over."""
        self._queue.close()
        if not self.worker.stopping:
            self.worker.stop("the results are no longer taken")

    def __del__(self) -> None:
        self.leave()


def open(folder: str | os.PathLike[str]) -> Run:  # noqa: A001 - as in gzip or tarfile
    """Open a run folder, whoever made it, also while it runs. Raises `RunError` if it is none.

    >>> bm.open(run.folder).status
    'finished'
    """
    run = Run(Path(folder))
    if is_remote(os.fspath(folder)):
        run.read_from(os.fspath(folder).rstrip("/"))
    reader.look(run.folder)
    return run
