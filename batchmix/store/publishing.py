"""Publishes whole runs: a link such as `published/news` leads to the parts of the latest one.

Beside the link is a folder of versions, each with the parts of one run under names of their own, and their manifest. A
version is complete before the link leads to it, by one rename. So a reader that resolved the link has all of one run;
one that goes through the link file by file finds no file of another run under a name that it has listed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec

from batchmix.errors import JobError, RunError, disk_errors
from batchmix.formats.text import json_file
from batchmix.store.filesystem import set_mode, sync_file, sync_folder
from batchmix.store.lock import release_lock, take_lock
from batchmix.store.manifest import Manifest, manifest_of, read_manifest
from batchmix.store.parts import open_part, part_path
from batchmix.store.view import View

_VERSION = re.compile(r"[0-9a-f]{16}")
_UNFINISHED = re.compile(r"\.[0-9a-f]{16}\.[0-9a-f]{16}\.tmp")
_NO_LINKS = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EACCES})
"""Errors with which a file system refuses a hard link."""


def check_target(target: Path, job: str, *, rehearsal: bool) -> None:
    """Raise `JobError` if a run of a job can't be published at a path: something foreign or another job is there."""
    check_replacement(published(target), target, job, rehearsal=rehearsal)


def check_replacement(current: Manifest | None, target: object, job: str, *, rehearsal: bool) -> None:
    """Raise `JobError` if what is published at a target may not be replaced by a run of a job."""
    if current is None:
        return
    if current.job != job:
        raise JobError(f"output.publish: {target} has the results of another job, {current.job!r}; choose another path")
    if current.rehearsal != rehearsal:
        raise JobError(
            f"output.publish: {target} has {'rehearsed' if current.rehearsal else 'real'} answers, and rehearsed ones"
            " never take the place of real ones or the reverse; choose another path"
        )


def published(target: Path) -> Manifest | None:
    """Return the manifest of what is published at a path. None if nothing is there.

    Raises `JobError` if there is anything but a link of batchmix to a version that is complete.
    """
    if not os.path.lexists(target):
        return None
    leads_to = target.readlink() if target.is_symlink() else Path()
    is_own = leads_to.parent == Path(_versions(target).name) and _VERSION.fullmatch(leads_to.name)
    with contextlib.suppress(RunError):
        if is_own:
            return read_manifest(target / "manifest.json")
    raise JobError(f"output.publish: {target} is there, and batchmix did not publish it; choose another path")


def publish(view: View, target: Path) -> bool:
    """Make a whole run the published one, and return whether it is: not if the one there is of a later night.

    After a kill it can be repeated. Raises as `check_target` does, and `RunError`, `NoSpace` and `DiskError`.
    """
    versions = _versions(target)
    lock = take_lock(versions / "lock", str(target), wait=True)
    try:
        check_target(target, view.run.name, rehearsal=view.run.rehearsal)
        current, manifest = published(target), manifest_of(view)
        if current and current.night and manifest.night and current.night > manifest.night:
            return False
        parts = [msgspec.structs.replace(part, file=own_name(part.file, part.digest)) for part in manifest.parts]
        version = versions / hashlib.sha256(msgspec.json.encode((manifest.run, parts))).hexdigest()[:16]
        with disk_errors(target):
            if not version.exists():
                _make(version, view, msgspec.structs.replace(manifest, parts=parts))
            before = target.readlink().name if current else ""
            if before != version.name:
                _remove_others(versions, {before, version.name})
                _point(target, version)
    finally:
        release_lock(lock)
    return True


def _versions(target: Path) -> Path:
    return target.with_name(f"{target.name}.versions")


def own_name(file: str, digest: str) -> str:
    """Return the path of a published part, whose name no other part has."""
    return f"{file.removesuffix('.parquet')}-{digest}.parquet"


def _make(version: Path, view: View, manifest: Manifest) -> None:
    """Make a version: under another name first, so that it is complete once it has its own."""
    layout = view.layout
    temporary = version.with_name(f".{version.name}.{secrets.token_hex(8)}.tmp")
    (temporary / "data").mkdir(0o700, parents=True)
    for index, listed in zip(sorted(view.parts), manifest.parts, strict=True):
        _link(part_path(layout.data, index), temporary / listed.file)
    content = temporary / "manifest.json"
    content.write_bytes(json_file(msgspec.to_builtins(manifest)))
    content.chmod(layout.file_mode)
    sync_file(content)
    for folder in (temporary / "data", temporary, version.parent):
        set_mode(folder, layout.mode)
        sync_folder(folder)
    temporary.rename(version)
    sync_folder(version.parent)


def _link(part: Path, path: Path) -> None:
    """Make a part available under another path too, or copy it where the file system has no such links."""
    with open_part(part):  # fetches the part if it is in object storage
        pass
    try:
        path.hardlink_to(part)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        shutil.copy2(part, path)
        sync_file(path)


def _point(target: Path, version: Path) -> None:
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
    temporary.symlink_to(Path(version.parent.name, version.name))
    temporary.replace(target)
    sync_folder(target.parent)


def _remove_others(versions: Path, kept: set[str]) -> None:
    """Remove older versions, but not what anybody else has put into them. Readers may still have the last one."""
    for folder in list(versions.iterdir()):
        if _UNFINISHED.fullmatch(folder.name) or (_VERSION.fullmatch(folder.name) and folder.name not in kept):
            for path in _own_files(folder):
                path.unlink(missing_ok=True)
            for each in (folder / "data", folder):
                with contextlib.suppress(OSError):
                    each.rmdir()


def _own_files(folder: Path) -> Iterator[Path]:
    yield from folder.glob("data/part-[0-9]*-[0-9a-f]*.parquet")
    yield folder / "manifest.json"
