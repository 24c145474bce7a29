from __future__ import annotations

import contextlib
import dataclasses
import io
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest

from batchmix.rehearsal import Behaviour, Rehearsal


@dataclasses.dataclass
class ReceivedResponse:
    status: int
    raw: bytes
    headers: Any

    @property
    def body(self) -> Any:
        return json.loads(self.raw)

    @property
    def content(self) -> Any:
        return self.body["choices"][0]["message"]["content"]

    @property
    def error(self) -> Any:
        return self.body["error"]


@dataclasses.dataclass
class Caller:
    rehearsal: Rehearsal
    session: aiohttp.ClientSession
    url: str

    async def send(
        self, prompt: Any = "Hello", /, path: str = "/chat/completions", key: str = "k", **more: Any
    ) -> ReceivedResponse:
        """Send a request; `data` is sent unchanged as its body, `encoding` as Accept-Encoding."""
        data, encoding = more.pop("data", None), more.pop("encoding", "gzip")
        body = {"model": "m", "messages": [{"role": "user", "content": prompt}]} | more
        data = json.dumps({name: value for name, value in body.items() if value is not None}) if data is None else data
        return await self.fetch(
            "POST",
            path,
            data=io.BytesIO(data.encode() if isinstance(data, str) else data),
            headers={"Authorization": f"Bearer {key}", "Accept-Encoding": encoding},
        )

    async def fetch(self, method: str, path: str, **more: Any) -> ReceivedResponse:
        url = path if path.startswith("http") else self.url + path
        async with self.session.request(method, url, **more) as response:
            return ReceivedResponse(response.status, await response.read(), response.headers)

    async def control(self, what: str, data: str | None = None) -> Any:
        url = f"{self.url.removesuffix('/v1')}/rehearsal/{what}"
        return (await self.fetch("GET" if data is None else "POST", url, data=data)).body


@pytest.fixture
def calling() -> Callable[[str], contextlib.AbstractAsyncContextManager[Caller]]:
    @contextlib.asynccontextmanager
    async def call(behaviour: str = "") -> AsyncIterator[Caller]:
        rehearsal = Rehearsal(Behaviour.parse(behaviour))
        # one connection per request: aiohttp itself sends again if a kept one is dropped
        connector = aiohttp.TCPConnector(force_close=True)
        async with rehearsal as url, aiohttp.ClientSession(connector=connector) as session:
            yield Caller(rehearsal, session, url)

    return call
