"""Read the body of a request, within bounds of size, memory and time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.requests import Request

from lpt.serving.faults import CLIENT_GONE, Fault
from lpt.serving.limits import Limits
from lpt.system.text import size_of

_MOST_DIGITS = 15


class _Body:
    """The pieces of a body, as they arrive."""

    def __init__(self) -> None:
        self.size = 0
        self._pieces: list[bytes] = []

    def add(self, piece: bytes) -> None:
        """Take a piece."""
        self.size += len(piece)
        self._pieces.append(piece)

    def whole(self) -> bytes:
        """Return the body, and let go of its pieces: it is in memory once."""
        body = b"".join(self._pieces)
        self._pieces.clear()
        return body


class Bodies:
    """The bodies that are in memory.

    Args:
        limits: of the server.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.held = 0

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """Read the body of a request; it counts as held until the block ends.

        Raises:
            Fault: 408 it is too slow, 413 it is too large, 429 there is no room for it, 499 the client has left.
        """
        length = request.headers.get("content-length", "")
        if (
            length.isascii()
            and length.isdigit()
            and (len(length) > _MOST_DIGITS or int(length) > self._limits.max_body)
        ):
            raise self._too_large()
        body = _Body()
        try:
            await self._collect(request, body)
            yield body.whole()
        finally:
            self.held -= body.size

    async def _collect(self, request: Request, body: _Body) -> None:
        """Read the pieces of a body, which count as held from here."""
        more = True
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                while more:
                    chunk, more = _content(await request.receive())
                    if body.size + len(chunk) > self._limits.max_body:
                        raise self._too_large()
                    if self.held + len(chunk) > self._limits.max_bodies:
                        raise _no_room()
                    self.held += len(chunk)
                    body.add(chunk)
        except TimeoutError:
            seconds = self._limits.body_seconds
            raise Fault(408, f"the body did not arrive within {seconds:g} seconds. Send it again.") from None

    def _too_large(self) -> Fault:
        return Fault(
            413,
            f"the body is too large; at most {size_of(self._limits.max_body)} are accepted. Send smaller images, or "
            "fewer at a time.",
            code="body_too_large",
        )


def _content(message: Any) -> tuple[bytes, bool]:
    """Return the bytes of a message, and whether more follow."""
    if message["type"] == "http.disconnect":
        raise client_gone()
    return message.get("body", b""), message.get("more_body", False)


def _no_room() -> Fault:
    return Fault(
        429, "the server holds as many images as it may. Send it again.", code="busy", headers={"Retry-After": "1"}
    )


def client_gone() -> Fault:
    """Return the fault of a client that has left; nobody reads it but the log."""
    return Fault(CLIENT_GONE, "the client has left", code="client_gone")


async def until_gone(request: Request) -> None:
    """Wait until the client of a request, whose body has been read, has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
