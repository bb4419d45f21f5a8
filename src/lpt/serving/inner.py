"""Ask an ASGI app without a connection: a whole request in, a whole answer out, both plain values."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp, Message, Scope

_KEPT = ("http_version", "method", "scheme", "path", "raw_path", "query_string", "root_path", "client", "server")


@dataclass(frozen=True)
class Call:
    """A whole request, in values that go from process to process.

    Args:
        scope: of ASGI: method, address and the like.
        headers: names and values.
        body: its bytes.
    """

    scope: Mapping[str, Any]
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    @classmethod
    def of(cls, scope: Scope, body: bytes, request_id: str) -> Call:
        """Return the request of a scope; it keeps its id, and no secret goes on with it."""
        dropped = (b"authorization", b"x-request-id")
        headers = [(name, value) for name, value in scope["headers"] if name.lower() not in dropped]
        headers.append((b"x-request-id", request_id.encode()))
        return cls({name: scope[name] for name in _KEPT if name in scope}, tuple(headers), body)


@dataclass
class Answer:
    """A whole answer.

    Args:
        status: of HTTP; 0: there is none.
        headers: names and values.
        body: its bytes.
        route: the address that answered, as the app names it.
        noted: what the log of the request should say.
    """

    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    route: str = "other"
    noted: dict[str, Any] = field(default_factory=dict)


async def answer_of(app: ASGIApp, call: Call) -> Answer:
    """Return the answer of an app. When the caller is cancelled, so is the app: its client has left."""
    scope = {"type": "http", "asgi": {"version": "3.0"}, **call.scope, "headers": list(call.headers)}
    answer, body, pieces = Answer(), iter([call.body]), list[bytes]()
    never = asyncio.Event()

    async def receive() -> Message:
        for content in body:
            return {"type": "http.request", "body": content, "more_body": False}
        await never.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = [(bytes(name), bytes(value)) for name, value in message.get("headers", ())]
        elif message["type"] == "http.response.body":
            pieces.append(message.get("body", b""))

    await app(scope, receive, send)
    answer.body = b"".join(pieces)
    answer.route = getattr(scope.get("route"), "path", "other")
    answer.noted = dict(scope.get("state", {}).get("noted", {}))
    return answer
