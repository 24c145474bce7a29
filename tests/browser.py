"""A real browser for tests: headless Chromium, driven through its DevTools protocol."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.polling import WITHIN_S

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--remote-debugging-port=0",
]  # fmt: skip
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")


class Browser:
    """One page of the browser."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._calls = 0
        self._session: str | None = None
        self.log: list[str] = []
        """All entries of the console and of the browser's log."""
        self.requested_urls: list[str] = []
        """The addresses that the page requested."""

    async def open(self, url: str) -> float:
        """Open a page, and return after how many seconds it was laid out."""
        target = await self._call("Target.createTarget", url="about:blank")
        attached = await self._call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            await self._call(f"{domain}.enable")
        began = time.monotonic()
        await self._call("Page.navigate", url=url)
        async with asyncio.timeout(WITHIN_S):
            while await self.value("document.readyState") != "complete":
                await asyncio.sleep(0.005)
        await self.value("document.documentElement.getBoundingClientRect().height")
        return time.monotonic() - began

    async def value(self, script: str) -> Any:
        """Run a script in the page, and return its value."""
        found = await self._call("Runtime.evaluate", expression=script, returnByValue=True)
        return found["result"].get("value")

    async def narrow(self, width: int, *, dark: bool = False) -> None:
        """Lay out the page at another width, with the light or the dark colour scheme."""
        await self._call(
            "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=True
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self._call("Emulation.setEmulatedMedia", features=[scheme])

    async def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._calls += 1
        number = self._calls
        call = {"id": number, "method": method, "params": parameters}
        await self._socket.send_json(call | ({"sessionId": self._session} if self._session else {}))
        while True:
            message = json.loads((await self._socket.receive(WITHIN_S)).data)
            if message.get("id") == number:
                assert "error" not in message, message
                found: dict[str, Any] = message["result"]
                return found
            self._record(message.get("method"), message.get("params", {}))

    def _record(self, event: str | None, what: dict[str, Any]) -> None:
        if event == "Network.requestWillBeSent":
            self.requested_urls.append(what["request"]["url"])
        elif event in {"Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"}:
            self.log.append(json.dumps(what))


@contextlib.asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """Start Chromium with a profile of its own, and end it."""
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            CHROMIUM, *FLAGS, f"--user-data-dir={profile}", stderr=asyncio.subprocess.PIPE
        )
        assert process.stderr is not None
        try:
            async with asyncio.timeout(WITHIN_S):
                while b"DevTools listening on " not in (line := await process.stderr.readline()):
                    assert line, "Chromium has ended"
            url = line.decode().split("listening on ")[1].strip()
            async with aiohttp.ClientSession() as session, session.ws_connect(url, max_msg_size=0) as socket:
                yield Browser(socket)
        finally:
            process.kill()
            await process.wait()


def file_url(path: Path) -> str:
    return path.resolve().as_uri()
