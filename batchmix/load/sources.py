"""Finds the files of an input, and has the table of file formats.

To add a format, add an entry to `FORMATS`: its suffixes, and its own reader or a function that converts it to JSON
lines. Messages, and the checks of a file's content, take all they need from the entry.
"""

from __future__ import annotations

import glob
import os
import re
import shlex
import stat
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import msgspec

from batchmix.errors import InputError
from batchmix.job import MEMORY, QUERY, closest_file
from batchmix.load.arrow_file import CONTINUATION, ArrowFile
from batchmix.load.arrow_file import MAGIC as ARROW_MAGIC
from batchmix.load.csv_lines import csv_to_json, decode_converted
from batchmix.load.files import STDIN, Source, head_of, shown, unreadable
from batchmix.load.jsonl_rows import JsonlReader
from batchmix.load.parquet import ParquetFile
from batchmix.load.row_reader import RowReader
from batchmix.load.run_rows import RunReader, parts_of_run
from batchmix.load.saved_dataset import saved_files
from batchmix.load.table_input import TableFile
from batchmix.load.table_reader import TableReader
from batchmix.records import CHAIN_FILE, RUN_FOLDER_NAMES
from batchmix.remote.files import each, find, is_url


class InputFormat(msgspec.Struct, frozen=True, kw_only=True):
    """A supported input file format."""

    name: str
    """The name that run.json stores."""
    suffixes: tuple[str, ...]
    """The suffixes, in lower case. Messages suggest the first one for a file of this format."""
    reader: Callable[[tuple[Source, ...], tuple[str, ...]], RowReader]
    """Opens the files of an input. Takes the sources, and the path of each: that of the file, or of its spooled copy.

    `RowReader` is the interface of the opened input.
    """
    to_json_lines: Callable[[Iterator[bytes], Source], Iterator[bytes]] | None = None
    """Converts a file's plain bytes to JSON lines, which are spooled. `reader` is then given the spooled copies."""
    signatures: tuple[bytes, ...] = ()
    """How files of a binary format begin. Empty for a text format, whose files must be UTF-8."""
    is_table: bool = False
    """Whether files consist of lines of cells. A file that begins like JSON, HTML or XML then has the wrong suffix."""
    compressible: bool = True
    """Whether files of this format may be compressed as a whole."""
    opened: Callable[[str], TableFile] | None = None
    """Opens a file that holds a typed table. None for a text format."""


def _table_format(
    name: str, suffixes: tuple[str, ...], signatures: tuple[bytes, ...], opened: Callable[[str], TableFile]
) -> InputFormat:
    """Return a format of files that hold a typed table."""
    return InputFormat(
        name=name,
        suffixes=suffixes,
        reader=partial(TableReader, opened=opened),
        signatures=signatures,
        compressible=False,
        opened=opened,
    )


JSONL = "jsonl"
PARQUET = "parquet"
RUN = "run"
"""The format of the parts of a run, which stand for the run as a whole."""
_ConvertedReader = partial(JsonlReader, decode=decode_converted)
FORMATS = (
    InputFormat(name=JSONL, suffixes=(".jsonl", ".ndjson"), reader=JsonlReader),
    InputFormat(
        name="csv",
        suffixes=(".csv",),
        reader=_ConvertedReader,
        to_json_lines=partial(csv_to_json, delimiter=","),
        is_table=True,
    ),
    InputFormat(
        name="tsv",
        suffixes=(".tsv",),
        reader=_ConvertedReader,
        to_json_lines=partial(csv_to_json, delimiter="\t"),
        is_table=True,
    ),
    _table_format(PARQUET, (".parquet", ".pq"), (b"PAR1",), ParquetFile),
    _table_format("arrow", (".arrow", ".arrows", ".feather", ".ipc"), (ARROW_MAGIC, CONTINUATION), ArrowFile),
    InputFormat(name=RUN, suffixes=(), reader=RunReader, signatures=(b"PAR1",), compressible=False),
)
"""All formats that batchmix reads."""
GZIP = "gzip"
ZSTD = "zstd"
MAGIC = {GZIP: b"\x1f\x8b", ZSTD: b"\x28\xb5\x2f\xfd"}
"""The first bytes of compressed files."""
_COMPRESSIONS = {".gz": GZIP, ".zst": ZSTD}
_PIPES = re.compile(r"/dev/fd/\d+|/proc/(self|thread-self|\d+)/fd/\d+")
_SPECIAL = {
    stat.S_IFIFO: "is a named pipe, which can be read only once; pipe it in: batchmix run - … < {path}",
    stat.S_IFSOCK: "is a socket, not a file",
    stat.S_IFCHR: "is a device, not a file",
    stat.S_IFBLK: "is a device, not a file",
}


def format_of(source: Source) -> InputFormat:
    """Return a source's format."""
    return next(each for each in FORMATS if each.name == source.format)


def format_by_signature(head: bytes) -> InputFormat | None:
    """Return the binary format of a file that begins with `head`. None if it has no supported binary format."""
    return next((each for each in FORMATS if head.startswith(each.signatures)), None)


def supported_suffixes() -> tuple[str, ...]:
    """Return the suffixes of all formats."""
    return tuple(suffix for each in FORMATS for suffix in each.suffixes)


def _supported() -> str:
    """Return a list of the supported suffixes, for a message."""
    compressible = [suffix for each in FORMATS if each.compressible for suffix in each.suffixes]
    others = [suffix for each in FORMATS if not each.compressible for suffix in each.suffixes]
    return ", ".join(
        [*compressible[:-1], f"{compressible[-1]} (these also with {' or '.join(_COMPRESSIONS)})", *others]
    )


def is_spooled(source: Source) -> bool:
    """Return whether a source is first copied into the run folder, decompressed or converted, and read from there."""
    return source.is_stream or source.compression is not None or format_of(source).to_json_lines is not None


def open_reader(sources: tuple[Source, ...], paths: tuple[str, ...]) -> RowReader:
    """Return the reader of an input. `paths` has the path to read each source from. Raises `InputError`."""
    return format_of(sources[0]).reader(sources, paths)


def is_pipe(path: str) -> bool:
    """Return whether a path is one of this process's open pipes, such as a shell passes for `<(…)`."""
    if not _PIPES.fullmatch(path):
        return False
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116
    except OSError:
        return False


def find_sources(path: str) -> tuple[Source, ...]:
    """Return the files that a path, a folder or a glob stands for, in name order. Raises `InputError`.

    Of a run folder, they are all its parts, also those that are not there yet.
    """
    if path == STDIN or is_pipe(path):
        return (Source(STDIN, JSONL),)
    if path.startswith(QUERY):
        return (Source(path, PARQUET),)
    if path.startswith(MEMORY):
        return (_in_memory(path),)
    if parts := parts_of_run(path):
        return tuple(Source(part, RUN) for part in parts)
    try:
        paths = _in_storage(path) if is_url(path) else _paths(path)
    except OSError as error:
        raise unreadable(path, error) from error
    except ValueError:
        raise InputError(f"{shown(path)}: not a valid path") from None
    sources = tuple(each(_source, paths, remote=is_url(path)))
    for source in sources:
        if source.format != sources[0].format:
            raise InputError(
                f"{sources[0].label} and {source.label}: files of two formats can't be one input; give a glob such as"
                f" *{format_of(sources[0]).suffixes[0]} that matches only one of them"
            )
    return sources


def _in_memory(path: str) -> Source:
    """Return the source for rows that were handed over in memory. Raises `InputError` if their format is unknown."""
    named = next((each for each in FORMATS if path == f"{MEMORY}{each.name}"), None)
    if named is None:
        raise InputError(f"{path}: rows in memory are {' or '.join(f'{MEMORY}{each.name}' for each in FORMATS)}")
    return Source(path, named.name)


def _paths(path: str) -> list[str]:
    try:
        os.stat(path)  # noqa: PTH116 - unlike exists, it distinguishes a forbidden file from a missing one
    except (FileNotFoundError, NotADirectoryError):
        if not glob.has_magic(path):
            raise InputError(f"{shown(path)}: no such file{_near(path)}") from None
        paths = sorted(name for name in glob.glob(path) if not Path(name).is_dir())  # noqa: PTH207 - the path may be absolute
        if not paths:
            raise InputError(f"{shown(path)}: no file matches") from None
        return paths
    return _in_folder(path) if os.path.isdir(path) else [path]  # noqa: PTH112 - Path would normalise it


def _in_storage(url: str) -> list[str]:
    found, is_folder = find(url)
    if not found:
        raise InputError(f"{shown(url)}: there is no such object, and none below it; is the bucket's name right?")
    if any(name.endswith("/dataset_info.json") for name in found):
        raise InputError(f"{shown(url)}: is a saved dataset; give its files: {shown(url.rstrip('/'))}/data-*.arrow")
    if is_folder and any(name.rpartition("/")[2] in {"run.json", CHAIN_FILE} for name in found):
        raise InputError(
            f"{shown(url)}: is a run folder; a run is input only on this machine: copy it here, or export it to a file;"
            f" or give its table, {shown(url.rstrip('/'))}/data/*.parquet"
        )
    return _readable_of(url, found) if is_folder else found


def _readable_of(folder: str, found: list[str], hint: str = "") -> list[str]:
    """Return the paths of the files in a folder that are input."""
    names = {os.path.basename(path): path for path in found}  # noqa: PTH119
    own = RUN_FOLDER_NAMES if "run.json" in names else ()  # such as the run's ledger
    paths = [path for name, path in names.items() if name[0] != "." and name not in own and _format(name)[0]]
    if not paths:
        raise InputError(f"{shown(folder)}: nothing to read in this folder; batchmix reads {_supported()}{hint}")
    return paths


def _in_folder(path: str) -> list[str]:
    saved = saved_files(path)
    if saved is not None:
        return saved
    with os.scandir(path) as entries:
        found = sorted(entry.path for entry in entries if entry.is_file())
    data = Path(path, "data")
    return _readable_of(path, found, f"; did you mean {shown(str(data))}?" if any(data.glob("*.parquet")) else "")


def _near(path: str) -> str:
    """Return a "did you mean" hint: a file with the same stem and a supported suffix, or else a similar name."""
    folder, name = os.path.split(path)
    stem = name.partition(".")[0]
    try:
        near = [other for other in sorted(os.listdir(folder)) if other.partition(".")[0] == stem and _format(other)[0]]  # noqa: PTH208
    except OSError:
        near = []
    if not stem or not near:
        return closest_file(Path(shown(path)))
    return f"; did you mean {shown(os.path.join(folder, near[0]))}?"  # noqa: PTH118


def _format(path: str) -> tuple[InputFormat | None, str | None]:
    """Return the format and the compression that a path's suffixes name."""
    stem, suffix = os.path.splitext(path.lower())  # noqa: PTH122
    compression = _COMPRESSIONS.get(suffix)
    if compression:
        suffix = os.path.splitext(stem)[1]  # noqa: PTH122
    named = next((each for each in FORMATS if suffix in each.suffixes), None)
    return (None if compression and named and not named.compressible else named), compression


def _source(path: str) -> Source:
    _check_is_file(path)
    named, compression = _format(path)
    if named is None:
        from batchmix.load.foreign_files import unsupported_file  # it imports this module

        raise InputError(f"{shown(path)}: unsupported file type; batchmix reads {_supported()}{unsupported_file(path)}")
    if named.compressible:
        compression = compression_of(head_of(path, 4), compression)
    try:
        path.encode()
    except UnicodeEncodeError:
        raise InputError(f"{shown(path)}: the file's name is not UTF-8; rename the file") from None
    return Source(path, named.name, compression)


def _check_is_file(path: str) -> None:
    """Raise `InputError` for a pipe, a socket or a device, because reading it might never end."""
    if is_url(path):
        return
    try:
        reason = _SPECIAL.get(stat.S_IFMT(os.stat(path).st_mode))  # noqa: PTH116
    except OSError as error:
        raise unreadable(path, error) from error
    if reason:
        raise InputError(f"{shown(path)}: {reason.format(path=shlex.quote(shown(path)))}")


def compression_of(head: bytes, named: str | None) -> str | None:
    """Return the compression of a file that begins with `head`. None if it is not compressed.

    `named` is the compression that the file's suffix names, which applies if `head` is too short to tell.
    """
    compression = next((name for name, magic in MAGIC.items() if head.startswith(magic)), None)
    if head[1:4] == b"\x2a\x4d\x18" and head[0] >> 4 == 5:  # a skippable frame of zstd
        return ZSTD
    return compression or (named if named and head and MAGIC[named].startswith(head) else None)
