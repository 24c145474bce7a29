"""Posts a small message to an address, such as a webhook."""

from __future__ import annotations

import aiohttp

from batchmix import __version__
from batchmix.http.get import FetchError
from batchmix.http.proxies import proxy_for


async def post(url: str, body: bytes, timeout_s: float) -> int:
    """Post JSON to a URL and return the HTTP status. Redirects are not followed.

    Raises `FetchError` if there is no response, and `JobError` if the environment's proxy can't be used. No message
    shows the URL, which may be a secret.
    """
    headers = {"Content-Type": "application/json", "User-Agent": f"batchmix/{__version__}"}
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session,
            session.post(url, data=body, headers=headers, allow_redirects=False, proxy=proxy_for(url)) as response,
        ):
            return response.status
    except TimeoutError as error:
        raise FetchError(f"no response within {timeout_s:g} s") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise FetchError(f"no response ({type(error).__name__})") from error
