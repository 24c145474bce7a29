"""Small GET requests, for a price catalogue or the balance."""

from __future__ import annotations

from collections.abc import Mapping

import aiohttp

from batchmix import __version__
from batchmix.http.proxies import proxy_for

_MAX_BODY_BYTES = 32 * 2**20
"""Larger bodies are refused."""


class FetchError(Exception):
    """The request failed. The message gives the reason and can be shown to the user."""


async def fetch(
    url: str, etag: str, timeout_s: float, headers: Mapping[str, str] | None = None
) -> tuple[str, bytes] | None:
    """Fetch a URL; return its ETag (which may be empty) and the body. None if the ETag is still `etag`.

    Redirects are not followed, because `headers` must not reach another address.

    Raises `FetchError`, and `JobError` if the environment's proxy can't be used.
    """
    sent = {"Accept": "application/json", "User-Agent": f"batchmix/{__version__}", **(headers or {})}
    if etag:
        sent["If-None-Match"] = etag
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session,
            session.get(url, headers=sent, allow_redirects=False, proxy=proxy_for(url)) as response,
        ):
            if response.status == 304 and etag:
                return None
            if response.status != 200:
                raise FetchError(f"HTTP status {response.status}")
            return response.headers.get("ETag", ""), await _body(response)
    except TimeoutError as error:
        raise FetchError(f"no answer within {timeout_s:g} s") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise FetchError(f"no answer ({type(error).__name__})") from error


async def _body(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > _MAX_BODY_BYTES:
            raise FetchError("the answer is too large")
    return bytes(body)
