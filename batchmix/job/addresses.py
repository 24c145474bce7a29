"""Paths and URLs as people give them, checked: paths in full, base URLs in their one form."""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from batchmix.errors import JobError

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
"""Two characters or more: `C:` is a drive."""
_COLLAPSED = re.compile(
    r"(s3[an]?|gs|gcs|az|adl|abfss?|wasbs?|hf|hdfs|dbfs|oss|r2|https?|s?ftp|ssh|file):/", re.IGNORECASE
)
"""What becomes of an address when it is taken for a path on its way here."""


def checked_local(path: str, what: str, do: str = "write to a folder here, then copy that there") -> str:
    """Return a path of this machine as it is. Raises `JobError`, which names `what`, for an address elsewhere
    and for nothing, which would be the folder where one is.
    """
    if not path.strip():
        raise JobError(f"{what}: is empty; in a shell, is the variable set that should be it?")
    found = _SCHEME.match(path) or _COLLAPSED.match(path)
    if found and ("://" in path or not os.path.lexists(found[0])):
        if found[1].lower() == "file":
            raise JobError(f"{what}: give the path itself, without {found[0]}")
        raise JobError(f"{what}: {found[0]} is not supported yet; {do}")
    if "\0" in path:
        raise JobError(f"{what}: holds a null character, which no path can")
    return path


def absolute(path: str, folder: Path, what: str) -> str:
    """Return a path in full; one that is not, from a folder on. Globs and links stay as they are."""
    try:
        return os.path.abspath(folder / Path(path).expanduser())  # noqa: PTH100 - keeps globs and links as they are
    except RuntimeError:
        raise JobError(f"{what}: {Path(path).parts[0]}: there is no such user") from None


def checked_url(url: str) -> str:
    """Return an API's address in its one form, with `/v1` where no path is given. Raises `JobError`."""
    try:
        parts = urlsplit(url.strip())
        _ = parts.port
    except ValueError:  # which would quote what may be a key
        raise JobError("provider.base_url: is no URL, or its port is no number") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise JobError("provider.base_url: must be an http or https URL such as https://aihubmix.com/v1")
    if re.search(r"\s", url.strip()):
        raise JobError("provider.base_url: holds a blank, or a line's end")
    if not _is_host(parts.hostname):
        raise JobError("provider.base_url: its host is neither a name nor an address in full, such as 127.0.0.1")
    if parts.username or parts.password:
        raise JobError("provider.base_url: must hold no user name or password; the key comes from provider.api_key_env")
    if parts.query or parts.fragment:
        raise JobError("provider.base_url: must end with the path, such as /v1")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/') or '/v1'}"


def _is_host(host: str) -> bool:
    """Return whether a host can be looked up; `127.1` can be nowhere but in some programs."""
    if ":" in host:  # in brackets, which were looked into
        return True
    try:
        if not host.removesuffix(".").encode("idna"):
            return False
        return not re.fullmatch(r"[\d.]+", host) or bool(ipaddress.ip_address(host.removesuffix(".")))
    except ValueError:
        return False
