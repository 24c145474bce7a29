"""Which files an input is, and what tells whether they have changed."""

from __future__ import annotations

import glob
import hashlib
import os
import re
import shlex
import stat
import time
from pathlib import Path

import msgspec

from batchmix.errors import InputError
from batchmix.formats.display import clean
from batchmix.job import closest_file

JSONL = "jsonl"
PARQUET = "parquet"
CSV = "csv"
TSV = "tsv"
MARKS = {CSV: ",", TSV: "\t"}
"""What stands between two cells."""
STDIN = "-"
GZIP = "gzip"
ZSTD = "zstd"
MAGIC = {GZIP: b"\x1f\x8b", ZSTD: b"\x28\xb5\x2f\xfd"}
"""How compressed files begin."""
_FORMATS = {".jsonl": JSONL, ".ndjson": JSONL, ".parquet": PARQUET, ".pq": PARQUET, ".csv": CSV, ".tsv": TSV}
_COMPRESSIONS = {".gz": GZIP, ".zst": ZSTD}
_KNOWN = ".jsonl, .ndjson, .csv and .tsv (also with .gz or .zst) and .parquet"
HEAD_BYTES = 1 << 16
_PIPES = re.compile(r"/dev/fd/\d+|/proc/(self|thread-self|\d+)/fd/\d+")
_SPECIAL = {
    stat.S_IFIFO: "is a named pipe, which can be read only once; pipe it in: batchmix run - … < {path}",
    stat.S_IFSOCK: "is a socket, not a file",
    stat.S_IFCHR: "is a device, not a file",
    stat.S_IFBLK: "is a device, not a file",
}
_RACY_NS = 2_000_000_000
"""A file that was changed so shortly before it was read may have been changed again within the clock's grain."""


class Source(msgspec.Struct, frozen=True):
    """One file of the input, as it was given."""

    path: str
    format: str
    compression: str | None = None

    @property
    def label(self) -> str:
        """How messages call it."""
        return "stdin" if self.path == STDIN else shown(self.path)

    @property
    def name(self) -> str:
        """The file's name without its folder, which is the same wherever batchmix is started."""
        return "stdin" if self.path == STDIN else clean(os.path.basename(self.path), 200)  # noqa: PTH119

    @property
    def spooled(self) -> bool:
        """Whether it is written out once before it is read."""
        return self.path == STDIN or self.compression is not None or self.format in MARKS


class Stamp(msgspec.Struct, frozen=True):
    """What a file's status says; equal stamps mean equal contents if `settled`."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    settled: bool
    """The last change was long enough before the file was read."""

    def proves(self, now: Stamp) -> bool:
        """Return whether a file with the stamp `now` must have the contents read under this one, which is settled."""
        return msgspec.structs.replace(now, settled=True) == self


def is_pipe(path: str) -> bool:
    """Return whether a path is one of this process's open pipes, as a shell's `<(…)` gives it."""
    if not _PIPES.fullmatch(path):
        return False
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116
    except OSError:
        return False


def shown(path: str) -> str:
    """Return a path as a person would write it here."""
    relative = os.path.relpath(path)
    return clean(relative if len(relative) < len(path) else path, 1000)


def find_sources(path: str) -> tuple[Source, ...]:
    """Return the files that a path, a folder or a glob means, in name order. Raises `InputError`."""
    if path == STDIN or is_pipe(path):
        return (Source(STDIN, JSONL),)
    try:
        found = _found(path)
    except OSError as error:
        raise unreadable(path, error) from error
    except ValueError:
        raise InputError(f"{shown(path)}: is no path to a file") from None
    sources = tuple(map(_source, found))
    for source in sources:
        if source.format != sources[0].format:
            raise InputError(
                f"{sources[0].label} and {source.label}: JSONL, CSV and Parquet can't be one input; give a glob such as"
                " *.jsonl that matches only one of them"
            )
    return sources


def _found(path: str) -> list[str]:
    try:
        os.stat(path)  # noqa: PTH116 - unlike exists, it tells a forbidden file from a missing one
    except (FileNotFoundError, NotADirectoryError):
        if not glob.has_magic(path):
            raise InputError(f"{shown(path)}: no such file{_near(path)}") from None
        found = sorted(name for name in glob.glob(path) if not Path(name).is_dir())  # noqa: PTH207 - any kind of path
        if not found:
            raise InputError(f"{shown(path)}: no file matches") from None
        return found
    return _in_folder(path) if os.path.isdir(path) else [path]  # noqa: PTH112 - Path would normalise it


def _in_folder(path: str) -> list[str]:
    with os.scandir(path) as entries:
        found = sorted(e.path for e in entries if not e.name.startswith(".") and _format(e.path)[0] and e.is_file())
    if Path(path, "run.json").is_file():
        found = [name for name in found if Path(name).name != "ledger.jsonl"]  # a run's account, which holds no rows
    if not found:
        data = Path(path, "data")
        hint = f"; did you mean {shown(str(data))}?" if any(data.glob("*.parquet")) else ""
        raise InputError(f"{shown(path)}: nothing to read in this folder; batchmix reads {_KNOWN}{hint}")
    return found


def _near(path: str) -> str:
    """Return a hint where the same file stands there with another known suffix, or one with nearly the same name."""
    folder, name = os.path.split(path)
    stem = name.partition(".")[0]
    try:
        near = [other for other in sorted(os.listdir(folder)) if other.partition(".")[0] == stem and _format(other)[0]]  # noqa: PTH208
    except OSError:
        near = []
    if not stem or not near:
        return closest_file(Path(shown(path)))
    return f"; did you mean {shown(os.path.join(folder, near[0]))}?"  # noqa: PTH118


def _format(path: str) -> tuple[str | None, str | None]:
    stem, suffix = os.path.splitext(path.lower())  # noqa: PTH122
    compression = _COMPRESSIONS.get(suffix)
    found = _FORMATS.get(os.path.splitext(stem)[1] if compression else suffix)  # noqa: PTH122
    return (None if compression and found == PARQUET else found), compression


def _source(path: str) -> Source:
    _check_kind(path)
    kind, compression = _format(path)
    if kind is None:
        from batchmix.load.foreign_files import unknown_suffix  # looks into files, and needs to know what they are here

        raise InputError(f"{shown(path)}: is of no known format; batchmix reads {_KNOWN}{unknown_suffix(path)}")
    if kind != PARQUET:
        compression = compression_of(head_of(path, 4), compression)
    try:
        path.encode()
    except UnicodeEncodeError:
        raise InputError(f"{shown(path)}: the name is not UTF-8; rename the file") from None
    return Source(path, kind, compression)


def _check_kind(path: str) -> None:
    """Raise `InputError` for what is there and is no file, and would be waited for without end."""
    try:
        reason = _SPECIAL.get(stat.S_IFMT(os.stat(path).st_mode))  # noqa: PTH116
    except OSError as error:
        raise unreadable(path, error) from error
    if reason:
        raise InputError(f"{shown(path)}: {reason.format(path=shlex.quote(shown(path)))}")


def compression_of(head: bytes, named: str | None) -> str | None:
    """Return how a file that begins with `head` is compressed; one that is cut off so soon is what its name says."""
    found = next((kind for kind, magic in MAGIC.items() if head.startswith(magic)), None)
    if head[1:4] == b"\x2a\x4d\x18" and head[0] >> 4 == 5:  # a frame of zstd that is to be skipped
        return ZSTD
    return found or (named if named and head and MAGIC[named].startswith(head) else None)


def head_of(path: str, size: int = HEAD_BYTES) -> bytes:
    """Return the first bytes of a file. Raises `InputError`."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return file.read(size)
    except OSError as error:
        raise unreadable(path, error) from error


def stamp(path: str) -> Stamp:
    """Return a file's stamp. Raises `InputError`."""
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError as error:
        raise unreadable(path, error) from error
    settled = time.time_ns() - max(status.st_ctime_ns, status.st_mtime_ns) > _RACY_NS
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, settled)


def has_size(path: str, size: int) -> bool:
    """Return whether a file is there, with this size."""
    try:
        return os.stat(path).st_size == size  # noqa: PTH116
    except OSError:
        return False


def file_digest(path: str) -> str:
    """Return the digest of a whole file. Raises `InputError`."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: str, error: OSError) -> InputError:
    """Return the error for a file that can't be read."""
    reasons = {
        PermissionError: "permission denied; make it readable, or give another file",
        FileNotFoundError: "is gone",
    }
    reason = reasons.get(type(error)) or clean(error.strerror or str(error))
    return InputError(f"{shown(path)}: can't be read: {reason}")
