"""Locks a run in object storage, so that only one process at a time works on it, on whatever machine.

The lock is an object that its holder renews every `RENEW_S` seconds, each time on condition that nobody else has
written it. A holder that could not renew it for `HOLD_S` seconds sends nothing more. Another process takes the lock
over once it has seen it unchanged for `PASS_S` seconds by its own clock, so no clocks of two machines are compared.
This is a lease: Gray and Cheriton, "Leases: An Efficient Fault-Tolerant Mechanism for Distributed File Cache
Consistency" (1989).

A holder on the same machine that no longer exists is known to be dead, and then nothing is waited for.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from batchmix.errors import LockLost, ObjectMissing, ObjectsUnreachable, RunError, RunLocked
from batchmix.remote.objects import ObjectChanged, Objects

_logger = logging.getLogger(__name__)
LOCK = "lock"
"""The name of the object."""
RENEW_S, HOLD_S, PASS_S = 5.0, 40.0, 60.0
"""The margin between the last two is for requests that were on their way when the holder was stopped."""
_LOOK_S = 0.5
"""Seconds between two looks at another process's lock."""
_GIVE_UP_S = 600.0
"""Seconds without any renewal after which the run stops. Until then it waits for the storage to come back."""
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""A clock that goes on while the process is stopped, and while the machine sleeps."""


class _LockingProcess(msgspec.Struct, frozen=True):
    """What tells whether a process on this machine still exists."""

    machine: str
    """The id of the machine's last start, and of the process's container."""
    pid: int
    started: int
    """In ticks after the machine's start."""


class LockState(msgspec.Struct, frozen=True):
    """The content of the lock's object."""

    version: int
    epoch: int
    """The number of times that the lock was taken. It is part of the names of journals' pieces."""
    token: str
    """Another one for each time that the lock was taken."""
    holder: str = ""
    """The name of the process that holds the lock. Empty if none does."""
    process: _LockingProcess | None = None
    renewals: int = 0


class RemoteLock:
    """The lock of one run. A thread renews it from `take` to `release`."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._state = LockState(1, 0, "")
        self._etag: str | None = None
        self._renewed_at = 0.0
        self._renewing = threading.Lock()
        self._lost: LockLost | ObjectsUnreachable | None = None
        self._tells: list[Callable[[BaseException], None]] = []
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._renew_often, name="batchmix-lock", daemon=True)

    @property
    def epoch(self) -> int:
        """The number of this taking of the lock."""
        return self._state.epoch

    @property
    def token(self) -> str:
        """The token of this taking of the lock."""
        return self._state.token

    @property
    def is_held(self) -> bool:
        """Whether this process may send and write: it holds the lock, and nobody can have taken it over."""
        return self._lost is None and _now() - self._renewed_at < HOLD_S

    def check(self) -> None:
        """Raise `LockLost` if the lock may not be held any more, and `ObjectsUnreachable` if that lasts too long."""
        self.check_lost()
        if not self.is_held:
            raise LockLost(
                f"{self._objects.url}: its lock could not be renewed for {HOLD_S:.0f} s, so another process may take it"
                " over, and nothing more is sent; start the same command again"
            )

    def check_lost(self) -> None:
        """Raise the error with which the lock was lost for good, if it was."""
        if self._lost is not None:
            raise self._lost

    def take(self, *, wait: bool = False) -> str:
        """Take the lock; return the token of its last holder, or an empty text if there was none.

        If another process holds the lock, this raises `RunLocked`, or waits if `wait` is set. Whether the other is
        alive shows in its renewals: finding out that it is not takes `PASS_S` seconds.
        """
        seen, seen_at = None, _now()
        while True:
            there, etag = self._read()
            if there is None or not there.holder or _is_dead(there.process) or _now() - seen_at >= PASS_S:
                if self._put_first(there, etag):
                    self._thread.start()
                    return there.token if there else ""
                seen = None
            if there is not None and there.holder and etag != seen:
                if seen is not None and not wait:
                    raise _locked(self._objects.url, there)
                if seen is None:
                    _logger.warning(
                        "%s: is held by another batchmix (%s); looking for up to %.0f s whether that is alive",
                        self._objects.url, _printable(there.holder), PASS_S,
                    )  # fmt: skip
                seen, seen_at = etag, _now()
            time.sleep(_LOOK_S)

    def _put_first(self, there: LockState | None, etag: str | None) -> bool:
        """Write the lock's object as the new holder. Return False if another process was faster."""
        began = _now()
        since = time.strftime("%Y-%m-%d %H:%M:%S %z")
        holder = f"process {os.getpid()} on {socket.gethostname()} since {since}"
        epoch = there.epoch + 1 if there else 1
        self._state = LockState(1, epoch, secrets.token_hex(8), holder, _this_process())
        try:
            self._etag = self._objects.put(LOCK, msgspec.json.encode(self._state), etag)
        except ObjectChanged:
            there, self._etag = self._read()
            if there is None or there.token != self._state.token:
                return False
        self._renewed_at = began
        return True

    def _read(self) -> tuple[LockState | None, str | None]:
        try:
            data, etag = self._objects.get(LOCK)
        except ObjectMissing:
            return None, None
        try:
            return msgspec.json.decode(data, type=LockState), etag
        except msgspec.DecodeError as error:
            raise RunError(
                f"{self._objects.url}/{LOCK}: is not a lock of batchmix; move it away, or choose another folder"
            ) from error

    def _renew_often(self) -> None:
        while not self._released.wait(RENEW_S) and self._lost is None:
            with contextlib.suppress(ObjectsUnreachable, LockLost, RunError):
                self.renew()
            if self._lost is None and _now() - self._renewed_at > _GIVE_UP_S:
                self._lose(
                    ObjectsUnreachable(
                        f"{self._objects.url}: could not be written for {_GIVE_UP_S / 60:.0f} minutes; start the same"
                        " command again, on this machine, since only this one has the last answers"
                    )
                )

    def _lose(self, error: LockLost | ObjectsUnreachable) -> None:
        self._lost = error
        for tell in list(self._tells):
            tell(error)

    @contextlib.contextmanager
    def telling(self, tell: Callable[[BaseException], None]) -> Iterator[None]:
        """Call `tell`, from whatever thread, if the lock is lost for good during the block."""
        self._tells.append(tell)
        try:
            yield
        finally:
            self._tells.remove(tell)

    def renew(self) -> None:
        """Renew the lock now. Raises `LockLost` if another process has it, and `ObjectsUnreachable`."""
        with self._renewing:
            began, state = _now(), msgspec.structs.replace(self._state, renewals=self._state.renewals + 1)
            try:
                self._etag = self._objects.put(LOCK, msgspec.json.encode(state), self._etag)
            except (ObjectChanged, ObjectMissing):
                there, self._etag = self._read()
                if there is None or there.token != state.token:
                    other = f" ({_printable(there.holder)})" if there and there.holder else ""
                    lost = LockLost(
                        f"{self._objects.url}: was taken over by another process{other}, since this one did not renew"
                        f" its lock for {PASS_S:.0f} s; nothing more is sent"
                    )
                    self._lose(lost)
                    raise lost from None
                state = there  # written by the last renewal, whose reply was lost
            self._state, self._renewed_at = state, began

    def release(self) -> None:
        """End the renewals, and let others take the lock at once. If that can't be written, they have to wait."""
        self._released.set()
        if self._thread.ident is not None:
            self._thread.join()
        if self._lost is None:
            free = msgspec.structs.replace(self._state, holder="", process=None)
            with contextlib.suppress(ObjectsUnreachable, ObjectChanged):
                self._objects.put(LOCK, msgspec.json.encode(free), self._etag)


def holder_of(objects: Objects) -> str | None:
    """Return the name of the process that holds the lock, or did when it was killed. None if the lock is free."""
    with contextlib.suppress(ObjectMissing, msgspec.DecodeError):
        state = msgspec.json.decode(objects.get(LOCK)[0], type=LockState)
        return _printable(state.holder) if state.holder and not _is_dead(state.process) else None
    return None


def _now() -> float:
    return time.clock_gettime(_CLOCK)


def _locked(url: str, state: LockState) -> RunLocked:
    return RunLocked(f"{url}: another batchmix works on it ({_printable(state.holder)}); wait for it or stop it")


def _printable(text: str) -> str:
    return "".join(char for char in text if char.isprintable())[:200]


def _this_process() -> _LockingProcess | None:
    """Return what tells others on this machine whether this process still exists. None where that can't be told."""
    pid = os.getpid()
    started = _started(pid)
    machine = _machine()
    return _LockingProcess(machine, pid, started) if machine and started is not None else None


def _is_dead(process: _LockingProcess | None) -> bool:
    """Return whether a process ran on this machine and no longer exists."""
    return process is not None and process.machine == _machine() and _started(process.pid) != process.started


def _machine() -> str:
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115 - no path
    return ""


def _started(pid: int) -> int | None:
    """Return when a process started, in ticks after the machine's start. None if it has ended. (See proc(5).)"""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = re.sub(r"^.*\) ", "", stat, flags=re.DOTALL).split()
    return None if fields[0] in "ZX" else int(fields[19])
