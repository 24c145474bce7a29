"""Files in object storage that are only read: finds them by their URLs, and opens them at any byte.

All errors are `OSError`, as for files on a disk.
"""

from __future__ import annotations

import contextlib
import fnmatch
import functools
import glob
import io
import os
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from batchmix.errors import JobError, ObjectMissing, ObjectsUnreachable
from batchmix.remote.objects import ObjectChanged, ObjectInfo, Objects

_URL = re.compile(r"((?:s3|s3a|gs|az|abfs|abfss)://[^/?#@:*\[\]]+)(?:/(.*))?", re.IGNORECASE | re.DOTALL)
_BLOCK_BYTES = 1 << 20
"""The number of bytes that are requested at once of a file that is read in order."""
_BLOCKS_AHEAD = 3
"""The number of blocks that are requested before they are needed, so that no reader waits for each by itself."""
_AT_ONCE = 32
"""How many files are asked about at the same time."""
_ENVIRONMENT = ("AWS_", "AZURE_", "GOOGLE_")
"""How the variables begin that say where a storage is, and who reads."""
_WHAT_TO_DO = "check the URL, the network, and the credentials in the environment"


_T = TypeVar("_T")
_R = TypeVar("_R")


class FileError(OSError):
    """A file can't be read. The text names it, and says what to do."""


def is_url(path: str) -> bool:
    """Return whether a path is the URL of a file or a folder in object storage, or of several with wildcards."""
    return _URL.fullmatch(path) is not None


def find(url: str) -> tuple[list[str], bool]:
    """Return the URLs of the files that a URL stands for, by name, and whether it is that of a folder.

    That is one file, or those right in a folder, or those that wildcards match, as `glob` does. Raises `FileError`.
    """
    bucket, key = _located(url)
    with _errors(url):
        if key and not key.endswith("/") and _info(bucket, key) is not None:
            return [url], False
        if glob.has_magic(key):
            keys, is_folder = _matching(bucket, key), False
        else:
            folder = f"{key.rstrip('/')}/" if key else ""
            keys, is_folder = [each.key for each in bucket.in_folder(folder)], True
    return [f"{bucket.url}/{key}" for key in keys if not key.endswith("/")], is_folder


def _info(bucket: Objects, key: str) -> ObjectInfo | None:
    try:
        return bucket.info(key)
    except ObjectMissing:
        return None


def _matching(bucket: Objects, pattern: str) -> list[str]:
    wanted = pattern.split("/")
    plain = next(number for number, part in enumerate(wanted) if glob.has_magic(part))
    folder = "".join(f"{part}/" for part in wanted[:plain])
    found = bucket.in_folder(folder) if plain == len(wanted) - 1 else bucket.found(folder)
    return [each.key for each in found if _matches(each.key.split("/"), wanted)]


def _matches(parts: list[str], wanted: list[str]) -> bool:
    """Return whether a key matches a pattern, part by part. No wildcard matches a dot at the beginning of a name."""
    return len(parts) == len(wanted) and all(
        fnmatch.fnmatchcase(part, pattern) and (not part.startswith(".") or pattern.startswith("."))
        for part, pattern in zip(parts, wanted, strict=True)
    )


def each(call: Callable[[_T], _R], items: Sequence[_T], *, remote: bool) -> list[_R]:
    """Return what a function returns for each item. If it is about `remote` files, many calls wait at the same time."""
    if not remote:
        return list(map(call, items))
    with ThreadPoolExecutor(_AT_ONCE) as waiting:
        return list(waiting.map(call, items))


def info_of(url: str) -> ObjectInfo:
    """Return a file's size and ETag. Raises `FileError`."""
    bucket, key = _located(url)
    with _errors(url):
        return bucket.info(key)


def open_url(url: str, stop: int | None = None) -> io.BufferedReader:
    """Open a file. If it will not be read beyond the byte `stop`, nothing behind that is requested.

    Raises `FileError`.
    """
    return io.BufferedReader(_ObjectFile(url, stop), _BLOCK_BYTES)


class _ObjectFile(io.RawIOBase):
    """A file in object storage. A read that goes on where the last one ended finds its bytes requested already.

    All reads are of the version that was there when it was opened. If that is gone, they raise `FileError`.
    """

    def __init__(self, url: str, stop: int | None) -> None:
        self._url = url
        self._bucket, self._key = _located(url)
        self._info = info_of(url)
        self._stop = self._info.size if stop is None else min(stop, self._info.size)
        self._at = 0
        self._end_of_last = -1
        self._ahead: deque[tuple[int, int, Future[bytes]]] = deque()
        """The blocks that are requested: where each begins and ends, and its bytes to come."""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._info.size}[whence]
        return self._at

    def readinto(self, into: Any) -> int:
        stop = self._stop if self._at < self._stop else self._info.size
        size = min(len(into), stop - self._at)
        if size <= 0:
            return 0
        data = self._in_order(size) if self._at == self._end_of_last else self._elsewhere(size)
        into[: len(data)] = data
        self._at += len(data)
        self._end_of_last = self._at
        return len(data)

    def _elsewhere(self, size: int) -> bytes:
        self._drop()
        return self._requested(self._at, self._at + size)

    def _in_order(self, size: int) -> bytes:
        next_start = self._ahead[-1][1] if self._ahead else self._at
        stop = max(self._stop, self._at + size)
        while len(self._ahead) <= _BLOCKS_AHEAD and next_start < stop:
            start, next_start = next_start, min(next_start + _BLOCK_BYTES, stop)
            self._ahead.append((start, next_start, _reading().submit(self._requested, start, next_start)))
        start, end, block = self._ahead[0]
        whole = block.result()
        if self._at + size >= end:
            self._ahead.popleft()
        return whole[self._at - start : self._at - start + size]

    def _requested(self, start: int, end: int) -> bytes:
        with _errors(self._url):
            return self._bucket.get_end(self._key, start, end, self._info.etag)

    def _drop(self) -> None:
        for _, _, block in self._ahead:
            block.cancel()
        self._ahead.clear()

    def close(self) -> None:
        self._drop()
        super().close()


@functools.cache
def _reading() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(16, "batchmix-read-ahead")


def _located(url: str) -> tuple[Objects, str]:
    """Return the bucket, and the name of the object in it. Raises `FileError` if there is no way to read it."""
    match = _URL.fullmatch(url)
    assert match is not None, url
    environment = tuple(sorted(item for item in os.environ.items() if item[0].startswith(_ENVIRONMENT)))
    try:
        return _bucket(match[1], environment), match[2] or ""
    except (JobError, ObjectsUnreachable) as error:
        raise FileError(str(error)) from error


@functools.lru_cache(16)
def _bucket(url: str, environment: tuple[tuple[str, str], ...]) -> Objects:
    """Return the objects of a bucket. Its connections are kept for all its files."""
    del environment
    return Objects(url)


@contextlib.contextmanager
def _errors(url: str) -> Iterator[None]:
    try:
        yield
    except ObjectMissing as error:
        raise FileError(f"{url}: there is no such object, or no such bucket") from error
    except ObjectChanged as error:
        raise FileError(f"{url}: has been replaced while it was read") from error
    except ObjectsUnreachable as error:
        raise FileError(f"{error}; {_WHAT_TO_DO}") from error
