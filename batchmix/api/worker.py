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

from batchmix.api.run import Run
from batchmix.engine.shutdown import StopRequest
from batchmix.engine.signals import passing_on_sigint, signal_error
from batchmix.errors import Interrupted


class Worker:
    """A run in a thread of its own. `work` is given the request by which it can be stopped."""

    def __init__(self, work: Callable[[StopRequest], Run]) -> None:
        self._work = work
        self._stop_request = StopRequest()
        self._future: concurrent.futures.Future[Run] = concurrent.futures.Future()
        # A daemon, so that a program that ends without waiting is not held up. That is like a kill: nothing is lost.
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._run,), name="batchmix", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            result = self._work(self._stop_request)
        except BaseException as error:  # noqa: BLE001 - it is raised where the caller waits
            self._future.set_exception(error)
        else:
            self._future.set_result(result)

    def stop(self, reason: str) -> None:
        """Stop sending. A second call cuts off the requests in flight. Callable from any thread."""
        self._stop_request.stop(Interrupted(reason, signal.SIGINT))

    def wait(self) -> Run:
        """Wait for the run. An interruption, such as Ctrl-C, drains the run; a second one cuts it.

        Raises what the call raised. If the wait was interrupted otherwise than by Ctrl-C, such as by a signal handler
        of the caller that raises an exception, raises that exception afterwards.
        """
        foreign: BaseException | None = None
        while not self._future.done():
            try:
                with passing_on_sigint(lambda: self._stop_request.stop(signal_error(signal.SIGINT))):
                    concurrent.futures.wait([self._future])
            except KeyboardInterrupt:
                self._stop_request.stop(signal_error(signal.SIGINT))
            except BaseException as error:  # noqa: BLE001 - it is raised again once the run has drained
                foreign = foreign or error
                self.stop(f"interrupted by {type(error).__name__}")
        self._thread.join()
        if foreign is not None:
            raise foreign
        run = self._future.result()
        try:
            self._stop_request.check()  # Ctrl-C that came too late to stop the run still stops the caller
        except Interrupted as error:
            raise error.of_run(run) from None
        return run

    async def wait_async(self) -> Run:
        """Wait for the result on the caller's event loop. Cancelling drains the run; cancelling again cuts it."""
        waiting = asyncio.wrap_future(self._future)
        cancelled: asyncio.CancelledError | None = None
        while not waiting.done():
            try:
                await asyncio.wait([waiting])
            except asyncio.CancelledError as error:
                cancelled = cancelled or error
                self.stop("cancelled")
        self._thread.join()
        if cancelled is not None:
            waiting.exception()  # it has been seen
            raise cancelled
        return waiting.result()
