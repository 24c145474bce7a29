"""One small GET: what a gateway tells everybody, or with a key the key's owner."""

from __future__ import annotations

from collections.abc import Mapping

import aiohttp

from batchmix import __version__
from batchmix.http.proxies import proxy_for

_MOST_BYTES = 32 * 2**20


class FetchError(Exception):
    """Nothing of use came back; says why, in words that can be shown."""


async def fetch(
    url: str, etag: str, timeout_s: float, more: Mapping[str, str] | None = None
) -> tuple[str, bytes] | None:
    """Return ETag (perhaps empty) and body of what stands at an address; None where it is still what `etag` names.

    `more` are headers, which are sent to no other address: redirections are not followed.

    Raises `FetchError`, and `JobError` for a proxy that can't be used.
    """
    headers = {"Accept": "application/json", "User-Agent": f"batchmix/{__version__}", **(more or {})}
    if etag:
        headers["If-None-Match"] = etag
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session,
            session.get(url, headers=headers, allow_redirects=False, proxy=proxy_for(url)) as response,
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
        if len(body) > _MOST_BYTES:
            raise FetchError("the answer is too large")
    return bytes(body)
