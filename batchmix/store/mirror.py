"""Keeps a run in object storage up to date with its copy on this machine, in which the run does its work.

Two threads look at the copy: one ships what the journals got, every `_JOURNAL_S` seconds, the other one all other
files. What a reader finds there is at any time what a kill could have left behind on a disk: first the journals and
parts, then the ledger and `run.json`, which speak of them, and last the journals of sealed shards go.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from batchmix.errors import LockLost, ObjectMissing, ObjectsUnreachable
from batchmix.remote.objects import ObjectChanged, ObjectInfo, Objects
from batchmix.remote.stubs import ORIGIN, is_stub, replace_by_stub
from batchmix.store.filesystem import open_plain
from batchmix.store.journal import whole_bytes_of
from batchmix.store.ledger import Ledger
from batchmix.store.pieces import Piece, pieces_folder
from batchmix.store.remote_lock import LOCK, RemoteLock

_logger = logging.getLogger(__name__)
_JOURNAL_S, _FILES_S = 0.5, 2.0
"""Seconds between two looks at the journals, and at the other files. A journal there is at most a second old."""
_PIECE_BYTES = 2 << 20
_MANY_PIECES, _SMALL_BYTES = 500, 64 << 20
"""A journal of more pieces is copied anew, as a few large ones, unless it is larger than the second figure."""
_KEPT_BYTES = 512 << 20
"""The size of the parts that stay on this machine. Of older ones only a stub stays."""
_KEPT = frozenset({"run.json", "summary.json", "ledger.jsonl"})
_SPEAKING = ("ledger.jsonl", "run.json", "_SUCCESS")
"""Files that say what others have, in the order in which they go."""
_RETRY_S = 1.0
_TEMPORARY = re.compile(r"\..*\.tmp|\.reserve-.*|lock|reserve")
_JOURNAL = re.compile(r"(.*/)?journal/([0-9]{5,})-[0-9]{3,}\.jsonl")
_PART = re.compile(r"(.*/)?data/part-([0-9]{5,})\.parquet")
_Version = tuple[int, int, int]
_mirrors: dict[Path, Mirror] = {}
"""The mirrors of the copies in which this process works."""


def mirror_of(folder: Path) -> Mirror | None:
    """Return what ships the files of a run folder. None if the folder is no copy of a run in object storage."""
    return next((_mirrors[root] for root in (folder, *folder.parents) if root in _mirrors), None)


class _ShippedJournal(msgspec.Struct):
    """What of a journal was shipped."""

    inode: int
    copy: int = 0
    number: int = 0
    offset: int = 0
    base: int = 0
    """The size up to which the copy has to go before it counts."""
    keys: list[str] = []
    old: list[str] = []
    """The pieces of older copies, which go once this one counts."""


class Mirror:
    """Ships the files of one run, from `start` to `close`.

    `shipped` has the versions of the files that are there already, and `known` the ETags of all objects.
    """

    def __init__(self, root: Path, objects: Objects, lock: RemoteLock, there: list[ObjectInfo]) -> None:
        self.root = root
        self.lock = lock
        self._objects = objects
        self._known = {each.key: each.etag for each in there if each.key != LOCK}
        self._shipped: dict[str, _Version] = {}
        self._journals: dict[str, _ShippedJournal] = {}
        self._pieces: dict[str, list[str]] = {}  # those of earlier starts, by journal
        self._shipping_journals, self._shipping_files = threading.Lock(), threading.Lock()
        self._closed = threading.Event()
        self._threads = [
            threading.Thread(target=self._repeat, args=(ship, every_s), name="batchmix-mirror", daemon=True)
            for ship, every_s in ((self._ship_journals, _JOURNAL_S), (self._ship_files, _FILES_S))
        ]

    def has(self, key: str) -> None:
        """Record that a file is the same as its object."""
        self._shipped[key] = _version(self.root / key)

    def is_behind(self, key: str) -> None:
        """Record that an object is another version of a file here, or of one that is gone."""
        self._shipped[key] = (0, 0, 0)

    def has_pieces(self, journal: str, keys: list[str]) -> None:
        """Record the pieces of a journal that earlier starts put there."""
        self._pieces[journal] = keys

    def start(self) -> None:
        """Begin to ship."""
        _mirrors[self.root] = self
        for thread in self._threads:
            thread.start()

    def may_send(self) -> bool:
        """Return whether requests may be sent. While object storage can't be reached, they may not."""
        return self.lock.is_held

    def flush(self, *, may_wait: Callable[[], bool] = lambda: False) -> None:
        """Ship everything that is not there yet, and wait for it.

        What fails is tried again while the lock is held. As long as `may_wait` allows, that goes for a lock that can't
        be renewed too, until it is lost for good. Raises `LockLost` and `ObjectsUnreachable`.
        """
        while True:
            self.lock.check_lost()
            if self.lock.is_held:
                try:
                    self._ship_files()
                    return
                except ObjectsUnreachable as error:
                    if not self.lock.is_held and not may_wait():
                        raise
                    _logger.warning("%s; trying again", error)
            elif not may_wait():
                self.lock.check()
            time.sleep(_RETRY_S)

    def close(self) -> None:
        """Ship what is left, and end. Raises `LockLost` and `ObjectsUnreachable`."""
        _mirrors.pop(self.root, None)
        self._closed.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()
        self.flush()

    def _repeat(self, ship: Callable[[], None], every_s: float) -> None:
        while not self._closed.wait(every_s):
            try:
                if self.lock.is_held:
                    ship()
            except LockLost:
                return
            except (ObjectsUnreachable, OSError) as error:
                _logger.warning("%s; trying again", error)

    # --- journals

    def _ship_journals(self) -> None:
        with self._shipping_journals:
            for path in self._files():
                key = self._key(path)
                if _JOURNAL.fullmatch(key):
                    try:
                        self._ship_journal(key, path)
                    except FileNotFoundError:
                        continue  # sealed meanwhile

    def _ship_journal(self, key: str, path: Path) -> None:
        fd = open_plain(path, os.O_RDONLY)
        try:
            inode, size = os.fstat(fd).st_ino, whole_bytes_of(path, fd)
            if not size:
                return  # it has just been made: a copy of nothing would have no base
            shipped = self._journals.get(key)
            if shipped is None:
                shipped = self._journals[key] = _ShippedJournal(
                    inode, base=size, keys=[], old=self._pieces.pop(key, [])
                )
            elif shipped.inode != inode or size < shipped.offset or _is_scattered(shipped):
                shipped = self._journals[key] = _ShippedJournal(
                    inode, shipped.copy + 1, base=size, keys=[], old=[*shipped.old, *shipped.keys]
                )
            while shipped.offset < size and (data := _whole_lines(fd, shipped.offset, size)):
                end = shipped.offset + len(data)
                is_base = shipped.offset < shipped.base <= end
                piece = Piece(self.lock.epoch, shipped.copy, shipped.number + 1, is_base=is_base)
                name = f"{pieces_folder(key)}/{piece.name}"
                self._put(name, data, None)
                shipped.keys.append(name)
                shipped.number, shipped.offset = piece.number, end
        finally:
            os.close(fd)
        if shipped.old and shipped.offset >= shipped.base:
            self._objects.delete(shipped.old)
            shipped.old = []

    # --- all other files

    def _ship_files(self) -> None:
        """Ship all that has changed, and delete what is settled.

        A file that speaks of others goes after them, as it was before they were looked at.
        """
        with self._shipping_files:
            speaking = {path: (_version(path), path.read_bytes()) for path in self._files() if path.name in _SPEAKING}
            self._ship_journals()
            journals = {key for key in map(self._key, self._files()) if _JOURNAL.fullmatch(key)}
            files = {self._key(path): path for path in self._files()}
            for key, path in files.items():
                if not _JOURNAL.fullmatch(key) and path.name not in _SPEAKING:
                    self._ship_file(key, path)
            for path, (version, data) in sorted(speaking.items(), key=lambda each: _SPEAKING.index(each[0].name)):
                if self._shipped.get(key := self._key(path)) != version:
                    self._known[key], self._shipped[key] = self._put(key, data, self._known.get(key)), version
            if not (self.root.parent / ORIGIN).exists():
                raise ObjectsUnreachable(f"{self.root}: was removed by another program; {self._objects.url} is kept")
            self._delete_settled(journals, set(files))
            self._thin_out([path for key, path in files.items() if _PART.fullmatch(key)])

    def _ship_file(self, key: str, path: Path) -> None:
        version = _version_or_none(path)
        if version is None or self._shipped.get(key) == version or (_PART.fullmatch(key) and is_stub(path)):
            return
        try:
            etag = self._objects.upload(key, path, self._known.get(key))
        except FileNotFoundError:
            return
        except (ObjectChanged, ObjectMissing):
            etag = self._overwrite(key, path.read_bytes())
        self._known[key], self._shipped[key] = etag, version

    def _delete_settled(self, journals: set[str], files: set[str]) -> None:
        """Delete the pieces of journals whose events are all in a part, and objects whose files are gone."""
        for key in [*self._journals, *self._pieces]:
            if key not in journals and self._is_settled(key):
                with self._shipping_journals:
                    shipped = self._journals.pop(key, None)
                    old = self._pieces.pop(key, [])
                    self._objects.delete([*(shipped.keys + shipped.old if shipped else []), *old])
        for key in [key for key in self._shipped if key not in files and self._is_settled(key)]:
            self._objects.delete([key])
            del self._shipped[key]
            self._known.pop(key, None)

    def _is_settled(self, key: str) -> bool:
        """Return whether a file is gone because the run removed it.

        A part only goes if the ledger says so, and a journal only if its part is there. Otherwise another program may
        have removed it, and then the original stays.
        """
        match = _JOURNAL.fullmatch(key) or _PART.fullmatch(key)
        if match is None:
            return key.rpartition("/")[2] not in _KEPT  # these are only ever replaced
        folder, shard = self.root / (match[1] or ""), int(match[2])
        is_dropped = shard not in Ledger(folder / "ledger.jsonl", None).read()
        has_part = _JOURNAL.fullmatch(key) and f"{match[1] or ''}data/part-{shard:05}.parquet" in self._known
        return is_dropped or bool(has_part)

    def _thin_out(self, parts: list[Path]) -> None:
        """Replace the oldest parts by stubs if they take too much space."""
        sizes = {path: path.stat().st_blocks * 512 for path in parts if path.exists()}
        left = sum(sizes.values())
        for path in sorted(sizes):
            if left <= _KEPT_BYTES:
                return
            key = self._key(path)
            if self._shipped.get(key) == _version_or_none(path) and not is_stub(path):
                replace_by_stub(path)
                self._shipped[key] = _version(path)
                left -= sizes[path]

    # --- single objects

    def _put(self, key: str, data: bytes, expected: str | None) -> str | None:
        try:
            return self._objects.put(key, data, expected)
        except (ObjectChanged, ObjectMissing):
            return self._overwrite(key, data)

    def _overwrite(self, key: str, data: bytes) -> str | None:
        """Write an object that is not the one expected there.

        Either the last attempt has arrived and only its reply was lost; or it was written by a process that has lost
        the lock since. Raises `LockLost` if that process is this one.
        """
        self.lock.renew()
        try:
            there, etag = self._objects.get(key)
        except ObjectMissing:
            there, etag = None, None
        if there == data:
            return etag
        try:
            return self._objects.put(key, data, etag)
        except ObjectChanged as error:
            raise ObjectsUnreachable(f"{self._objects.url}/{key}: is written by another process too") from error

    def _files(self) -> Iterator[Path]:
        for folder, folders, names in os.walk(self.root):
            folders.sort()
            for name in sorted(names):
                if not _TEMPORARY.fullmatch(name):
                    yield Path(folder, name)

    def _key(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


def _is_scattered(shipped: _ShippedJournal) -> bool:
    return shipped.number > _MANY_PIECES and shipped.offset < _SMALL_BYTES


def _whole_lines(fd: int, start: int, end: int) -> bytes:
    """Return bytes of a journal, up to the end of a line if one ends within the size of a piece."""
    data = os.pread(fd, min(end - start, _PIECE_BYTES), start)
    return data if start + len(data) >= end else data[: data.rfind(b"\n") + 1] or data


def _version(path: Path) -> _Version:
    state = path.stat()
    return state.st_mtime_ns, state.st_size, state.st_ino


def _version_or_none(path: Path) -> _Version | None:
    try:
        return _version(path)
    except FileNotFoundError:
        return None
