"""What other programs go by: `manifest.json` lists the parts of a run, and the mark `_SUCCESS` says that it is whole.

Both are in the run folder itself. In `data/`, where Spark writes such a mark, some readers would take it for a part.
"""

from __future__ import annotations

import contextlib
import datetime
from pathlib import Path
from typing import Any

import msgspec

from batchmix import __version__
from batchmix.errors import RunError, disk_errors
from batchmix.formats.run_times import text_of_ms
from batchmix.formats.text import json_file
from batchmix.store.filesystem import is_ours, replace_file, sync_folder
from batchmix.store.parts import part_path
from batchmix.store.run_folder import Layout
from batchmix.store.schema import PartFooter, Seal
from batchmix.store.view import View

_VERSION = 1
_MARK = b"batchmix\n"
"""The content of the mark. It tells the mark from a foreign file of its name."""


class ListedPart(msgspec.Struct, frozen=True):
    """One part in a manifest."""

    file: str
    """The path in the run folder."""
    first_row: int
    rows: int
    """The part has the results of the input rows from `first_row` on, so many of them."""
    results: int
    ok: int
    failed: int
    rejected: int
    bytes: int
    digest: str
    """Another one as soon as the part is another one."""
    sealed_at: str

    @classmethod
    def of(cls, path: Path, footer: PartFooter, seal: Seal) -> ListedPart:
        """Return the entry of a part."""
        totals = footer.totals
        return cls(
            f"{path.parent.name}/{path.name}",
            footer.first,
            footer.stop - footer.first,
            totals.finished,
            totals.ok,
            totals.failed,
            totals.rejected,
            seal.size,
            f"{seal.crc:08x}",
            text_of_ms(footer.sealed_ms or seal.written_ns // 1_000_000),
        )


class Manifest(msgspec.Struct, frozen=True):
    """The content of `manifest.json`."""

    job: str
    run: str
    night: datetime.date | None
    parts: list[ListedPart]
    rehearsal: bool = False
    """Whether the rehearsal provider gave the answers."""
    batchmix: str = __version__
    version: int = _VERSION


def manifest_of(view: View) -> Manifest:
    """Return the manifest of what a run folder holds."""
    layout, identity = view.layout, view.layout.identity(view.run)
    parts = [ListedPart.of(part_path(layout.data, index), *found) for index, found in sorted(view.parts.items())]
    return Manifest(identity.job, identity.run, identity.night, parts, view.run.rehearsal)


def read_manifest(path: Path) -> Manifest:
    """Return the content of a manifest. Raises `RunError` if batchmix did not write it."""
    try:
        return decoded_manifest(path.read_bytes())
    except (OSError, RunError) as error:
        raise RunError(f"{path}: is not a manifest that batchmix wrote: {error}") from error


def decoded_manifest(data: bytes) -> Manifest:
    """Return the manifest in the bytes of a file. Raises `RunError` if batchmix did not write it."""
    try:
        return msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RunError(f"is no manifest: {error}") from error


def mark(view: View) -> None:
    """Write the manifest, and the mark too if the run is whole. Raises `NoSpace` and `DiskError`."""
    layout = view.layout
    content: dict[str, Any] = msgspec.to_builtins(manifest_of(view))
    replace_file(layout.manifest_json, layout.redacted(json_file(content)), layout.file_mode)
    if view.is_whole and not layout.mark.exists():
        replace_file(layout.mark, _MARK, layout.file_mode)


def unmark(layout: Layout) -> None:
    """Remove the mark, before a part of the run changes. Raises `DiskError`."""
    with disk_errors(layout.mark), contextlib.suppress(FileNotFoundError):
        layout.mark.unlink()
        sync_folder(layout.root)


def check_marks(layout: Layout) -> None:
    """Raise `RunError` if a foreign file has the name of the manifest or of the mark."""
    for path, is_own in ((layout.manifest_json, _is_manifest), (layout.mark, _is_mark)):
        if not is_ours(path, is_own):
            raise RunError(f"{path}: was not written by batchmix, which needs this name for a file of its own; move it")


def _is_mark(path: Path) -> bool:
    return path.read_bytes() == _MARK


def _is_manifest(path: Path) -> bool:
    with contextlib.suppress(RunError):
        return bool(read_manifest(path))
    return False
