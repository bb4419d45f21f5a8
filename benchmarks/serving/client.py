"""A light HTTP client: measurements share the machine with the server, so it costs as little as possible."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

RESET = 0
"""The status of a connection that was closed without an answer."""


class Reply(NamedTuple):
    """An answer: its status, its body, and the seconds that it took."""

    status: int
    body: bytes
    seconds: float


class Client:
    """A connection that is kept alive, and opened again when the server closed it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, content: bytes) -> Reply:
        """Send the bytes of a request and read the answer."""
        start = time.perf_counter()
        reader, writer = await self._connected()
        with contextlib.suppress(ConnectionError):  # the server may answer before it has read everything
            writer.write(content)
            await writer.drain()
        try:
            status, closes, body = await read_answer(reader)
        except (ConnectionError, asyncio.IncompleteReadError):
            status, closes, body = RESET, True, b""
        if closes or status >= 400:  # an error may come before the body was read: what follows would count as body
            await self.close()
        return Reply(status, body, time.perf_counter() - start)

    async def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].close()
            with contextlib.suppress(ConnectionError):
                await self._streams[1].wait_closed()
            self._streams = None

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None or self._streams[0].at_eof():
            await self.close()
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        return self._streams


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bool, bytes]:
    """Return status, whether the connection ends, and body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    lines = head.split("\r\n")
    fields = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
    closes = fields.get("connection") == "close"
    length = fields.get("content-length")
    body = await (reader.read() if length is None else reader.readexactly(int(length)))
    return int(lines[0].split(" ")[1]), closes, body


def request(path: str, body: bytes = b"", headers: Mapping[str, str] | None = None, *, method: str = "POST") -> bytes:
    """Return the bytes of a request."""
    fields = {"Host": "127.0.0.1", "Content-Length": str(len(body)), **(headers or {})}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join((*lines, "", "")).encode() + body


async def load(
    port: int, clients: int, count: int, content: Callable[[int], bytes], note: Callable[[int, Reply], None]
) -> float:
    """Send requests from several clients, each after the answer to its last one; return the seconds of all.

    Args:
        port: of the server.
        clients: how many send at the same time.
        count: how many requests, together.
        content: the bytes of a request, by its number.
        note: called with each number and answer.
    """
    numbers = iter(range(count))

    async def run() -> None:
        client = Client(port)
        for number in numbers:
            note(number, await client.ask(content(number)))
        await client.close()

    start = time.perf_counter()
    await asyncio.gather(*(run() for _ in range(clients)))
    return time.perf_counter() - start
