"""Finds the proxy that the environment names for an address, and recognizes addresses of this machine."""

from __future__ import annotations

import ipaddress
import socket
import urllib.request
from urllib.parse import urlsplit

from yarl import URL

from batchmix.errors import JobError


def proxy_for(base_url: str) -> URL | None:
    """Return the proxy for an address, according to `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy`, if any.

    Addresses of this machine never get a proxy. Raises `JobError` for a proxy that is not an HTTP proxy.
    """
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    if not host or is_loopback(host) or urllib.request.proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy:
        return None
    scheme, separator, _ = proxy.partition("://")
    if not separator:
        proxy = f"http://{proxy}"
    elif scheme.lower() not in {"http", "https"}:
        raise JobError(
            f"the environment names a {scheme} proxy for {parts.scheme} addresses; batchmix supports only HTTP"
            f" proxies: set {parts.scheme}_proxy to one, or put {host} into no_proxy"
        )
    try:
        return URL(proxy)
    except ValueError:
        raise JobError(f"the environment's proxy for {parts.scheme} addresses is no URL") from None


def is_loopback(host: str) -> bool:
    """Return whether a host is `localhost` or a loopback address, in any notation. No host name is looked up."""
    host = host.lower().strip("[]").removesuffix(".")
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        try:  # forms that the system accepts: 127.1, 0x7f.1
            address = ipaddress.ip_address(socket.inet_aton(host))
        except (OSError, ValueError):
            return False
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified  # 0.0.0.0 leads to this machine
