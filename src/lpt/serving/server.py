"""Run the app with uvicorn: listen, stop on a signal, finish what was accepted."""

from __future__ import annotations

import errno
import socket
import time
from types import FrameType

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from lpt.errors import ConfigError
from lpt.serving.gate import GateState
from lpt.serving.limits import Limits
from lpt.serving.protocol import bounded_protocol
from lpt.serving.service import Service

_MOST_HEAD_BYTES = 32 * 1024
_LAST_SECONDS = 5


class GracefulServer(uvicorn.Server):
    """Ends on the first SIGTERM or Ctrl-C, once all accepted requests are answered; others get 503. Exit code 0.

    A second signal ends it at once.

    Args:
        config: of uvicorn.
        gate: of the app.
        timeout: longest time to an answer, seconds.
    """

    def __init__(self, config: uvicorn.Config, gate: GateState, timeout: float) -> None:
        super().__init__(config)
        self._gate, self._timeout = gate, timeout
        self._last: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal."""
        del sig, frame
        if self._gate.draining:
            self.should_exit = self.force_exit = True
        self._gate.draining = True
        self._last = time.monotonic() + self._timeout + _LAST_SECONDS

    async def on_tick(self, counter: int) -> bool:
        """Look, ten times a second, whether it is time to end."""
        if self._last is not None and (not self._gate.in_flight or time.monotonic() > self._last):
            self.should_exit = True
        return await super().on_tick(counter)


def listen(host: str, port: int) -> socket.socket:
    """Bind the socket of a server; it refuses connections until a server runs on it.

    Raises:
        ConfigError: the address cannot be used.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # named, or asyncio does not turn off Nagle's algorithm: each answer would wait 40 ms
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        taken = "Another program listens there: choose another --port, or 0 for a free one."
        hint = taken if error.errno == errno.EADDRINUSE else "Choose another --host or --port."
        raise ConfigError(f"cannot listen on {host} port {port}: {error.strerror or error}. {hint}") from None
    return listener


def address_of(listener: socket.socket) -> str:
    """Return the address of a server for a browser."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def new_server(app: FastAPI) -> GracefulServer:
    """Return the server of an app from `create_app`; `server.run(sockets=[listener])` answers until a signal comes."""
    service: Service = app.state.service
    return server_of(app, service.gate, service.limits)


def server_of(app: ASGIApp, gate: GateState, limits: Limits) -> GracefulServer:
    """Return the server of any app behind a gate.

    Args:
        app: the app.
        gate: its state, by which the server learns when it may end.
        limits: of the server.
    """
    config = uvicorn.Config(
        app,
        loop="asyncio",  # whatever else is installed: uvloop, which comes with Ray, is not what was tested
        http=bounded_protocol(limits),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        h11_max_incomplete_event_size=_MOST_HEAD_BYTES,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=_LAST_SECONDS,
    )
    return GracefulServer(config, gate, limits.timeout)
