"""The requests and the turns of `python -m benchmarks.serving`, against a server in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from benchmarks.serving.client import Client, request
from benchmarks.serving.faults import good, leavers
from benchmarks.serving.hostile import hostile_requests
from benchmarks.serving.load import Turn, row, serve_turn
from benchmarks.serving.running import picture
from fastapi import FastAPI

from small_server import RunningServer


def test_every_hostile_request_gets_the_status_that_is_right_for_it(new_app: Callable[..., FastAPI]) -> None:
    image = picture(0, 60, 40)
    cases = hostile_requests("birds", image)
    app = new_app(hosts=["127.0.0.1"])

    async def ask_all(port: int) -> None:
        client = Client(port)
        for case in cases:
            reply = await client.ask(case.content)
            assert reply.status in case.statuses, (case.name, reply)
            assert b"Traceback" not in reply.body
            assert (await client.ask(good([image], "birds")[0])).status == 200, case.name
        await client.close()

    with RunningServer(app) as server:
        asyncio.run(ask_all(server.port))
        outcome = asyncio.run(leavers(server.port, [image] * 16, 8, pack="birds"))
    assert outcome == {"clients": 8, "queued_after": 0.0, "status_of_next_request": 200}
    assert (app.state.service.bodies.held, app.state.service.batcher.queued) == (0, 0)
    assert len({case.name for case in cases}) == len(cases) >= 30


def test_a_turn_of_the_load_and_its_row(new_app: Callable[..., FastAPI]) -> None:
    requests = [request("/v1/packs/birds/predict", picture(0, 60, 40), {"Content-Type": "image/jpeg"})] * 64
    with RunningServer(new_app(hosts=["127.0.0.1"])) as server:
        rate, seconds = serve_turn(server.port, 4, 20, requests)
        with pytest.raises(RuntimeError, match="status 404"):
            serve_turn(server.port, 1, 1, [request("/nowhere")] * 64)
    assert (rate > 0, len(seconds)) == (True, 20)
    measured = row(4, [Turn(10, 9, [0.1] * 98 + [0.5, 0.7]), Turn(20, 19, [0.2]), Turn(20, 30, [0.2])])
    assert (measured["predictor_images_per_s"], measured["server_images_per_s"]) == (20, 19)
    assert (measured["ratio_median"], measured["ratio_best"]) == (0.95, 1.5)
    assert (measured["p50_s"], measured["p99_bound_s"], measured["within_bound"]) == (0.1, 0.3, False)
