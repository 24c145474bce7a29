"""Handles SIGINT, SIGTERM and SIGHUP. No other module handles signals."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from batchmix.errors import Interrupted


class SignalExit(SystemExit):
    """Raised by a signal while no event loop handles signals. It is no `Exception`: error handlers don't catch it."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(128 + number)
        self.number = number

    def as_interrupted(self) -> Interrupted:
        """Return the error with a message about the signal for the user."""
        return signal_error(self.number)


def signal_error(number: signal.Signals) -> Interrupted:
    """Return the error of a run that a signal stopped."""
    return Interrupted(f"interrupted by {number.name}", number)


class _Raising:
    """A signal handler: the first signal raises `SignalExit`, the second ends the process."""

    received = False

    def __call__(self, number: int, _: FrameType | None) -> None:
        if self.received:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.received = True
        raise SignalExit(signal.Signals(number))


@contextlib.contextmanager
def raising_signals() -> Iterator[None]:
    """Raise `SignalExit` in the main thread at the first signal, and end the process at the second.

    To be entered at the very start of a program, and only if the process is its own.
    """
    handler = _Raising()
    before = {number: signal.signal(number, handler) for number in _numbers()}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextlib.contextmanager
def signals_as_errors() -> Iterator[None]:
    """Turn a `SignalExit` that is raised in the block into `Interrupted`."""
    try:
        yield
    except SignalExit as error:
        raise error.as_interrupted() from None


@contextlib.contextmanager
def handling_signals(act: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Make the running event loop call `act` for each signal while the block runs.

    This has no effect outside the main thread, because signal handlers can't be set there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _numbers()}

    def received(number: signal.Signals) -> None:
        for handler in before.values():
            if isinstance(handler, _Raising):
                handler.received = True
        act(number)

    import asyncio  # not at the top: commands that need no asyncio, such as `--help`, import this module too

    loop = asyncio.get_running_loop()
    for number in before:
        loop.add_signal_handler(number, received, number)
    try:
        yield
    finally:
        for number, old in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, old)


@contextlib.contextmanager
def passing_on_signals(act: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Call `act` for each signal while the block waits for work in other threads, in a process that is our own.

    This has no effect outside the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def received(number: int, _: FrameType | None) -> None:
        for handler in before.values():
            if isinstance(handler, _Raising):
                handler.received = True
        act(signal.Signals(number))

    before = {number: signal.getsignal(number) for number in _numbers()}
    for number in before:
        signal.signal(number, received)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextlib.contextmanager
def passing_on_sigint(act: Callable[[], None]) -> Iterator[None]:
    """Call `act` for each SIGINT while the block runs, instead of raising `KeyboardInterrupt`.

    For a program that is not ours: this has no effect outside the main thread, or if SIGINT has another handler than
    Python's own. No other signal is handled.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    try:  # first: a handler of the caller may raise an exception at any point
        signal.signal(signal.SIGINT, lambda *_: act())
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _numbers() -> list[signal.Signals]:
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # otherwise the process runs under nohup
        numbers.append(signal.SIGHUP)
    return numbers
