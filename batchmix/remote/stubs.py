"""Stands in for parts in object storage of which this machine has only the footer.

A stub has the size, the time and the footer of its part, and takes no more space than the footer. So a run resumes
without its parts. When the rows of one are read, the whole part is fetched and takes the stub's place.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

import msgspec

from batchmix.errors import ObjectsUnreachable, PartDamaged
from batchmix.remote.objects import Objects

ORIGIN = "origin.json"
"""Beside the copy of a run in object storage: where the original is."""
_MARK = b"AWAY"
"""The first bytes of a stub. Those of a Parquet file are PAR1."""
_TAIL_BYTES = 1 << 16
"""The bytes of a part that are read first. They hold nearly every footer."""


class Origin(msgspec.Struct, frozen=True):
    """Where the original of a copy is."""

    url: str
    token: str = ""
    """The token of the lock under which the copy was made. Empty for a copy that is only read."""


def read_origin(root: Path) -> Origin | None:
    """Return where the original of a run folder is. None if the folder is no copy."""
    with contextlib.suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode((root.parent / ORIGIN).read_bytes(), type=Origin)
    return None


def origin_above(path: Path) -> tuple[Path, Origin] | None:
    """Return the copy that a file belongs to, and where the original is. None if it belongs to none."""
    for root in path.parents:
        if origin := read_origin(root):
            beside = origin.url.rpartition("/")[0]
            return root, Origin(f"{beside}/{root.name}", origin.token)  # it may be a copy of a run beside that one
    return None


def is_stub(path: Path) -> bool:
    """Return whether a part's file is only a stub."""
    with path.open("rb") as file:
        return file.read(len(_MARK)) == _MARK


def footer_bytes(objects: Objects, key: str, size: int) -> bytes:
    """Return the end of a part in object storage, with its whole footer."""
    tail = objects.get_end(key, max(0, size - _TAIL_BYTES), size)
    length = int.from_bytes(tail[-8:-4], "little") + 8
    if len(tail) < length <= size:
        tail = objects.get_end(key, size - length, size)
    return tail[-length:] if length <= size else tail


def write_stub(path: Path, size: int, footer: bytes) -> None:
    """Write a stub, in place of any file at its path. `footer` is the end of the part."""
    temporary = _temporary(path)
    with temporary.open("xb") as file:
        temporary.chmod(0o600)
        file.write(_MARK)
        file.seek(max(size - len(footer), 0))
        file.write(footer)
    temporary.replace(path)


def replace_by_stub(path: Path) -> None:
    """Replace a whole part, which is in object storage too, by its stub."""
    state, size = path.stat(), path.stat().st_size
    with path.open("rb") as file:
        file.seek(size - 8)
        length = int.from_bytes(file.read(4), "little") + 8
        file.seek(size - length)
        footer = file.read()
    write_stub(path, size, footer)
    path.chmod(state.st_mode & 0o777)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def fetch_if_stub(path: Path) -> None:
    """Fetch a part of which there is only a stub. Raises `PartDamaged` if the part is another than the stub's."""
    if not is_stub(path):
        return
    found = origin_above(path)
    if found is None:
        raise PartDamaged(f"{path}: is only the footer of a part, and nothing says where the rest is")
    root, origin = found
    temporary, stub = _temporary(path), path.stat()
    try:
        Objects(origin.url).download(path.relative_to(root).as_posix(), temporary)
        if temporary.stat().st_size != stub.st_size or _footer(temporary) != _footer(path):
            raise PartDamaged(f"{origin.url}/{path.relative_to(root)}: was replaced while the run was read")
        temporary.chmod(stub.st_mode & 0o777)
        os.utime(temporary, ns=(stub.st_atime_ns, stub.st_mtime_ns))
        temporary.replace(path)
    except ObjectsUnreachable as error:
        raise PartDamaged(str(error)) from error
    finally:
        temporary.unlink(missing_ok=True)


def _footer(path: Path) -> bytes:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 8))
        length = int.from_bytes(file.read(4), "little") + 8
        file.seek(max(0, size - length))
        return file.read()


def _temporary(path: Path) -> Path:
    """Return a temporary name beside the journals: whatever lies in `data` would be read by others."""
    folder = path.parent.parent / "journal"
    folder.mkdir(0o700, exist_ok=True)
    return folder / f".{path.name}.{secrets.token_hex(8)}.tmp"
