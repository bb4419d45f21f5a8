"""Connections that are closed when their client is too slow, or when there are too many."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from lpt.serving.limits import Limits

_UNSENT_BYTES = 64 * 2**10
"""Most bytes that wait in the system for the network: the rest waits here, where it is seen how fast a client reads."""


class BoundedProtocol(H11Protocol):
    """HTTP/1.1 with bounds of time: for the head of a request, for what follows an early answer, and for reading.

    uvicorn bounds none of them; the time for a body is bounded where it is read.
    """

    limits = Limits()

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._head_timer: asyncio.TimerHandle | None = None
        self._reader_timer: asyncio.TimerHandle | None = None
        self._unread = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, unless there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            transport.abort()
            return
        self._bound_head()
        connection = transport.get_extra_info("socket")
        if hasattr(socket, "TCP_NOTSENT_LOWAT") and connection.family in (socket.AF_INET, socket.AF_INET6):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        super().connection_lost(exc)
        for timer in (self._head_timer, self._reader_timer):
            if timer is not None:
                timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Take bytes of the client."""
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:  # no request is being answered
            self._bound_head()
        elif self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def pause_writing(self) -> None:
        """Wait for a client that reads slowly; one that does not read is not waited for."""
        super().pause_writing()
        if self._reader_timer is None:
            self._bound_reader()

    def resume_writing(self) -> None:
        """Go on writing."""
        super().resume_writing()
        if self._reader_timer is not None:
            self._reader_timer.cancel()
            self._reader_timer = None

    def _bound_reader(self) -> None:
        self._unread = self.transport.get_write_buffer_size()
        self._reader_timer = self.loop.call_later(self.limits.header_seconds, self._check_reader)

    def _check_reader(self) -> None:
        """Close the connection if the client has read too little since the last look."""
        read = self._unread - self.transport.get_write_buffer_size()
        if read < self.limits.read_rate * self.limits.header_seconds:
            self.transport.abort()
        else:
            self._bound_reader()

    def _bound_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.limits.header_seconds, self.transport.abort)


def bounded_protocol(limits: Limits) -> type[BoundedProtocol]:
    """Return the protocol with the limits of a server."""
    return type("LimitedProtocol", (BoundedProtocol,), {"limits": limits})
