"""The address of an API, and whether it can be one."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from batchmix.errors import JobError


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
