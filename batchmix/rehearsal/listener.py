"""The stand-in's address: listening, refusing connections for a while, and listening again at the same port."""

from __future__ import annotations

import asyncio
import socket

from aiohttp import web

_BACKLOG = 4096


class Listener:
    """Takes connections for a server, on this event loop. A port is 0 for a free one."""

    def __init__(self, server: web.Server, host: str, port: int) -> None:
        self._server = server
        self._host = host
        self._port = port
        self._listening: asyncio.Server | None = None
        self._held: socket.socket | None = None

    async def open(self) -> str:
        """Listen, if it does not yet, and return `HOST:PORT`."""
        loop = asyncio.get_running_loop()
        if self._listening is None:
            held, self._held = self._held or self._bound(), None
            self._listening = await loop.create_server(self._server, sock=held, backlog=_BACKLOG)
            self._port = self._listening.sockets[0].getsockname()[1]
        return f"{f'[{self._host}]' if ':' in self._host else self._host}:{self._port}"

    async def refuse(self) -> None:
        """Cut every connection and refuse new ones; the port stays ours, so that nobody else can take it."""
        await self._shut()
        self._held = self._bound()

    async def close(self) -> None:
        """Cut every connection, leave the port, and leave no task."""
        await self._shut()
        if self._held is not None:
            self._held.close()
            self._held = None

    def _bound(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((self._host, self._port))
        return bound

    async def _shut(self) -> None:
        listening, self._listening = self._listening, None
        if listening is None:
            return
        listening.close()
        for _ in range(3):  # connections that are being accepted come to be known
            await asyncio.sleep(0)
        while connections := self._server.connections:
            for connection in connections:
                if connection.transport is not None:
                    connection.transport.abort()
            await asyncio.sleep(0)
        await listening.wait_closed()
