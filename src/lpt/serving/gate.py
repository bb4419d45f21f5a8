"""What every request goes through: its id, who may ask, its log line, its metrics, and errors as JSON."""

from __future__ import annotations

import json
import logging
import re
import secrets
import time
from collections.abc import Set
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lpt.serving import access
from lpt.serving.faults import CLIENT_GONE, Fault
from lpt.serving.metrics import ServerMetrics

HEALTH = ("/healthz", "/readyz")
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
logger = logging.getLogger("lpt.serving")


class GateState:
    """Whether the server stops, and how many requests are being answered."""

    def __init__(self) -> None:
        self.draining = False
        self.in_flight = 0


class Gate:
    """A middleware around the app.

    Args:
        app: the app.
        state: shared with what stops the server.
        metrics: of the app.
        token: that a request must have; None: none.
        hosts: host names that requests may be sent to; None: all.
        open_paths: paths that need no token: health, and the files of the page.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        state: GateState,
        metrics: ServerMetrics,
        token: str | None,
        hosts: Set[str] | None,
        open_paths: Set[str],
    ) -> None:
        self._app, self._state, self._metrics = app, state, metrics
        self._token, self._hosts, self._open_paths = token, hosts, open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        passage = _Passage(scope, headers, send)
        try:
            self._check(scope["path"], headers)
            self._state.in_flight += 1
            try:
                await self._app(scope, receive, passage.send)
            finally:
                self._state.in_flight -= 1
        except Fault as fault:
            await passage.refuse(fault)
            _cut_off(fault)
        except Exception as error:
            logger.exception("failed", extra={"fields": {"request_id": passage.request_id}})
            await passage.refuse(Fault(500, "the server failed at this request; its log says why under this id."))
            _cut_off(error)
        finally:
            passage.log(self._metrics)

    def _check(self, path: str, headers: Headers) -> None:
        if path in HEALTH:
            return
        access.check_host(headers, self._hosts)
        if self._state.draining:
            raise Fault(503, "the server is stopping. Try again later.", headers={"Retry-After": "5"})
        if path not in self._open_paths:  # other sites may link to the page
            access.check_origin(headers)
            access.check_token(headers, self._token)


def _cut_off(error: BaseException) -> None:
    """Cut an error off the frames that it came through. They refer to it in a circle, and hold the images."""
    error.__traceback__ = error.__context__ = error.__cause__ = None


class _Passage:
    """The way of one request through the gate.

    Args:
        scope: of the request; the app reads its id in scope["state"], and leaves there what the log should say.
        headers: of the request.
        send: of the server.
    """

    def __init__(self, scope: Scope, headers: Headers, send: Send) -> None:
        self._scope, self._send = scope, send
        given = headers.get("x-request-id", "")
        self.request_id = given if _ID.fullmatch(given) else secrets.token_hex(8)
        self._start = time.perf_counter()
        self._status = 0
        self._noted: dict[str, Any] = {}
        state = scope.setdefault("state", {})
        state["request_id"], state["noted"] = self.request_id, self._noted

    async def send(self, message: Message) -> None:
        """Send a message of the app, with the headers of every answer."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            given = {name.lower() for name, _ in message.get("headers", ())}
            extra = {"X-Request-ID": self.request_id, **_HEADERS}
            message["headers"] = [
                *message.get("headers", ()),
                *(
                    (name.encode(), value.encode())
                    for name, value in extra.items()
                    if name.lower().encode() not in given
                ),
            ]
        await self._send(message)

    async def refuse(self, fault: Fault) -> None:
        """Send a fault, unless an answer has begun or nobody reads it."""
        if self._status or fault.status == CLIENT_GONE:
            self._status = self._status or fault.status
            return
        content = json.dumps(fault.body(self.request_id), ensure_ascii=False).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(content)), **fault.headers}
        encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
        self._noted.setdefault("code", fault.code)
        await self.send({"type": "http.response.start", "status": fault.status, "headers": encoded})
        await self._send({"type": "http.response.body", "body": content if self._scope["method"] != "HEAD" else b""})

    def log(self, metrics: ServerMetrics) -> None:
        """Write the log line and count the request."""
        seconds = time.perf_counter() - self._start
        route = getattr(self._scope.get("route"), "path", "other")
        metrics.request(route, self._status, seconds)
        fields = {
            "request_id": self.request_id,
            "method": self._scope["method"][:16],
            "route": route,
            "status": self._status,
            "ms": round(1000 * seconds, 1),
            **self._noted,
        }
        logger.info("request", extra={"fields": fields})
