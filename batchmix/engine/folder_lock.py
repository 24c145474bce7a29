"""Locks a run folder: only one process at a time may work on it. Refuses a folder with foreign files, untouched."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from batchmix.errors import TEMPORARY_ERRORS, BatchmixError, PartDamaged, RunError, disk_error
from batchmix.job import CheckedJob
from batchmix.load import is_spool, remove_spool
from batchmix.redact import Secrets
from batchmix.store.filesystem import TEMPORARY, is_regular_or_missing, not_plain
from batchmix.store.journal_reader import has_event, is_foreign
from batchmix.store.lock import is_signed, release_lock, take_lock
from batchmix.store.manifest import check_marks
from batchmix.store.parts import list_parts, read_part
from batchmix.store.run_folder import Layout

# The second pattern in each pair matches the names that earlier versions gave.
_REPLACED = r"((run|summary|manifest)\.json|_SUCCESS)"
_REPLACING = re.compile("|".join([TEMPORARY.format(_REPLACED), r"(run|summary)\.json\.tmp"]))
_SEALED = (r"part-[0-9]{5,}\.parquet", r"[0-9]{5,}-[0-9]{3,}\.jsonl")
_SEALING = re.compile("|".join([*map(TEMPORARY.format, _SEALED), r"[0-9]{5,}\.parquet\.tmp"]))
_RESERVE = "reserve"
"""Name of the file in which an earlier version reserved disk space. Now the reserve is a file without a name."""


@contextlib.contextmanager
def locked_folder(job: CheckedJob, secrets: Secrets, *, wait: bool = False) -> Iterator[Layout]:
    """Lock a job's run folder until the block ends; create the folder if it does not exist.

    Temporary files of a killed process are removed first. If the run never begins, everything that was created for it
    is removed afterwards. Raises `RunError`, before anything is changed, if the folder holds foreign files. Raises
    `RunLocked` with the name of the other process if another process works on the folder, unless `wait` is set.
    """
    layout = Layout(Path(job.output.path), mode=job.output.permissions, secrets=secrets)
    check_ours(layout)
    made = _make_folders(layout.root)
    lock = None
    try:
        lock = take_lock(layout.lock, str(layout.root), wait=wait)
        check_ours(layout)  # again, because another process may have changed the folder meanwhile
        _remove_leftovers(layout)
        yield layout
    finally:
        with contextlib.suppress(OSError, BatchmixError):  # the error that ended the run matters more
            if lock is not None:
                _remove_unbegun(layout)
        _remove_folders(made)
        if lock is not None:
            release_lock(lock)


def check_ours(layout: Layout) -> None:
    """Raise `RunError` if a folder holds anything that does not belong to a run. Changes nothing.

    Files of a start that was killed before it wrote `run.json` are accepted if batchmix wrote the lock file.
    """
    try:
        names = sorted(os.listdir(layout.root))  # noqa: PTH208 - names
        if holds_run(layout):
            _check_files(layout)
        elif names:
            layout.read_run()  # raises if there is a `run.json` that can't be read
            _check_leftovers(layout, names)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise RunError(f"{layout.root}: is a file; the output is a folder") from None
    except OSError as error:
        raise RunError(f"{error.filename or layout.root}: can't be read: {error.strerror}") from error


def holds_run(layout: Layout) -> bool:
    """Return whether a folder holds a run: a `run.json`, or a part or a journal that batchmix wrote."""
    with contextlib.suppress(RunError):
        if layout.read_run() is not None:
            return True
    with contextlib.suppress(RunError):
        layout.check_folders()
        journals = (path for lanes in layout.journals().values() for path in lanes.values())
        return any(map(_is_part, list_parts(layout.data).values())) or any(map(has_event, journals))
    return False


def _is_part(path: Path) -> bool:
    with contextlib.suppress(RunError, PartDamaged):
        read_part(path)
        return True
    return False


def _check_files(layout: Layout) -> None:
    """Raise `RunError` if a file has the name of a run's file, but was not written by batchmix.

    Otherwise the run would overwrite the file.
    """
    layout.check_folders()
    is_signed(layout.lock)
    check_marks(layout)
    journals = [path for lanes in layout.journals().values() for path in lanes.values()]
    list_parts(layout.data)
    for path in (layout.run_json, layout.summary_json, layout.ledger.path, *journals):
        if not is_regular_or_missing(path):
            raise not_plain(path)
    for path in journals:
        if is_foreign(path):
            raise RunError(f"{path}: is not a journal that batchmix wrote; move it away")
        if path.stat().st_nlink > 1:
            raise RunError(
                f"{path}: is a hard link, and writing here would change the other file too; copy the run folder as a"
                " whole, as with cp -a, and resume in the copy"
            )


def _check_leftovers(layout: Layout, names: list[str]) -> None:
    """Raise `RunError` if the folder holds a file that is not a leftover of a killed first start."""
    try:
        signed = is_signed(layout.lock)
    except RunError:  # a foreign file has the lock's name
        signed, foreign = False, layout.lock.name
    else:
        foreign = ""
    left = (name for name in names if name != layout.lock.name and not (signed and _is_leftover(layout, name)))
    foreign = next(left, foreign)
    if foreign:
        raise RunError(
            f"{layout.root}: is not a run folder: it holds {foreign!r}; choose another with --out, new or empty"
        )


def _is_leftover(layout: Layout, name: str) -> bool:
    path = layout.root / name
    if name in {layout.data.name, layout.journal.name, layout.input.name}:
        return path.is_dir() and all(name == layout.input.name and is_spool(inside) for inside in path.iterdir())
    return bool(_REPLACING.fullmatch(name)) and is_regular_or_missing(path)


def _make_folders(root: Path) -> list[Path]:
    """Create a folder and its missing parents; return the created folders, the innermost first.

    Raises `RunError`, or, if the disk is the cause, `NoSpace` or `DiskError`.
    """
    made: list[Path] = []
    try:
        for folder in (*reversed(root.parents), root):
            if not folder.is_dir():
                with contextlib.suppress(FileExistsError):
                    folder.mkdir(0o700 if folder == root else 0o777)
                    made.insert(0, folder)
                if not folder.is_dir():
                    what = (
                        f"is a link to {folder.readlink()}, which does not exist"
                        if folder.is_symlink()
                        else "is a file"
                    )
                    raise RunError(f"{folder}: {what}; the output is a folder")
    except OSError as error:
        _remove_folders(made)
        if error.errno in TEMPORARY_ERRORS:
            raise disk_error(error, root) from error
        raise RunError(f"{root}: can't be made: {error.strerror}") from error
    except RunError:
        _remove_folders(made)
        raise
    return made


def _remove_leftovers(layout: Layout) -> None:
    """Remove the temporary files of a killed process: only files with batchmix's own names, and no links."""
    for folder, names in ((layout.root, _REPLACING), (layout.journal, _SEALING)):
        for path in folder.iterdir() if folder.is_dir() else ():
            if names.fullmatch(path.name) and is_regular_or_missing(path):
                path.unlink(missing_ok=True)
    reserve = layout.journal / _RESERVE
    if reserve.exists() and is_regular_or_missing(reserve) and _is_blank(reserve):
        reserve.unlink()
    if not holds_run(layout):
        for spool in layout.input.iterdir() if layout.input.is_dir() else ():
            remove_spool(spool)


def _is_blank(path: Path) -> bool:
    with path.open("rb") as file:
        return not any(block.strip(b"\0") for block in iter(lambda: file.read(1 << 20), b""))


def _remove_unbegun(layout: Layout) -> None:
    """Remove everything that was created for a run that never began. Foreign files stay."""
    if holds_run(layout):
        return
    check_ours(layout)
    _remove_leftovers(layout)
    _remove_folders([layout.data, layout.journal, layout.input])
    if os.listdir(layout.root) == [layout.lock.name]:  # noqa: PTH208 - names
        layout.lock.unlink()


def _remove_folders(folders: list[Path]) -> None:
    """Remove these folders, except those that are not empty."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()
