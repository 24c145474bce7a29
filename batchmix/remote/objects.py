"""The objects below one URL in object storage: `s3://bucket/folder`, `gs://…` or `az://…`.

Endpoint and credentials come from the environment, as the usual tools have them; for S3 also from what boto3 finds, if
it is installed. An object is written as a whole or not at all. A condition says what must be there before: nothing, or
the version with a known ETag (RFC 9110, `If-None-Match: *` and `If-Match`).
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

from batchmix.errors import JobError, ObjectMissing, ObjectsUnreachable

_URL = re.compile(r"(s3|s3a|gs|az|abfs|abfss)://([^/?#@:]+)(?:/([^?#]*))?", re.IGNORECASE)
_TIMES: Any = {"client_options": {"timeout": timedelta(seconds=30), "connect_timeout": timedelta(seconds=5)}}
_RETRIES: Any = {"max_retries": 5, "retry_timeout": timedelta(seconds=20)}
"""Short, since the callers repeat what matters, and must know soon whether they still may."""
_AT_ONCE = 32
"""How many objects are read at the same time."""
_STREAMED_BYTES = 32 << 20
"""Larger files are uploaded in pieces, so that they need not fit into memory. There is no condition for these."""
ANY = "*"
"""The condition that always holds: whatever is there is replaced."""


class ObjectInfo(msgspec.Struct, frozen=True):
    """An object in a list."""

    key: str
    """Its name below the URL, such as `data/part-00000.parquet`."""
    size: int
    """In bytes."""
    etag: str | None
    """What changes with each version of the object."""


class ObjectChanged(Exception):
    """A condition does not hold: another process has written the object meanwhile."""


def is_remote(path: str) -> bool:
    """Return whether a path is a URL in object storage."""
    return _URL.fullmatch(path) is not None


class Objects:
    """The objects below one URL. All methods may be called from any thread, and raise `ObjectsUnreachable`."""

    def __init__(self, url: str, store: Any = None) -> None:
        """`store` is a store of obstore that is used in place of the one at the URL."""
        self.url = url.rstrip("/")
        try:
            import obstore
        except ImportError as error:
            raise JobError(f"{url}: object storage needs one more package: pip install 'batchmix[cloud]'") from error
        self._obstore: Any = obstore
        self._store: Any = store or self._opened()

    def _opened(self) -> Any:
        from obstore.store import from_url

        options = {"client_options": {**_TIMES["client_options"]}, "retry_config": _RETRIES}
        if any(value.startswith("http://") for name, value in os.environ.items() if name.endswith(_ENDPOINTS)):
            options["client_options"]["allow_http"] = True
        if self.url.lower().startswith("s3") and (provider := _boto3_credentials()) is not None:
            options["credential_provider"] = provider
        with self._errors():
            return from_url(self.url + "/", **options)

    @contextlib.contextmanager
    def _errors(self, key: str = "") -> Iterator[None]:
        from obstore import exceptions

        where = f"{self.url}/{key}".rstrip("/")
        try:
            yield
        except (FileNotFoundError, exceptions.NotFoundError) as error:
            raise ObjectMissing(f"{where}: does not exist") from error
        except (exceptions.AlreadyExistsError, exceptions.PreconditionError) as error:
            raise ObjectChanged(where) from error
        except (exceptions.BaseError, OSError, ValueError) as error:
            raise ObjectsUnreachable(f"{where}: can't be read or written: {_reason(error)}") from error

    def found(self, prefix: str = "") -> list[ObjectInfo]:
        """Return the objects whose names begin with a prefix, which is a folder's path or empty."""
        found: list[ObjectInfo] = []
        with self._errors(prefix):
            for chunk in self._obstore.list(self._store, prefix or None):
                found += map(_info, chunk)
        return sorted(found, key=lambda each: each.key)

    def get(self, key: str) -> tuple[bytes, str | None]:
        """Return an object's bytes and ETag. Raises `ObjectMissing`."""
        with self._errors(key):
            found = self._obstore.get(self._store, key)
            return bytes(found.bytes()), found.meta["e_tag"]

    def in_folder(self, folder: str) -> list[ObjectInfo]:
        """Return the objects right in a folder, whose path ends with a slash or is empty."""
        with self._errors(folder):
            found = self._obstore.list_with_delimiter(self._store, folder or None)["objects"]
        return sorted((_info(each) for each in found), key=lambda each: each.key)

    def info(self, key: str) -> ObjectInfo:
        """Return an object's size and ETag. Raises `ObjectMissing`."""
        with self._errors(key):
            return _info(self._obstore.head(self._store, key))

    def get_end(self, key: str, start: int, end: int, etag: str | None = None) -> bytes:
        """Return the bytes [start, end) of an object, if one is given of the version with an ETag.

        Raises `ObjectMissing`, and `ObjectChanged` if there is another version.
        """
        with self._errors(key):
            if etag is None:
                return bytes(self._obstore.get_range(self._store, key, start=start, end=end))
            return bytes(self._obstore.get(self._store, key, options={"range": (start, end), "if_match": etag}).bytes())

    def get_each(self, keys: Iterable[str]) -> Iterator[bytes]:
        """Yield the bytes of many objects in order, some of which are read at the same time. Raises `ObjectMissing`."""
        with ThreadPoolExecutor(_AT_ONCE) as reading:
            yield from reading.map(lambda key: self.get(key)[0], keys)

    def download(self, key: str, path: Path) -> None:
        """Write an object to a new file, which is complete when the method returns. Raises `ObjectMissing`."""
        with self._errors(key):
            found = self._obstore.get(self._store, key)
            with path.open("xb") as file:
                for chunk in found.stream(1 << 20):
                    file.write(chunk)

    def put(self, key: str, data: bytes, expected: str | None) -> str | None:
        """Write an object and return its ETag. Raises `ObjectChanged` unless what is there is as expected.

        `expected` is the ETag of the version to replace, or None if there must be none, or `ANY`.
        """
        mode: Any = "overwrite" if expected == ANY else {"e_tag": expected} if expected else "create"
        with self._errors(key):
            result = self._obstore.put(self._store, key, data, mode=mode, use_multipart=False)
        etag: str | None = result["e_tag"]
        return etag

    def upload(self, key: str, path: Path, expected: str | None) -> str | None:
        """Write a file as an object, as `put` does. A large one replaces whatever is there."""
        if path.stat().st_size <= _STREAMED_BYTES:
            return self.put(key, path.read_bytes(), expected)
        with self._errors(key), path.open("rb") as file:
            result = self._obstore.put(self._store, key, file, max_concurrency=2)
        etag: str | None = result["e_tag"]
        return etag

    def delete(self, keys: list[str]) -> None:
        """Delete objects. Those that do not exist are passed over."""
        if keys:
            with contextlib.suppress(ObjectMissing), self._errors(keys[0]):
                self._obstore.delete(self._store, keys)


def _info(each: Any) -> ObjectInfo:
    return ObjectInfo(each["path"], each["size"], each["e_tag"])


_ENDPOINTS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AZURE_STORAGE_ENDPOINT", "GOOGLE_BASE_URL")


def _boto3_credentials() -> Any:
    """Return what reads the credentials that boto3 finds, such as a profile's. None if it finds none, or is missing."""
    if os.environ.get("AWS_ACCESS_KEY_ID"):
        return None
    try:
        from obstore.auth.boto3 import Boto3CredentialProvider

        return Boto3CredentialProvider()
    except (ImportError, ValueError):
        return None


def _reason(error: Exception) -> str:
    """Return the part of an error's message that a person reads: the first line, without the debug output behind it."""
    text = str(error).split("\n\nDebug source")[0].strip()
    return " ".join(text.split())[:500]
