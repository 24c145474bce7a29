"""The copy on this machine of a run in object storage: made, kept up to date there, and removed again.

A run in object storage does its work in such a copy, and `store/mirror.py` ships what it writes. Whoever only reads a
run gets a copy too: of its parts only the footers, until the rows of a part are read.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import msgspec

from batchmix.errors import BatchmixError, ObjectMissing, ObjectsUnreachable, RunError, disk_errors
from batchmix.records import CHAIN_FILE, RUN_FOLDER_NAMES
from batchmix.remote.objects import ObjectInfo, Objects
from batchmix.remote.stubs import ORIGIN, Origin, footer_bytes, is_stub, read_origin, write_stub
from batchmix.store.filesystem import set_mode
from batchmix.store.ledger import Ledger
from batchmix.store.mirror import Mirror
from batchmix.store.pieces import Piece, counting, journal_and_piece, pieces_folder
from batchmix.store.remote_lock import LOCK, RemoteLock

_PART = re.compile(r"(.*/)?data/part-([0-9]{5,})\.parquet")
_NAMES = RUN_FOLDER_NAMES | {CHAIN_FILE}
_AT_ONCE = 32
_BESIDE = 60
"""How many runs are at most fetched to compare a run with. Their names sort by date."""
_TRIES = 10
"""How often a run is read anew that another process changes meanwhile."""


@contextlib.contextmanager
def working_copy(url: str, *, wait: bool = False, beside: bool = False) -> Iterator[Path]:
    """Lock a run in object storage, and yield a copy of it to work in. All that changes there is shipped.

    With `beside`, there are copies of the last runs beside it too, to compare it with; these are only read.

    The copy lies in the user's cache, and is removed at the end. After a kill it stays, and the next start goes on with
    it, unless another machine has had the run since. Raises `RunLocked` if another process works on the run, unless
    `wait` is set; `RunError` if the URL can't be read or is no run; at the end `ObjectsUnreachable` or `LockLost` if
    something could not be shipped.
    """
    objects = Objects(url)
    root = _place(objects.url)
    lock = RemoteLock(objects)
    with _speaking_of(root, objects.url):
        with _opening():
            there = objects.found()
            _check_is_run(objects.url, there)
            last_token = lock.take(wait=wait)
        try:
            with _opening(), disk_errors(root):
                mirror = _opened(root, objects, lock, last_token)
                if beside:
                    _fetch_beside(root, objects.url)
            mirror.start()
            try:
                yield root
            finally:
                mirror.close()
                _remove(root, objects.url)
        finally:
            lock.release()


@contextlib.contextmanager
def read_copy(url: str, *, must_exist: bool = True) -> Iterator[Path]:
    """Yield a temporary copy of a run in object storage, to read it. Takes no lock.

    Raises `RunError` if the URL can't be read, or if there is no run, unless it need not exist.
    """
    objects = Objects(url)
    with tempfile.TemporaryDirectory(prefix="batchmix-", ignore_cleanup_errors=True) as folder:
        root = Path(folder, PurePosixPath(objects.url).name or "run")
        with _speaking_of(root, objects.url):
            with _opening(), disk_errors(root):
                _fetch_unlocked(root, objects, must_exist=must_exist)
            yield root


def _fetch_unlocked(root: Path, objects: Objects, *, must_exist: bool) -> None:
    """Make a copy of a run while another process may work on it.

    Journals are listed before parts, as on a disk: what a shard has is in one of them at any time. If a journal goes
    before it was read, its shard has got a part, and all is read anew.
    """
    for tries_left in reversed(range(_TRIES)):
        pieces = [each for each in objects.found() if journal_and_piece(each.key)]
        there = [each for each in objects.found() if not journal_and_piece(each.key)]
        _check_is_run(objects.url, there)
        if must_exist and not any(each.key in {"run.json", CHAIN_FILE} for each in there):
            raise RunError(f"{objects.url}: is no run: it has no run.json")
        try:
            _fetch(root, objects, pieces + there, Origin(objects.url))
            return
        except ObjectMissing:
            shutil.rmtree(root)
            if not tries_left:
                raise


def _opened(root: Path, objects: Objects, lock: RemoteLock, last_token: str) -> Mirror:
    """Return the mirror of a copy that is up to date with the original, which is locked."""
    origin = read_origin(root)
    there = objects.found()
    mirror = Mirror(root, objects, lock, there)
    if origin is None or not last_token or origin.token != last_token:
        if origin is None and root.parent.exists() and any(root.parent.iterdir()):
            raise RunError(
                f"{root.parent}: is the place for a copy of {objects.url}, but batchmix did not make it; move it away"
            )
        _remove(root, objects.url)
        _fetch(root, objects, there, Origin(objects.url))
        _write_origin(root, Origin(objects.url, lock.token))  # last: what is whole only now may be gone on with
        for each in there:
            if (root / each.key).is_file():
                mirror.has(each.key)
    else:
        _write_origin(root, Origin(objects.url, lock.token))
        sizes = {each.key: each.size for each in there}
        for key, size in sizes.items():
            if _PART.fullmatch(key) and _is_same(root / key, objects, key, size):
                mirror.has(key)
            elif _is_file_of_run(key):
                mirror.is_behind(key)
    for journal, pieces in _pieces(there).items():
        mirror.has_pieces(journal, [f"{pieces_folder(journal)}/{piece.name}" for piece in pieces])
    return mirror


def _remove(root: Path, url: str) -> None:
    """Remove a copy. If a kill leaves a half of it, the next start knows it for one, and does not go on with it."""
    if not root.parent.exists():
        return
    _write_origin(root, Origin(url))
    for path in root.parent.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != ORIGIN:  # such as the history of the runs beside it
            path.unlink()
    (root.parent / ORIGIN).unlink()
    root.parent.rmdir()


def _fetch_beside(root: Path, url: str) -> None:
    """Make copies of the last runs in the same folder, each beside the copy of the run itself."""
    above = url.rpartition("/")[0]
    if above.endswith("/"):  # the run is the whole bucket
        return
    for old in root.parent.iterdir():
        if old.is_dir() and old != root:
            shutil.rmtree(old)
    by_run: dict[str, list[ObjectInfo]] = {}
    for each in Objects(above).found():
        name, _, key = each.key.partition("/")
        by_run.setdefault(name, []).append(msgspec.structs.replace(each, key=key))
    runs = [name for name, there in by_run.items() if name != root.name and any(one.key == "run.json" for one in there)]
    for name in sorted(runs)[-_BESIDE:]:
        with contextlib.suppress(ObjectMissing):  # it is being changed, or removed
            _fetch(root.parent / name, Objects(f"{above}/{name}"), by_run[name], None)


def _is_same(path: Path, objects: Objects, key: str, size: int) -> bool:
    """Return whether a part is the one in object storage. No two parts have the same footer."""
    if not path.exists() or path.stat().st_size != size:
        return False
    footer = footer_bytes(objects, key, size)
    with path.open("rb") as file:
        file.seek(size - len(footer))
        return file.read() == footer or is_stub(path)


def _fetch(root: Path, objects: Objects, there: list[ObjectInfo], origin: Origin | None) -> None:
    """Make a copy: journals from their pieces, of the parts the footers, and all other files."""
    root.mkdir(0o700, parents=True, exist_ok=True)
    if origin is not None:
        _write_origin(root, origin)
    files = [each for each in there if _is_file_of_run(each.key) and each.key != LOCK]
    parts = [each for each in files if _PART.fullmatch(each.key)]
    for each in files:
        (root / each.key).parent.mkdir(0o700, parents=True, exist_ok=True)
    with ThreadPoolExecutor(_AT_ONCE) as fetching:
        for _ in fetching.map(lambda each: objects.download(each.key, root / each.key), set(files) - set(parts)):
            pass
        footers = fetching.map(lambda each: footer_bytes(objects, each.key, each.size), parts)
        for each, footer in zip(parts, footers, strict=True):
            write_stub(root / each.key, each.size, footer)
    for folder in {(root / each.key).parent.parent for each in parts}:
        _restore_times(folder)
    for journal, pieces in _pieces(there).items():
        path = root / journal
        path.parent.mkdir(0o700, parents=True, exist_ok=True)
        with path.open("wb") as file:
            for data in objects.get_each(f"{pieces_folder(journal)}/{piece.name}" for piece in counting(pieces)):
                file.write(data)
        set_mode(path, 0o600)
        if not path.stat().st_size:
            path.unlink()


def _restore_times(folder: Path) -> None:
    """Give the parts the times that the ledger says they have. Another time would mean a closer look at each."""
    for shard, state in Ledger(folder / "ledger.jsonl", None).read().items():
        path = folder / "data" / f"part-{shard:05}.parquet"
        if state.sealed and path.exists():
            os.utime(path, ns=(state.sealed.seal.written_ns, state.sealed.seal.written_ns))


def _pieces(there: list[ObjectInfo]) -> dict[str, list[Piece]]:
    """Return the pieces of each journal."""
    found: dict[str, list[Piece]] = {}
    for each in there:
        if named := journal_and_piece(each.key):
            found.setdefault(named[0], []).append(named[1])
    return found


def _is_file_of_run(key: str) -> bool:
    """Return whether an object is a file of a run, other than a piece of a journal."""
    parts = PurePosixPath(key).parts
    is_own = any(part in _NAMES for part in parts)
    return is_own and "journal" not in parts and not {"..", "."} & set(parts)


def _check_is_run(url: str, there: list[ObjectInfo]) -> None:
    """Raise `RunError` if there are objects, but no run."""
    if there and not any(each.key == LOCK or each.key.endswith("run.json") for each in there):
        raise RunError(
            f"{url}: is not a run folder: it holds {there[0].key!r}; choose another with --out, new or empty"
        )


def _write_origin(root: Path, origin: Origin) -> None:
    (root.parent / ORIGIN).write_bytes(msgspec.json.encode(origin))


def _place(url: str) -> Path:
    """Return the place of a run's copy in the user's cache (XDG Base Directory Specification)."""
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    except RuntimeError as error:
        raise RunError(f"{url}: there is no home folder for a copy; name one in XDG_CACHE_HOME") from error
    return cache / "batchmix" / hashlib.sha256(url.encode()).hexdigest()[:16] / PurePosixPath(url).name


@contextlib.contextmanager
def _opening() -> Iterator[None]:
    """Turn errors of object storage into a `RunError`: nothing was sent yet."""
    try:
        yield
    except ObjectMissing as error:
        raise RunError(f"{error}; check the name of the bucket") from error
    except ObjectsUnreachable as error:
        raise RunError(f"{error}; check the URL, the network, and the credentials in the environment") from error


@contextlib.contextmanager
def _speaking_of(root: Path, url: str) -> Iterator[None]:
    """Name the URL instead of the copy in messages of errors."""
    try:
        yield
    except BatchmixError as error:
        raise error.reworded(lambda text: text.replace(str(root), url)) from error.__cause__
