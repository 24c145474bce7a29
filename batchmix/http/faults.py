"""Failures of the connection, the proxy or the transfer, and their descriptions for the user."""

from __future__ import annotations

import os
import re
import ssl
import time
from collections.abc import Mapping
from typing import NamedTuple

import aiohttp
import msgspec
from aiohttp.http import HttpProcessingError


class FirstByteTimeout(Exception):
    """No byte of a streamed response arrived in time."""


class UnrequestedData(Exception):
    """The server closed the connection, or sent data over it, before the request was sent."""


class EarlyResponse(Exception):
    """A response was sent before the request had arrived, so it belongs to another request."""


class TooLarge(Exception):
    """The response is larger than `max_answer_bytes`."""


BREAKS = (
    aiohttp.ClientError, HttpProcessingError, FirstByteTimeout, UnrequestedData, EarlyResponse, TooLarge, OSError,
    ValueError,
)  # fmt: skip
"""The exceptions that `Faults.describe` turns into a `Fault`."""


class Fault(NamedTuple):
    """The failure of an exchange: the values of `Exchange.fault`, `fault_message` and `maybe_billed`."""

    type: str | None = None
    """`timeout`, `connection`, `tls`, `proxy`, `cut_off`, `bad_answer`, `too_large` or `unfinished`. None: no fault."""
    message: str = ""
    maybe_billed: bool = False


NO_FAULT = Fault()
SPEAKS_TLS = "it speaks TLS"
"""The message of the `HttpProcessingError` that is raised if a server answers a plain HTTP request with a TLS alert."""
_ENCODING = re.compile(r"decode content-encoding: ([\w-]+)")
"""Matches aiohttp's message for a body that can't be decoded, or has an unknown encoding."""
_PLAIN_HTTP = "it answers without TLS; base_url must begin with http://, if that is meant"
_TLS_HINTS = {"wrong version number": _PLAIN_HTTP, "http request": _PLAIN_HTTP}
"""Hints for the user, by OpenSSL's reason for the failure."""
_OUT_OF_DATE, _WRONG_NAME = (9, 10), (62, 64)
"""OpenSSL's X509_V_ERR codes: not yet valid and expired; wrong host name and wrong IP address."""
_CREDENTIALS = "; it wants a user name and a password, in the URL that names it: http://USER:PASSWORD@…"


class Faults(msgspec.Struct, frozen=True):
    """Describes the failures of exchanges with one host.

    It never shows the `repr` of an error: aiohttp puts the request's headers into it, and so the API key.
    """

    host: str
    proxy: str
    """`host:port`; empty if there is no proxy."""
    uses_tls: bool
    connect_s: float
    idle_s: float
    total_s: float
    max_answer_bytes: int

    def late(self, *, is_sent: bool) -> Fault:
        """Return the fault of a request that has taken longer than `total_s`."""
        missing = "whole answer from" if is_sent else "connection to"
        return Fault("timeout", f"no {missing} {self.host} within {self.total_s:g} s", maybe_billed=is_sent)

    def describe(self, error: Exception, status: int | None, *, answered_before: bool) -> Fault:
        """Return the fault that describes an exception.

        `status` is the status of the response, or None if no headers have arrived. `answered_before` says whether this
        host has ever answered a request.
        """
        host = self.host
        match error:
            case TooLarge():
                return Fault(
                    "too_large",
                    f"the answer from {host} is larger than {_size(self.max_answer_bytes)}",
                    maybe_billed=True,
                )
            case FirstByteTimeout():
                return Fault("timeout", f"nothing came from {host} for {self.idle_s:g} s", maybe_billed=True)
            case UnrequestedData():
                return Fault("connection", f"{host} closed the connection, or sent data, before any request was sent")
            case EarlyResponse():
                message = f"the answer from {host} was sent before the request had arrived: it belongs to another one"
                return Fault("connection", message, maybe_billed=True)
            case aiohttp.ConnectionTimeoutError():
                return Fault("timeout", f"no connection to {host} within {self.connect_s:g} s")
            case aiohttp.ClientConnectorError() | aiohttp.ClientHttpProxyError():
                return self._no_connection(error)
            case aiohttp.InvalidURL() | UnicodeError():
                return Fault("connection", f"{host} is no address")
        return self._broken(error, status, answered_before=answered_before)

    def _no_connection(self, error: aiohttp.ClientConnectorError | aiohttp.ClientHttpProxyError) -> Fault:
        if isinstance(error, aiohttp.ClientHttpProxyError):
            return Fault(
                "proxy", f"{proxy_message(self.proxy, error.status, error.headers)}, on the way to {self.host}"
            )
        if isinstance(error, aiohttp.ClientSSLError):
            hung_up = isinstance(_cause(error), ssl.SSLEOFError | ssl.SSLZeroReturnError)
            return Fault("connection" if hung_up else "tls", f"no secure connection to {self.host}: {_reason(error)}")
        is_proxy = isinstance(error, aiohttp.ClientProxyConnectionError)
        return Fault(
            "connection", f"can't connect to {f'the proxy {self.proxy}' if is_proxy else self.host}: {_reason(error)}"
        )

    def _broken(self, error: Exception, status: int | None, *, answered_before: bool) -> Fault:
        """Return the fault for a connection that was established, but then broke or brought unreadable data."""
        host = self.host
        maybe_billed = status is None or not 400 <= status < 500  # a refusal is not billed, even if it is incomplete
        if encoding := _ENCODING.search(str(error)):
            message = f"{host} says that it answers in {encoding[1]}, which can't be read"
            return Fault("bad_answer", message, maybe_billed)
        if status is not None:
            return Fault("cut_off", f"{host} broke off in the middle of its answer", maybe_billed)
        if isinstance(error, HttpProcessingError):
            if error.message == SPEAKS_TLS:
                return Fault("tls", f"{host} speaks TLS: base_url must begin with https://")
            return Fault("bad_answer", f"{host} answered something that is not HTTP", maybe_billed=True)
        hint = "" if self.uses_tls or answered_before else "; if it speaks TLS, base_url must begin with https://"
        return Fault("connection", f"{host} closed the connection without an answer{hint}", maybe_billed=True)


def proxy_message(proxy: str, status: int, headers: Mapping[str, str] | None) -> str:
    """Return a message about a response that the proxy itself sent."""
    squid = ((headers or {}).get("X-Squid-Error") or "").split(" ")[0]
    who = f"the proxy {proxy}" if proxy else "a proxy"
    return f"{who} answered {status}{f' ({squid})' if squid else ''}{_CREDENTIALS if status == 407 else ''}"


def _reason(error: Exception) -> str:
    """Return the reason why no connection could be made, as text that does not name the host."""
    cause = _cause(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {cause.verify_message.rstrip('.')}; {_certificate_advice(cause)}"
    if isinstance(cause, ssl.SSLError):
        reason = (cause.reason or type(cause).__name__).replace("_", " ").lower()
        return f"{reason}: {_TLS_HINTS[reason]}" if reason in _TLS_HINTS else reason
    if isinstance(cause, OSError) and (cause.errno or 0) > 0:
        return os.strerror(cause.errno or 0)
    return str(getattr(cause, "strerror", None) or type(cause).__name__)


def _certificate_advice(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in _OUT_OF_DATE:
        return f"it has to be renewed there, unless this machine's clock is wrong: {time.strftime('%Y-%m-%d %H:%M')}"
    if error.verify_code in _WRONG_NAME:
        return "provider.base_url must have the name that it is for"
    for name, exists in (("SSL_CERT_FILE", os.path.isfile), ("SSL_CERT_DIR", os.path.isdir)):
        path = os.environ.get(name)
        if path and not exists(path):
            return f"{name} names {path}, which does not exist"
    return "if you trust it, name its authority's file in SSL_CERT_FILE"


def _cause(error: Exception) -> object:
    return getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error


def _size(count: int) -> str:
    return f"{count >> 20} MB" if count >= 2**20 else f"{count} bytes"
