"""The front of several replicas of the server: it hands each request to one of them, and to another if that one dies.

Predictions are the same whoever makes them and however often. So a request whose replica died on it is asked once more.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Sequence
from types import SimpleNamespace
from typing import Any, Protocol

from prometheus_client import generate_latest
from prometheus_client.metrics_core import Metric
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from lpt.serving.access import EVERY_HOST
from lpt.serving.bodies import Bodies, client_gone, until_gone
from lpt.serving.faults import Fault
from lpt.serving.gate import HEALTH, Gate, GateState
from lpt.serving.inner import Answer, Call
from lpt.serving.limits import Limits
from lpt.serving.metrics import CONTENT_TYPE, ServerMetrics, labelled
from lpt.serving.static import page_files

READY_SECONDS = 5.0
"""How long a replica may take to say that it is ready, and all to give their metrics."""
GRACE_SECONDS = 10.0
"""How much longer than a replica the front waits for an answer."""
_OF_THE_FRONT = ("lpt_requests", "lpt_request_seconds")
"""Metrics that the front counts itself: it also knows what no replica has seen."""


class ReplicaLostError(Exception):
    """The replica that had a request died, or cannot be reached."""


class Replicas(Protocol):
    """The replicas of a server, wherever they are."""

    async def ask(self, call: Call) -> Answer:
        """Return the answer of one of them.

        Raises:
            ReplicaLostError: it died.
        """
        ...

    async def metrics(self) -> Sequence[tuple[str, list[Metric]]]:
        """Return name and metrics of each of them."""
        ...


class Front:
    """An ASGI app that hands requests on.

    Args:
        replicas: answer them.
        limits: of the server.
        token: that a request must have; None: none.
        hosts: host names that requests may be sent to, "*" for all.
    """

    def __init__(self, replicas: Replicas, *, limits: Limits, token: str | None, hosts: Collection[str]) -> None:
        self.limits, self.gate = limits, GateState()
        self._replicas, self._bodies = replicas, Bodies(limits)
        self._metrics = ServerMetrics()
        self.app: ASGIApp = Gate(
            self._answer,
            state=self.gate,
            metrics=self._metrics,
            token=token,
            hosts=None if EVERY_HOST in hosts else frozenset(map(str.lower, hosts)),
            open_paths=frozenset({*HEALTH, *page_files()}),
        )

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await _live(receive, send)
            return
        answer = await self._own(scope) or await self._asked(Request(scope, receive))
        scope["route"] = SimpleNamespace(path=answer.route)
        scope["state"]["noted"].update(answer.noted)
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _own(self, scope: Scope) -> Answer | None:
        """Return the answer of an address that is the front's; None: it is the replicas'."""
        path = scope["path"] if scope["method"] in ("GET", "HEAD") else ""
        if path == "/healthz":
            return _json(200, path, {"status": "ok"})
        if path == "/readyz":
            state = "stopping" if self.gate.draining else await self._ready()
            return _json(200 if state == "ready" else 503, path, {"status": state})
        if path == "/metrics":
            families = [*self._metrics.families(only=_OF_THE_FRONT), *merged(await self._replicas.metrics())]
            text = generate_latest(SimpleNamespace(collect=lambda: families))
            return Answer(200, [(b"content-type", CONTENT_TYPE.encode())], text, path)
        return None

    async def _ready(self) -> str:
        """Return the status of a replica, or that there is none."""
        call = Call({"method": "GET", "path": "/readyz", "query_string": b"", "http_version": "1.1"}, (), b"")
        try:
            async with asyncio.timeout(READY_SECONDS):
                answer = await self._ask_twice(call)
        except (TimeoutError, Fault):
            return "no replica"
        return str(json.loads(answer.body)["status"])

    async def _asked(self, request: Request) -> Answer:
        """Read a request whole, and return the answer of a replica.

        Raises:
            Fault: the request is not answered.
        """
        async with self._bodies.read(request) as body:
            call = Call.of(request.scope, body, request.state.request_id)
            answer = asyncio.ensure_future(self._ask_twice(call))
            gone = asyncio.ensure_future(until_gone(request))
            try:
                seconds = self.limits.timeout + GRACE_SECONDS
                await asyncio.wait({answer, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
                if answer.done():
                    return answer.result()
                if gone.done():
                    raise client_gone()
                raise Fault(504, f"there was no answer within {seconds:g} s. Try later.")
            finally:
                for task in (answer, gone):
                    task.cancel()

    async def _ask_twice(self, call: Call) -> Answer:
        """Return the answer of a replica; of another one if the first dies.

        Raises:
            Fault: 503, the second died too.
        """
        for _ in range(2):
            try:
                return await self._replicas.ask(call)
            except ReplicaLostError:
                continue
        raise Fault(503, "the replicas that had this request died. Try again later.", code="replica_lost")


def merged(of_replicas: Sequence[tuple[str, list[Metric]]]) -> list[Metric]:
    """Put the metrics of replicas together; each value has the name of its replica as a label."""
    families: dict[str, Metric] = {}
    for replica, metrics in of_replicas:
        for metric in metrics:
            if metric.name not in _OF_THE_FRONT:
                family = families.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type))
                family.samples += labelled(metric, replica)
    return list(families.values())


def _json(status: int, path: str, content: Any) -> Answer:
    return Answer(status, [(b"content-type", b"application/json")], json.dumps(content).encode(), path)


async def _live(receive: Receive, send: Send) -> None:
    """Take part in the start and the end of a server."""
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return
