"""Runs a job in a thread of its own, so that it works in a notebook, in a web server, and in any thread.

The job's event loop belongs to that thread. The caller waits, and passes on whatever interrupts the wait.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import signal
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from batchmix.api.run import Run
from batchmix.engine.shutdown import StopRequest
from batchmix.engine.signals import passing_on_sigint, signal_error
from batchmix.errors import Interrupted, UsageError

T = TypeVar("T")


def done_in_thread(work: Callable[[StopRequest], T]) -> T:
    """Return what `work` returns in a thread of its own. Ctrl-C drains a run there; a second one cuts it.

    Raises what the work raises. If the wait is interrupted otherwise than by Ctrl-C, such as by a signal handler of the
    caller that raises an exception, that drains the run too, and then raises the exception.
    """
    stop_request = StopRequest()
    # From before the start, so that Ctrl-C finds either no run, or one that it stops.
    with passing_on_sigint(lambda: stop_request.stop(signal_error(signal.SIGINT))):
        return Worker(work, stop_request).wait()


class Worker(Generic[T]):
    """Work in a thread of its own, mostly a run. `work` is given the request by which it can be stopped."""

    def __init__(self, work: Callable[[StopRequest], T], stop_request: StopRequest | None = None) -> None:
        check_threads()
        self._work = work
        self._stop_request = stop_request or StopRequest()
        self._future: concurrent.futures.Future[T] = concurrent.futures.Future()
        # A daemon, so that a program that ends without waiting is not held up. That is like a kill: nothing is lost.
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._run,), name="batchmix", daemon=True)
        try:
            self._thread.start()
        except BaseException as error:  # a signal handler of the caller raised it; the thread may run already
            self.stop(f"interrupted by {type(error).__name__}")
            raise

    def _run(self) -> None:
        try:
            result = self._work(self._stop_request)
        except BaseException as error:  # noqa: BLE001 - it is raised where the caller waits
            self._future.set_exception(error)
        else:
            self._future.set_result(result)

    @property
    def stopping(self) -> bool:
        """Whether the work was asked to stop, or is over."""
        return self._stop_request.is_set or self._future.done()

    def stop(self, reason: str) -> None:
        """Stop sending. A second call cuts off the requests in flight. Callable from any thread."""
        self._stop_request.stop(Interrupted(reason, signal.SIGINT))

    def wait(self) -> T:
        """Wait for the work. See `done_in_thread`."""
        foreign: BaseException | None = None
        while not self._future.done():
            try:
                concurrent.futures.wait([self._future])
            except KeyboardInterrupt:
                self._stop_request.stop(signal_error(signal.SIGINT))
            except BaseException as error:  # noqa: BLE001 - it is raised again once the run has drained
                foreign = foreign or error
                self.stop(f"interrupted by {type(error).__name__}")
        self._thread.join()
        if foreign is not None:
            raise foreign
        result = self._future.result()
        try:
            self._stop_request.check()  # Ctrl-C that came too late to stop the run still stops the caller
        except Interrupted as error:
            raise (error.of_run(result) if isinstance(result, Run) else error) from None
        return result

    async def wait_async(self) -> T:
        """Wait for the work on the caller's event loop. Cancelling drains a run; cancelling again cuts it.

        If it was stopped before, the first cancellation changes nothing.
        """
        waiting = asyncio.wrap_future(self._future)
        waiting.add_done_callback(_see_exception)
        cancelled: asyncio.CancelledError | None = None
        while not waiting.done():
            try:
                await asyncio.wait([waiting])
            except asyncio.CancelledError as error:
                if cancelled is not None or not self._stop_request.is_set:
                    self.stop("cancelled")
                cancelled = cancelled or error
        self._thread.join()
        if cancelled is not None:
            raise cancelled
        return waiting.result()


def check_threads() -> None:
    """Raise `UsageError` if threads are not the system's: all of them would wait for the event loop of the run."""
    patched_by = threading.get_ident.__module__
    if patched_by != "_thread":
        raise UsageError(
            f"{patched_by.partition('.')[0]} has replaced Python's threads, and a run needs real ones; start it in a"
            " process of its own"
        )


def _see_exception(future: asyncio.Future[T]) -> None:
    """Keep the caller's event loop from logging an exception that nobody waits for any more."""
    if not future.cancelled():
        future.exception()
