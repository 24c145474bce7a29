"""The lock of a run in object storage: one holder at a time, and a dead one's lock passes."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import msgspec
import pytest
from obstore.store import MemoryStore

from batchmix.errors import LockLost, ObjectsUnreachable, RunError, RunLocked
from batchmix.remote.objects import Objects
from batchmix.store import remote_lock
from batchmix.store.remote_lock import LOCK, LockState, RemoteLock, holder_of
from tests.polling import wait_until

URL = "s3://bucket/run"


@pytest.fixture
def objects() -> Objects:
    return Objects(URL, MemoryStore())


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("RENEW_S", 0.01), ("_LOOK_S", 0.005), ("PASS_S", 0.3), ("HOLD_S", 0.2)):
        monkeypatch.setattr(remote_lock, name, seconds)


@pytest.fixture
def held(objects: Objects) -> Iterator[RemoteLock]:
    lock = RemoteLock(objects)
    lock.take()
    yield lock
    lock.release()


def stopped(lock: RemoteLock) -> None:
    """End the renewals, as for a process that is stopped, and of which it is not known whether it exists."""
    lock._released.set()
    lock._thread.join()
    alone = msgspec.structs.replace(lock._state, process=None)
    lock._etag = lock._objects.put(LOCK, msgspec.json.encode(alone), lock._etag)


def test_a_free_lock_is_taken_at_once_and_each_time_with_a_new_epoch(objects: Objects) -> None:
    tokens = []
    for epoch in (1, 2, 3):
        lock = RemoteLock(objects)
        assert lock.take() == (tokens[-1] if tokens else "")
        assert (lock.epoch, lock.is_held) == (epoch, True)
        assert holder_of(objects) is not None
        tokens.append(lock.token)
        lock.release()
        assert holder_of(objects) is None
    assert len(set(tokens)) == len(tokens)


def test_a_second_process_is_told_who_holds_it(objects: Objects, held: RemoteLock) -> None:
    with pytest.raises(RunLocked, match=rf"{URL}: another batchmix works on it \(process \d+ on .* since .*\)"):
        RemoteLock(objects).take()
    assert held.is_held


def test_a_second_process_may_wait(objects: Objects, held: RemoteLock) -> None:
    second = RemoteLock(objects)
    taking = threading.Thread(target=lambda: second.take(wait=True))
    taking.start()
    time.sleep(0.05)  # it looks a few times
    assert taking.is_alive()
    held.release()
    taking.join()
    assert second.epoch == held.epoch + 1
    second.release()


def test_the_lock_of_a_process_that_renews_nothing_passes_and_never_are_there_two(objects: Objects) -> None:
    first, second = RemoteLock(objects), RemoteLock(objects)
    first.take()
    stopped(first)
    began = time.monotonic()
    second.take()
    assert time.monotonic() - began >= remote_lock.PASS_S
    assert second.is_held
    assert not first.is_held  # by its own clock, before it has heard of the second
    with pytest.raises(LockLost, match="may take it over"):
        first.check()
    told: list[BaseException] = []
    with first.telling(told.append), pytest.raises(LockLost, match="was taken over by another process"):
        first.renew()
    with pytest.raises(LockLost, match="was taken over"):
        first.check()
    assert isinstance(told[0], LockLost)
    second.release()
    first.release()  # changes nothing
    assert holder_of(objects) is None


def test_a_lock_that_nobody_took_meanwhile_can_be_renewed_late(objects: Objects) -> None:
    lock = RemoteLock(objects)
    lock.take()
    stopped(lock)
    wait_until(lambda: not lock.is_held)
    lock.renew()
    assert lock.is_held


def test_a_process_of_this_machine_that_is_gone_is_not_waited_for(
    objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        started = remote_lock._started(child.pid)
        if started is None:
            pytest.skip("without /proc nobody can tell")
        process = remote_lock._LockingProcess(remote_lock._machine(), child.pid, started)
        assert not remote_lock._is_dead(process)
        child.kill()
        wait_until(lambda: remote_lock._is_dead(process))  # before its parent has waited for it, too
    monkeypatch.setattr(remote_lock, "PASS_S", 60.0)
    objects.put(LOCK, msgspec.json.encode(LockState(1, 7, "t", "process 1 on x since y", process)), None)
    lock = RemoteLock(objects)
    assert lock.take() == "t"
    assert lock.epoch == 8
    lock.release()
    assert remote_lock._is_dead(msgspec.structs.replace(process, pid=1))  # the number was given again
    assert not remote_lock._is_dead(msgspec.structs.replace(process, machine="other"))


class LosesReplies(Objects):
    """Puts objects, and then says that it could not."""

    losing = False

    def put(self, key: str, data: bytes, expected: str | None) -> str | None:
        etag = super().put(key, data, expected)
        if self.losing:
            raise ObjectsUnreachable("the reply was lost")
        return etag


def test_a_renewal_whose_reply_was_lost_is_known_as_its_own() -> None:
    objects = LosesReplies(URL, MemoryStore())
    lock = RemoteLock(objects)
    lock.take()
    lock._released.set()
    lock._thread.join()
    objects.losing = True
    with pytest.raises(ObjectsUnreachable):
        lock.renew()
    objects.losing = False
    lock.renew()
    lock.renew()
    assert lock.is_held


def test_a_lock_that_was_deleted_is_lost(objects: Objects, held: RemoteLock) -> None:
    objects.delete([LOCK])
    wait_until(lambda: not held.is_held)
    with pytest.raises(LockLost):
        held.check()


def test_another_object_in_the_place_of_the_lock_is_left_alone(objects: Objects) -> None:
    objects.put(LOCK, b"mine", None)
    with pytest.raises(RunError, match=f"{URL}/lock: is not a lock of batchmix"):
        RemoteLock(objects).take()
    assert objects.get(LOCK)[0] == b"mine"


def test_while_the_storage_is_away_the_lock_is_lost_only_after_ten_minutes(
    objects: Objects, held: RemoteLock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> str:
        raise ObjectsUnreachable("away")

    with monkeypatch.context() as patch:
        patch.setattr(objects, "put", away)
        wait_until(lambda: not held.is_held)
    wait_until(lambda: held.is_held)
    monkeypatch.setattr(remote_lock, "_GIVE_UP_S", 0.1)
    monkeypatch.setattr(objects, "put", away)
    wait_until(lambda: held._lost is not None)
    with pytest.raises(ObjectsUnreachable, match="only this one has the last answers"):
        held.check()
