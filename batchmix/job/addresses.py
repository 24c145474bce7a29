"""Checks the paths and URLs in a job, makes paths absolute, and brings base URLs into one form."""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from batchmix.errors import JobError

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
"""Matches the beginning of a URL. A scheme has at least two characters, since `C:` is a drive."""
_COLLAPSED = re.compile(
    r"(s3[an]?|gs|gcs|az|adl|abfss?|wasbs?|hf|hdfs|dbfs|oss|r2|https?|s?ftp|ssh|file):/", re.IGNORECASE
)
"""Matches the beginning of a URL that lost one of its two slashes because a shell or a library treated it as a path."""


def checked_local(path: str, what: str, do: str = "write to a folder here, then copy that there") -> str:
    """Return the path unchanged if it is on this machine.

    Raises `JobError` for a remote address and for an empty path, which would mean the working directory. The message
    begins with the setting's name, `what`, and for a remote address ends with the advice `do`.
    """
    if not path.strip():
        raise JobError(f"{what}: is empty; if it comes from a shell variable, is that set?")
    match = _SCHEME.match(path) or _COLLAPSED.match(path)
    if match and ("://" in path or not os.path.lexists(match[0])):
        if match[1].lower() == "file":
            raise JobError(f"{what}: give the path itself, without {match[0]}")
        raise JobError(f"{what}: {match[0]} is not supported yet; {do}")
    if "\0" in path:
        raise JobError(f"{what}: holds a null character, which no path may")
    return path


def absolute(path: str, folder: Path, what: str) -> str:
    """Return an absolute path. A relative path starts from `folder`. Globs are not expanded, links are not resolved."""
    try:
        return os.path.abspath(folder / Path(path).expanduser())  # noqa: PTH100 - keeps globs and links as they are
    except RuntimeError:
        raise JobError(f"{what}: {Path(path).parts[0]}: there is no such user") from None


def checked_url(url: str) -> str:
    """Return a base URL without a slash at the end, and with `/v1` if it has no path.

    Raises `JobError` if it is not valid.
    """
    try:
        parts = urlsplit(url.strip())
        _ = parts.port
    except ValueError:  # the error's message may quote a key
        raise JobError("provider.base_url: is not a URL, or its port is not a number") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise JobError("provider.base_url: must be an http or https URL such as https://aihubmix.com/v1")
    if re.search(r"\s", url.strip()):
        raise JobError("provider.base_url: holds a blank or a line break")
    if not _is_host(parts.hostname):
        raise JobError("provider.base_url: its host is neither a name nor a full address such as 127.0.0.1")
    if parts.username or parts.password:
        raise JobError("provider.base_url: must hold no user name or password; the key comes from provider.api_key_env")
    if parts.query or parts.fragment:
        raise JobError("provider.base_url: must end with the path, such as /v1")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/') or '/v1'}"


def _is_host(host: str) -> bool:
    """Return whether a host is a name or a full IP address. Not every program accepts a short one such as `127.1`."""
    if ":" in host:  # in brackets, which urlsplit has checked
        return True
    try:
        if not host.removesuffix(".").encode("idna"):
            return False
        return not re.fullmatch(r"[\d.]+", host) or bool(ipaddress.ip_address(host.removesuffix(".")))
    except ValueError:
        return False
