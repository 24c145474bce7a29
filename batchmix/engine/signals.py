"""SIGINT, SIGTERM and SIGHUP: the one place in which they are handled."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from batchmix.errors import Interrupted


class SignalExit(SystemExit):
    """A signal that came while no event loop took it. No `Exception`: nobody takes it for an error of his own."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(128 + number)
        self.number = number

    def named(self) -> Interrupted:
        """Return it as the error that a person reads."""
        return Interrupted(f"interrupted by {self.number.name}", self.number)


class _Raising:
    """A handler: the first signal ends what is being done, the next one the process."""

    received = False

    def __call__(self, number: int, _: FrameType | None) -> None:
        if self.received:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.received = True
        raise SignalExit(signal.Signals(number))


@contextlib.contextmanager
def raised() -> Iterator[None]:
    """Let the first signal raise `SignalExit` in the main thread, whatever it does; a second one ends at once.

    For a program that owns its process, from its very start.
    """
    handler = _Raising()
    before = {number: signal.signal(number, handler) for number in _numbers()}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextlib.contextmanager
def named() -> Iterator[None]:
    """Raise `Interrupted` for a signal that ends the block."""
    try:
        yield
    except SignalExit as error:
        raise error.named() from None


@contextlib.contextmanager
def taken(act: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Have the running event loop call `act` for each signal while the block runs.

    In other threads than the main one, where no handler can be set, nothing is taken.
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

    import asyncio  # a help text, which has its signals handled too, does without

    loop = asyncio.get_running_loop()
    for number in before:
        loop.add_signal_handler(number, received, number)
    try:
        yield
    finally:
        for number, old in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, old)


def _numbers() -> list[signal.Signals]:
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # else nohup wants it to live on
        numbers.append(signal.SIGHUP)
    return numbers
