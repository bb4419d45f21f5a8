"""The front of several replicas: a lost replica is made up for, and nothing of a request is lost on the way."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from lpt.serving import Limits
from lpt.serving.front import Front, ReplicaLostError
from lpt.serving.inner import Answer, Call, answer_of
from lpt.serving.server import listen, server_of
from small_server import HeldNetwork, encoded, until

TOKEN = "0123456789abcdef0123"
PREDICT = "/v1/packs/birds/predict"
NewApp = Callable[..., FastAPI]


class Apps:
    """Replicas in this process, asked in turn; the first ones may die on their request."""

    def __init__(self, *apps: FastAPI, lost: int = 0) -> None:
        self.apps, self.lost, self.calls = apps, lost, list[Call]()

    async def ask(self, call: Call) -> Answer:
        self.calls.append(call)
        if len(self.calls) <= self.lost:
            raise ReplicaLostError
        return await answer_of(self.apps[len(self.calls) % len(self.apps)], call)

    async def metrics(self) -> Sequence[tuple[str, list[Metric]]]:
        return [(str(number), app.state.service.metrics.families()) for number, app in enumerate(self.apps)]


@pytest.fixture
def replica(new_app: NewApp) -> Any:
    app = new_app(hosts=["*"])
    app.state.service.start()
    yield app
    app.state.service.close()


def front(replicas: Apps, **options: Any) -> TestClient:
    return TestClient(Front(replicas, **{"limits": Limits(), "token": None, "hosts": ["testserver"], **options}).app)


def test_a_request_whose_replica_died_is_asked_once_more(replica: FastAPI) -> None:
    replicas = Apps(replica, lost=1)
    answer = front(replicas).post(f"{PREDICT}?top_k=2", content=encoded(), headers={"Content-Type": "image/png"})
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["predictions"][0]["classes"]) == 2
    assert len(replicas.calls) == 2
    assert replicas.calls[0] == replicas.calls[1]
    direct = TestClient(replica).post(f"{PREDICT}?top_k=2", content=encoded(), headers={"Content-Type": "image/png"})
    assert direct.json()["predictions"] == answer.json()["predictions"]
    assert answer.json()["request_id"] == answer.headers["X-Request-ID"]

    refused = front(Apps(replica, lost=2)).get("/v1/packs")
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "replica_lost")
    assert front(Apps(replica, lost=2)).get("/readyz").status_code == 503
    assert front(Apps(replica)).get("/readyz").json() == {"status": "ready"}
    assert front(Apps(replica, lost=2)).get("/healthz").status_code == 200


def test_the_front_asks_for_the_token_and_keeps_it(replica: FastAPI) -> None:
    replicas = Apps(replica)
    client = front(replicas, token=TOKEN)
    assert client.get("/v1/packs").status_code == 401
    assert client.post(PREDICT, content=encoded(), headers={"Authorization": "Bearer no"}).status_code == 401
    assert client.get("/").status_code == 200
    assert client.get("/v1/packs", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert client.get("/healthz", headers={"Host": "elsewhere"}).status_code == 200
    assert client.get("/v1/packs", headers={"Host": "elsewhere"}).status_code == 421
    assert TOKEN not in repr(replicas.calls)
    large = front(replicas, limits=Limits(max_body=1000)).post(PREDICT, content=b"x" * 2000)
    assert large.status_code == 413
    assert len(replicas.calls) == 2, "what is refused reaches no replica"
    assert front(replicas).post("/healthz").status_code == 405


def test_metrics_of_all_replicas_stand_side_by_side(replica: FastAPI, new_app: NewApp) -> None:
    client = front(Apps(replica, new_app()))
    assert client.get("/v1/packs/birds").status_code == 200
    families = {family.name: family for family in text_string_to_metric_families(client.get("/metrics").text)}
    packs = {sample.labels["replica"]: sample.value for sample in families["lpt_packs"].samples}
    assert packs == {"0": 2, "1": 2}
    requests = [sample for sample in families["lpt_requests"].samples if sample.name == "lpt_requests_total"]
    assert [sample.labels["route"] for sample in requests] == ["/v1/packs/{name}"]


def test_images_of_a_client_that_leaves_are_dropped_and_a_signal_waits_for_the_rest(replica: FastAPI) -> None:
    service = replica.state.service
    app = Front(Apps(replica), limits=Limits(), token=None, hosts=["127.0.0.1"])
    with listen("127.0.0.1", 0) as listener, HeldNetwork(replica) as network:
        server = server_of(app.app, app.gate, app.limits)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        until(lambda: server.started)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}{PREDICT}"
        answers = list[int]()

        def ask(seconds: float) -> None:
            answers.append(
                httpx.post(url, content=encoded(), headers={"Content-Type": "image/png"}, timeout=seconds).status_code
            )

        staying = threading.Thread(target=ask, args=(60,))
        staying.start()
        assert network.entered.wait(30)
        with pytest.raises(httpx.ReadTimeout):
            ask(0.5)
        until(lambda: service.batcher.queued == 0 and app.gate.in_flight == 1)
        server.handle_exit(15, None)
        assert httpx.get(url.replace(PREDICT, "/readyz")).status_code == 503
        network.open()
        staying.join(30)
        thread.join(30)
        assert (answers, thread.is_alive()) == ([200], False)


def test_the_loop_is_asyncio_whatever_is_installed() -> None:
    """Uvloop comes with Ray; with it, a server would run on something that was never tested."""
    pytest.importorskip("uvloop")
    app = Front(Apps(), limits=Limits(), token=None, hosts=["*"])
    factory = server_of(app.app, app.gate, app.limits).config.get_loop_factory()
    loop = factory() if factory is not None else asyncio.new_event_loop()
    try:
        assert type(loop).__module__.startswith("asyncio.")
    finally:
        loop.close()
