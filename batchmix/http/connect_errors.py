"""In words, what keeps a connection from being made: whether it is the certificate, the proxy, or the host itself."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Mapping

import aiohttp

from batchmix.http.stream_reader import Fault

_WORDS = {
    "wrong version number": "it answers without TLS; base_url must begin with http://, if that is meant",
    "http request": "it answers without TLS; base_url must begin with http://, if that is meant",
}
_OUT_OF_TIME, _OF_ANOTHER_NAME = (9, 10), (62, 64)
"""OpenSSL's X509_V_ERR: not yet valid, expired; another host's name, another address."""
_CREDENTIALS = "; it wants a user name and a password, in the URL that names it: http://USER:PASSWORD@…"


def tls_fault(host: str, error: aiohttp.ClientSSLError) -> Fault:
    """Return why there is no secure connection: the certificate, what the other end speaks, or that it hung up."""
    cause = _cause(error)
    kind = "connection" if isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError) else "tls"
    return kind, f"no secure connection to {host}: {reason(error)}", False


def proxy_said(proxy: str, status: int, headers: Mapping[str, str] | None) -> str:
    """Return what a proxy has answered in its own name."""
    squid = ((headers or {}).get("X-Squid-Error") or "").split(" ")[0]
    who = f"the proxy {proxy}" if proxy else "a proxy"
    return f"{who} answered {status}{f' ({squid})' if squid else ''}{_CREDENTIALS if status == 407 else ''}"


def reason(error: Exception) -> str:
    """Return a connection's error in words."""
    cause = _cause(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {cause.verify_message.rstrip('.')}; {_certificate_advice(cause)}"
    if isinstance(cause, ssl.SSLError):
        words = (cause.reason or type(cause).__name__).replace("_", " ").lower()
        return f"{words}: {_WORDS[words]}" if words in _WORDS else words
    if isinstance(cause, OSError) and (cause.errno or 0) > 0:
        return os.strerror(cause.errno or 0)
    return str(getattr(cause, "strerror", None) or type(cause).__name__)


def _certificate_advice(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in _OUT_OF_TIME:
        return f"it has to be renewed there, unless this machine's clock is wrong: {time.strftime('%Y-%m-%d %H:%M')}"
    if error.verify_code in _OF_ANOTHER_NAME:
        return "provider.base_url must have the name that it is for"
    for name, is_there in (("SSL_CERT_FILE", os.path.isfile), ("SSL_CERT_DIR", os.path.isdir)):
        path = os.environ.get(name)
        if path and not is_there(path):
            return f"{name} names {path}, which is not there"
    return "if you trust it, name its authority's file in SSL_CERT_FILE"


def _cause(error: Exception) -> object:
    return getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
