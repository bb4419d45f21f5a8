"""The app without a socket: its answers are the predictor's, and each limit has its status."""

from __future__ import annotations

import base64
import gc
import json
import logging
import math
import shutil
import sys
import threading
import weakref
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

import lpt
from lpt.errors import ConfigError
from lpt.packs.prediction import Prediction
from lpt.serving import Limits, create_app
from lpt.serving.batcher import Job, MicroBatcher
from lpt.serving.decoding import Decoder
from lpt.serving.static import POLICY, page_files
from lpt.system.limits import usable_cores
from small_packs import edit, give_threshold
from small_server import HeldNetwork, encoded, until

PREDICT = "/v1/packs/birds/predict"
JPEG = {"Content-Type": "image/jpeg"}
NewApp = Callable[..., FastAPI]


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client


def base64_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


def as_answer(prediction: Prediction, name: str) -> dict[str, Any]:
    counts = {"adder": (120, "many"), "björn": (40, "medium"), "crane": (1, "few")}
    classes = [
        {"class": label, "probability": pytest.approx(share, abs=1e-6)}
        | {"training_images": counts[label][0], "shot_group": counts[label][1]}
        for label, share in zip(prediction.classes, prediction.probabilities, strict=True)
    ]
    unsure = prediction.probability < 3**-0.5
    return {
        "image": name,
        "classes": classes,
        "groups": list(prediction.groups),
        "unsure": unsure,
        "attention": None,
    } | {
        "rejected": None,
        "known_score": None,
    }


def test_every_kind_of_body_gets_the_answer_of_the_predictor(
    client: TestClient, packs: Path, tiny_backbone: Path
) -> None:
    images = [encoded(seed=seed) for seed in range(3)]
    predictor = lpt.load_predictor([packs / "birds", packs / "cranes"], checkpoint=tiny_backbone, device="cpu")
    prior = {"crane": 0.9, "adder": 0.1}
    expected = predictor.predict(images, pack="birds", top_k=2, prior=prior)
    files = [("images", (f"{number}.png", image)) for number, image in enumerate(images)]
    form = client.post(PREDICT, files=files, data={"top_k": "2", "prior": json.dumps(prior)})
    texts = [base64_of(image) for image in images]
    as_json = client.post(PREDICT, json={"images": texts, "top_k": 2, "prior": prior})
    assert form.json()["predictions"] == [as_answer(row, f"{number}.png") for number, row in enumerate(expected)]
    assert as_json.json()["predictions"] == [as_answer(row, str(number)) for number, row in enumerate(expected)]
    trained = predictor.predict(images, pack="birds", top_k=2, prior="training")
    named = client.post(f"{PREDICT}?top_k=2&prior=training", json={"images": texts}).json()["predictions"]
    assert named == [as_answer(row, str(number)) for number, row in enumerate(trained)]
    assert named != as_json.json()["predictions"]
    raw = client.post(f"{PREDICT}?top_k=1", content=images[1], headers={"Content-Type": "image/png"})
    [plain] = predictor.predict(images[1], pack="birds", top_k=1)
    assert raw.json()["predictions"] == [as_answer(plain, "0")]
    assert raw.json()["request_id"] == raw.headers["X-Request-ID"]
    asked = {"packs": ["cranes", "birds"], "images": texts, "top_k": 3, "prior": "training"}
    both = client.post("/v1/predict", json=asked).json()
    for result, name in zip(both["results"], ("cranes", "birds"), strict=True):
        rows = predictor.predict(images, pack=name, top_k=3, prior="training")
        assert result == {"pack": name, "predictions": [as_answer(row, str(n)) for n, row in enumerate(rows)]}


def test_rejection_is_asked_for_by_the_request_or_by_the_server(new_app: NewApp, packs: Path) -> None:
    """Address, form and JSON may ask for it, and may refuse it where the server was started with it."""
    image = encoded()
    text = base64_of(image)
    give_threshold(packs / "birds", 2)  # above all cosines
    asking: list[tuple[str, dict[str, Any]]] = [
        (f"{PREDICT}?reject=true", {"content": image, "headers": JPEG}),
        (PREDICT, {"files": [("images", image)], "data": {"reject": "true"}}),
        (PREDICT, {"json": {"images": [text], "reject": True}}),
        ("/v1/predict?reject=true", {"json": {"images": [text], "packs": ["birds"]}}),
        ("/v1/predict", {"files": [("images", image)], "data": {"reject": "true", "packs": "birds"}}),
    ]

    def answer(client: TestClient, path: str, **options: Any) -> tuple[bool | None, bool]:
        content = client.post(path, **options).json()
        [prediction] = content.get("results", [content])[0]["predictions"]
        assert len(prediction["classes"]) == 3
        return prediction["rejected"], prediction["known_score"] is None

    with TestClient(new_app()) as client:
        assert client.get("/v1/packs/birds").json()["rejection"]["threshold"] == 2
        for path, options in asking:
            assert answer(client, path, **options) == (True, False)
        assert answer(client, PREDICT, content=image, headers=JPEG) == (None, True)
        both = {"json": {"images": [text], "packs": ["birds", "cranes"], "reject": True}}
        assert "'cranes' has no threshold" in refused(client.post("/v1/predict", **both), 422, "no_threshold")
    with pytest.raises(ConfigError, match=r"cranes has no threshold"):
        new_app(reject=True)
    give_threshold(packs / "cranes", -2)
    with TestClient(new_app(reject=True)) as client:
        assert answer(client, PREDICT, content=image, headers=JPEG) == (True, False)
        assert answer(client, PREDICT.replace("birds", "cranes"), content=image, headers=JPEG) == (False, False)
        assert answer(client, f"{PREDICT}?reject=false", content=image, headers=JPEG) == (None, True)
        assert answer(client, PREDICT, json={"images": [text], "reject": False}) == (None, True)


def test_packs_are_listed_and_described(client: TestClient, packs: Path) -> None:
    lines = client.get("/v1/packs").json()["packs"]
    assert [line["name"] for line in lines] == ["birds", "cranes"]
    line = {"name": "birds", "method": "lpt", "classes": 3, "input_size": [32, 32], "backbone": "tiny"}
    assert lines[0] == line | {"uses_group_prompts": True}
    details = client.get("/v1/packs/birds").json()
    info = lpt.load_pack(packs / "birds").info
    assert details["classes"][1] == {"class": "björn", "training_images": 40, "shot_group": "medium", "groups": None}
    assert details["shots"] == {"few_below": 20, "many_above": 100}
    assert (details["pool_size"], details["top_k"], details["pack_sha256"]) == (4, 2, info.tensors_sha256)
    assert details["backbone"]["sha256"] == info.backbone.weight_hash
    assert "equally frequent" in details["probabilities"]["meaning"]
    assert client.get("/v1/packs/logs").json() == {"events": []}
    assert client.get("/v1/packs/", follow_redirects=False).status_code == 404


def refused(response: Any, status: int, code: str) -> str:
    """Check an error answer, and return its message."""
    error = response.json()["error"]
    assert (response.status_code, error["status"], error["code"]) == (status, status, code), error
    assert error["request_id"] == response.headers["X-Request-ID"]
    assert "Traceback" not in response.text
    return str(error["message"])


def test_refused_requests_have_their_status(new_app: NewApp) -> None:
    image = encoded()
    limits = Limits(max_body=100_000, max_images=4, max_pixels=5000, queue=6)
    text = base64_of(image)
    cases: list[tuple[str, dict[str, Any], int, str]] = [
        ("/v1/packs/cats/predict", {"content": image, "headers": JPEG}, 404, "unknown_pack"),
        ("/v1/predict", {"json": {"packs": ["birds", "cats"], "images": [text]}}, 404, "unknown_pack"),
        (PREDICT, {"content": image}, 415, "unknown_content_type"),
        (PREDICT, {"content": b"x" * 100_001, "headers": JPEG}, 413, "body_too_large"),
        (PREDICT, {"content": iter([b"x" * 60_000] * 2), "headers": JPEG}, 413, "body_too_large"),
        (PREDICT, {"content": encoded((80, 70)), "headers": JPEG}, 413, "too_many_pixels"),
        (PREDICT, {"files": [("images", image)] * 5}, 413, "too_many_images"),
        (PREDICT, {"content": image[:500], "headers": JPEG}, 422, "unreadable_image"),
        (PREDICT, {"content": b"", "headers": JPEG}, 422, "unreadable_image"),
        (PREDICT, {"content": b"/etc/passwd", "headers": JPEG}, 422, "unreadable_image"),
        (PREDICT, {"json": {"images": [text], "prior": {"dodo": 1}}}, 422, "prior"),
        (PREDICT, {"json": {"images": [text], "prior": {"crane": 10**400}}}, 422, "prior"),
        (PREDICT, {"json": {"images": [text], "prior": {"crane": 1e308, "adder": 1e308}}}, 422, "prior"),
        (f"{PREDICT}?prior=odd", {"content": image, "headers": JPEG}, 422, "not_accepted"),
        (PREDICT, {"content": b"{", "headers": {"Content-Type": "application/json"}}, 400, "malformed_request"),
        (f"{PREDICT}?top_k=none", {"content": image, "headers": JPEG}, 422, "not_accepted"),
        ("/v1/packs", {}, 405, "method_not_allowed"),
        ("/../../etc/passwd", {}, 404, "not_found"),
    ]
    with TestClient(new_app(limits=limits)) as client:
        for path, options, status, code in cases:
            refused(client.post(path, **options), status, code)
        assert client.post(PREDICT, content=image, headers=JPEG).status_code == 200
        assert client.app.state.service.bodies.held == 0  # type: ignore[attr-defined]
        assert client.app.state.service.batcher.queued == 0  # type: ignore[attr-defined]


def test_a_prior_that_a_pack_does_not_accept_is_refused_by_the_name_of_the_pack(new_app: NewApp, packs: Path) -> None:
    """No path of the server and nothing long comes back, and of several packs the one is named that refuses."""
    edit(packs / "cranes", lambda values: values.update(counts_known=False, class_counts=[1, 1, 1]))
    asked = {"images": [base64_of(encoded())], "packs": ["birds", "cranes"], "prior": "training"}
    strange = {"images": asked["images"], "prior": {"dodo\n" * 100_000: 1}}
    with TestClient(new_app()) as client:
        message = refused(client.post("/v1/predict", json=asked), 422, "prior")
        assert "the pack 'cranes' does not know how many training images" in message
        assert str(packs) not in message
        message = refused(client.post(PREDICT, json=strange), 422, "prior")
        assert "dodo" in message
        assert len(message) < 300
        assert message.isprintable()


def test_a_refused_request_leaves_nothing_behind(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither an image that cannot be read nor a failing network keeps the images of its request in memory."""
    service = app.state.service
    engine, accept = service.shelf.served["birds"].predictor.engine, service.batcher.accept
    jobs: weakref.WeakSet[Job] = weakref.WeakSet()

    def noted(count: int) -> Job:
        job = accept(count)
        jobs.add(job)
        return job

    monkeypatch.setattr(service.batcher, "accept", noted)
    monkeypatch.setattr(logging.getLogger("lpt.serving"), "disabled", True)  # pytest keeps what is logged
    with TestClient(app) as client:
        gc.collect()
        gc.disable()
        try:
            for image, status in ((b"no image", 422), (encoded(), 500)):
                monkeypatch.setattr(engine, "run", lambda batch, *, attention: [])
                assert client.post(PREDICT, content=image, headers=JPEG).status_code == status
                until(lambda: not jobs)
        finally:
            gc.enable()


def test_pictures_and_images_are_let_go(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture counts against the budget until it is small; a request that has ended holds no image."""
    service = app.state.service
    predictor, budget = service.shelf.served["birds"].predictor, service.decoder.budget
    prepare, go_on = predictor.prepare, threading.Event()
    held: list[int] = []

    def noted(*arguments: Any, **options: Any) -> Any:
        held.append(budget.held)
        return prepare(*arguments, **options)

    def wait(name: str) -> Any:
        assert go_on.wait(30)
        raise KeyError(name)

    monkeypatch.setattr(predictor, "prepare", noted)
    with TestClient(app) as client:
        assert client.post(PREDICT, content=encoded(), headers=JPEG).status_code == 200
        assert held == [40 * 30 * 8]
        until(lambda: not budget.held)
    decoder, queue = Decoder(1000, wait), MicroBatcher(100, lambda runner: 1)
    busy, gone = queue.accept(usable_cores()), queue.accept(1)
    decoder.submit(busy, [("x", b"")] * usable_cores(), ["birds"])
    content = bytes(1000)
    references = sys.getrefcount(content)
    decoder.submit(gone, [("x", content)], ["birds"])
    assert sys.getrefcount(content) > references
    gone.cancel()
    assert sys.getrefcount(content) == references
    go_on.set()
    decoder.close()


def test_a_bomb_is_refused_by_its_header(client: TestClient) -> None:
    bomb = bytearray(encoded())
    bomb[16:24] = (60_000).to_bytes(4, "big") * 2  # width and height
    bomb[29:33] = zlib.crc32(bomb[12:29]).to_bytes(4, "big")
    assert refused(client.post(PREDICT, content=bytes(bomb), headers=JPEG), 413, "too_many_pixels").startswith("0: ")


def test_tokens_hosts_and_origins(new_app: NewApp) -> None:
    token = "0123456789abcdef-token"
    with TestClient(new_app(token=token)) as client:
        for given in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": token}, {"Authorization": "Bearer "}):
            response = client.get("/v1/packs", headers=given)
            assert (response.status_code, response.headers["WWW-Authenticate"]) == (401, "Bearer")
            assert client.get("/metrics", headers=given).status_code == 401
            assert client.get("/healthz", headers=given).status_code == client.get("/readyz").status_code == 200
        authorised = {"Authorization": f"bearer {token}"}
        assert client.get("/v1/packs", headers=authorised).status_code == 200
        foreign: list[tuple[dict[str, str], int]] = [
            ({"Host": "evil.example"}, 421),
            ({"Origin": "http://evil.example"}, 403),
            ({"Origin": "null"}, 403),
            ({"Sec-Fetch-Site": "cross-site"}, 403),
            ({"Origin": "http://testserver"}, 200),
            ({"Origin": "https://public.example", "Sec-Fetch-Site": "same-origin"}, 200),
        ]
        for headers, status in foreign:
            response = client.get("/v1/packs", headers=authorised | headers)
            assert response.status_code == status, headers
            assert not [name for name in response.headers if name.startswith("access-control")]
    with TestClient(new_app(hosts=None), base_url="http://localhost:8000") as client:  # no token: local names only
        assert client.get("/v1/packs").status_code == 200
        assert client.get("/v1/packs", headers={"Host": "rebound.example:8000"}).status_code == 421
    with TestClient(new_app(hosts=None, token=token), base_url="http://any.example") as client:
        assert client.get("/v1/packs", headers=authorised).status_code == 200


def test_a_token_that_is_none_is_refused(new_app: NewApp) -> None:
    for token in ("", "short", "with a space in the middle", "ümlauts-do-not-fit-into-headers"):
        with pytest.raises(ConfigError, match="token: what was given is no token"):
            new_app(token=token)


def test_request_ids_are_taken_if_they_are_harmless(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "lpt.serving")
    assert client.get("/healthz", headers={"X-Request-ID": "trace-7.a_B"}).headers["X-Request-ID"] == "trace-7.a_B"
    for bad in ("x" * 65, 'a"b', "a b", ""):
        assert client.get("/healthz", headers={"X-Request-ID": bad}).headers["X-Request-ID"] != bad
    name = "secret-name.png"
    client.post(PREDICT, files=[("images", (name, encoded()))], headers={"X-Request-ID": "asked"})
    logged = [record.__dict__.get("fields", {}) for record in caplog.records]
    [line] = [fields for fields in logged if fields.get("request_id") == "asked"]
    assert line.pop("ms") >= 0
    assert line == {
        "request_id": "asked",
        "method": "POST",
        "route": "/v1/packs/{name}/predict",
        "status": 200,
        "images": 1,
        "packs": ["birds"],
    }


def test_an_error_of_the_network_fails_one_request_without_a_traceback(
    app: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    engine: Any = app.state.service.shelf.served["birds"].predictor.engine
    run = engine.run

    def broken(batch: Any, **options: Any) -> Any:
        raise ZeroDivisionError("inside of the network")

    with TestClient(app) as client:
        engine.run = broken
        message = refused(client.post(PREDICT, content=encoded(), headers=JPEG), 500, "server_error")
        assert "inside" not in message
        assert any(record.exc_info and record.exc_info[0] is ZeroDivisionError for record in caplog.records)
        engine.run = run
        assert client.post(PREDICT, content=encoded(), headers=JPEG).status_code == 200


def test_a_full_queue_and_a_slow_network(new_app: NewApp) -> None:
    """What is accepted is answered; what does not fit is told when to come back; who waits too long gets 504."""
    app = new_app(limits=Limits(queue=4))
    statuses: list[int] = []

    def ask(images: int) -> None:
        statuses.append(client.post(PREDICT, files=[("images", encoded())] * images).status_code)

    with TestClient(app) as client, HeldNetwork(app) as network:
        first = threading.Thread(target=ask, args=(1,))
        first.start()
        assert network.entered.wait(30)  # its image has left the queue
        others = [threading.Thread(target=ask, args=(2,)) for _ in range(2)]
        for thread in others:
            thread.start()
        queue = app.state.service.batcher
        until(lambda: queue.queued == 4)
        full = client.post(PREDICT, content=encoded(), headers=JPEG)
        refused(full, 429, "queue_full")
        assert int(full.headers["Retry-After"]) >= 1
        network.open()
        for thread in (first, *others):
            thread.join(30)
    assert statuses == [200] * 3
    slow = new_app(limits=Limits(timeout=0.5))
    with TestClient(slow) as client, HeldNetwork(slow) as network:
        assert "0.5 s" in refused(client.post(PREDICT, content=encoded(), headers=JPEG), 504, "timeout")
        refused(client.post(PREDICT, content=encoded(), headers=JPEG), 504, "timeout")
        assert slow.state.service.batcher.queued == 0
        network.open()
    assert sum(network.sizes) <= 1  # the second one had left the queue


def test_a_pack_is_replaced_under_load_without_a_failed_request(
    new_app: NewApp, packs: Path, tiny_backbone: Path
) -> None:
    app = new_app()
    shelf = app.state.service.shelf
    versions = [lpt.load_pack(packs / name) for name in ("birds", "cranes")]
    image = encoded()
    answers: list[tuple[int, str, float]] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            response = client.post(PREDICT, content=image, headers=JPEG)
            top = response.json()["predictions"][0]["classes"][0] if response.status_code == 200 else {}
            answers.append((response.status_code, top.get("class", ""), round(top.get("probability", 0), 4)))

    with TestClient(app) as client:
        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        for turn in range(16):
            shelf.put("birds", versions[turn % 2])
        until(lambda: len(answers) > 20)
        stop.set()
        for thread in threads:
            thread.join(30)
        shelf.remove("birds")
        refused(client.post(PREDICT, content=image, headers=JPEG), 404, "unknown_pack")
    predictor = lpt.load_predictor([packs / "birds", packs / "cranes"], checkpoint=tiny_backbone, device="cpu")
    [birds], [cranes] = (predictor.predict(image, pack=name) for name in ("birds", "cranes"))
    assert set(answers) <= {(200, row.label, round(row.probability, 4)) for row in (birds, cranes)}
    assert len({birds.label, cranes.label}) == 2  # so an answer of no version would show


def test_the_page_and_its_files(new_app: NewApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "page"
    folder.mkdir()
    (folder / "index.html").write_text("<!doctype html><title>LPT</title>")
    (folder / "app.js").write_text("'use strict';")
    (folder / "notes.txt").write_text("not served")
    monkeypatch.setattr("lpt.serving.app.page_files", lambda: page_files(folder))
    with TestClient(new_app(token="0123456789abcdef")) as client:
        page = client.get("/")
        assert (page.status_code, page.text[:9]) == (200, "<!doctype")  # no token: a browser sends none
        assert page.headers["Content-Security-Policy"] == POLICY
        assert "http" not in POLICY
        linked = client.get("/", headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"})
        assert linked.status_code == 200  # other sites may link to it
        script = client.get("/app.js")
        assert script.headers["Content-Type"] == "text/javascript; charset=utf-8"
        again = client.get("/app.js", headers={"If-None-Match": script.headers["ETag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert client.get("/notes.txt", headers={"Authorization": "Bearer 0123456789abcdef"}).status_code == 404


def test_metrics_count_what_happened(client: TestClient) -> None:
    client.post(PREDICT, files=[("images", encoded())] * 3)
    client.post(PREDICT, content=b"", headers=JPEG)
    client.get("/nowhere")
    text = client.get("/metrics").text
    for line in (
        'lpt_requests_total{route="/v1/packs/{name}/predict",status="200"} 1.0',
        'lpt_requests_total{route="/v1/packs/{name}/predict",status="422"} 1.0',
        'lpt_requests_total{route="other",status="404"} 1.0',
        'lpt_images_total{pack="birds"} 3.0',
        "lpt_batch_images_sum 3.0",
        "lpt_queue_images 0.0",
        "lpt_packs 2.0",
    ):
        assert line in text.splitlines(), line


def test_two_apps_share_nothing(new_app: NewApp, packs: Path) -> None:
    first = new_app()
    shutil.rmtree(packs / "cranes")
    with TestClient(first) as one_client, TestClient(new_app()) as other_client:
        one_client.post(PREDICT, content=encoded(), headers=JPEG)
        assert [len(client.get("/v1/packs").json()["packs"]) for client in (one_client, other_client)] == [2, 1]
        assert 'lpt_images_total{pack="birds"}' not in other_client.get("/metrics").text


def test_an_app_without_packs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no pack in"):
        create_app(tmp_path)
    with TestClient(create_app(tmp_path, watch=True, watch_seconds=60, hosts=["testserver"])) as client:
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()) == (503, {"status": "no packs"})
        assert client.get("/healthz").status_code == 200


def test_limits_that_are_no_limits() -> None:
    for wrong in ({"queue": 0}, {"max_batch": 0}, {"max_body": 1.5}, {"timeout": 0}, {"timeout": math.inf}):
        with pytest.raises(ConfigError, match=f"{next(iter(wrong))}: a .* is accepted, not"):
            Limits(**wrong)  # type: ignore[arg-type]
    assert (Limits().batch_on("cpu"), Limits().batch_on("cuda"), Limits(max_batch=3).batch_on("cpu")) == (8, 32, 3)
