"""The server on real sockets: slow clients, clients that leave, and the end of the process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from starlette.responses import Response
from starlette.testclient import TestClient
from typer.testing import CliRunner

from lpt.cli.app import app as program
from lpt.serving import Limits
from lpt.serving.protocol import BoundedProtocol
from lpt.serving.server import listen
from small_server import HeldNetwork, RunningServer, encoded, until

PREDICT = "/v1/packs/birds/predict"
JPEG = {"Content-Type": "image/jpeg"}
EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
TOKEN = "0123456789abcdef0123"
NewApp = Callable[..., FastAPI]


def head(length: int, path: str = PREDICT) -> bytes:
    lines = (f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: image/jpeg", f"Content-Length: {length}")
    return "\r\n".join((*lines, "", "")).encode()


def answer_of(connection: socket.socket) -> bytes:
    """What comes until the server closes the connection or a whole answer is there."""
    content = b""
    while chunk := connection.recv(65536):
        content += chunk
        ready = re.search(rb"content-length: (\d+)\r\n.*?\r\n\r\n", content, re.DOTALL | re.IGNORECASE)
        if ready and len(content) >= ready.end() + int(ready[1]):
            break
    return content


def test_slow_clients_are_ended_and_hold_nobody_up(new_app: NewApp) -> None:
    limits = Limits(header_seconds=2.0, body_seconds=2.0)  # the quick one must keep them on a busy machine
    image = encoded()
    with RunningServer(new_app(limits=limits, hosts=["127.0.0.1"])) as server:
        silent, half_head, half_body = (server.connect() for _ in range(3))
        half_head.sendall(head(10)[:20])
        half_body.sendall(head(1000) + b"x")
        with server.connect() as quick:  # meanwhile
            quick.sendall(head(len(image)) + image)
            assert answer_of(quick).startswith(b"HTTP/1.1 200")
        assert silent.recv(100) == b""
        assert half_head.recv(100) == b""
        assert answer_of(half_body).startswith(b"HTTP/1.1 408")
        assert server.app.state.service.bodies.held == 0
        for connection in (silent, half_head, half_body):
            connection.close()
        until(lambda: not server.server.server_state.connections)


def test_an_early_answer_is_read_although_the_body_goes_on(new_app: NewApp) -> None:
    limits = Limits(max_body=50_000, header_seconds=3.0)
    with RunningServer(new_app(limits=limits, hosts=["127.0.0.1"])) as server:
        url = f"http://127.0.0.1:{server.port}"
        with httpx.Client(base_url=url) as client:
            declared = client.post(PREDICT, content=b"x" * 3_000_000, headers=JPEG)
            chunked = client.post(PREDICT, content=(b"x" * 10_000 for _ in range(300)), headers=JPEG)
            unknown = client.post("/v1/packs/cats/predict", content=b"x" * 3_000_000, headers=JPEG)
            assert [r.status_code for r in (declared, chunked, unknown)] == [413, 413, 404]
            assert client.post(PREDICT, content=encoded(), headers=JPEG).status_code == 200
        with server.connect() as endless:
            endless.sendall(head(10**9))
            assert answer_of(endless).startswith(b"HTTP/1.1 413")
            with pytest.raises(OSError):  # noqa: PT011  (reset or broken pipe)
                for _ in range(3000):
                    endless.sendall(b"x" * 65536)
                    time.sleep(0.01)


def test_a_large_answer_is_bounded_by_how_fast_it_is_read_not_by_time(
    new_app: NewApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that reads steadily gets all, however often the server looks; one that reads next to nothing is cut."""
    looks, look = list[object](), BoundedProtocol._check_reader
    monkeypatch.setattr(BoundedProtocol, "_check_reader", lambda protocol: (looks.append(protocol), look(protocol)))
    app = new_app(limits=Limits(header_seconds=0.25, read_rate=100_000), hosts=["127.0.0.1"])
    app.add_route("/large", lambda request: Response(b"x" * 8_000_000))

    def read(size: int, pause: float) -> int:
        """Return how many bytes come if a client reads so slowly, until the server has closed the connection."""
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            client.settimeout(30)
            client.connect(("127.0.0.1", server.port))
            client.sendall(b"GET /large HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            count = len(client.recv(size))
            with contextlib.suppress(ConnectionResetError):
                while server.server.server_state.connections:
                    count += len(client.recv(size))
                    time.sleep(pause)
                while chunk := client.recv(2**16):
                    count += len(chunk)
            return count

    with RunningServer(app) as server:
        assert read(2**16, 0.016) > 8_000_000
        assert len(looks) > 2
        assert read(2**10, 0.1) < 1_000_000


def test_more_connections_than_accepted_are_closed(new_app: NewApp) -> None:
    with RunningServer(new_app(limits=Limits(connections=4), hosts=["127.0.0.1"])) as server:
        connections = [server.connect() for _ in range(4)]
        until(lambda: len(server.server.server_state.connections) == 4)
        with server.connect() as fifth, contextlib.suppress(ConnectionResetError):
            assert fifth.recv(100) == b""
        connections[0].sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert answer_of(connections[0]).startswith(b"HTTP/1.1 200")
        for connection in connections:
            connection.close()


def test_images_of_64_clients_that_leave_are_never_classified(new_app: NewApp) -> None:
    app = new_app(hosts=["127.0.0.1"], limits=Limits(queue=70))
    queue = app.state.service.batcher
    image = encoded()
    with RunningServer(app) as server, HeldNetwork(app) as network:
        connections = []
        for _ in range(64):
            connections.append(server.connect())
            connections[-1].sendall(head(len(image)) + image)
        assert network.entered.wait(30)
        until(lambda: app.state.service.gate.in_flight == 64)
        for connection in connections:
            connection.close()
        until(lambda: queue.queued == 0 and not app.state.service.gate.in_flight)
        network.open()
        answer = httpx.post(f"http://127.0.0.1:{server.port}{PREDICT}", content=image, headers=JPEG)
        assert answer.status_code == 200
    assert sum(network.sizes) <= 1 + 8  # what was in the network when they left, and the last one
    assert app.state.service.bodies.held == 0


def test_a_signal_finishes_what_was_accepted_and_refuses_the_rest(new_app: NewApp) -> None:
    app = new_app(hosts=["127.0.0.1"])
    with RunningServer(app) as server, HeldNetwork(app) as network, httpx.Client(timeout=30) as other:
        url = f"http://127.0.0.1:{server.port}"
        with ThreadPoolExecutor(1) as pool:
            accepted = pool.submit(httpx.post, url + PREDICT, content=encoded(), headers=JPEG, timeout=30)
            assert network.entered.wait(30)
            server.stop()
            refused = other.post(url + PREDICT, content=encoded(), headers=JPEG)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "stopping")
            assert "Retry-After" in refused.headers
            assert other.get(url + "/readyz").status_code == 503
            assert other.get(url + "/healthz").status_code == 200
            assert server.thread.is_alive()
            network.open()
            assert accepted.result(30).status_code == 200
        server.thread.join(30)
        assert not server.thread.is_alive()
    assert not app.state.service.batcher.alive


@pytest.fixture
def command(packs: Path, tiny_backbone: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`lpt serve` as a user starts it, with a token, and its address."""
    token = tmp_path / "token.txt"
    token.write_text(f"{TOKEN}\n")
    arguments = [packs, "--checkpoint", tiny_backbone, "--device", "cpu", "--port", "0", "--token-file", token]
    process = subprocess.Popen(
        [sys.executable, "-m", "lpt", "serve", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+ serves 2 packs: birds, cranes\n", line), process.communicate()
    yield process, line.split()[0]
    process.kill()
    process.communicate()


def test_the_command_and_its_clients(command: tuple[subprocess.Popen[str], str], tmp_path: Path) -> None:
    """The examples of the document run against it; SIGTERM ends it with exit code 0; its log is JSON."""
    process, url = command
    photo = tmp_path / "a photo.jpg"
    photo.write_bytes(encoded(kind="JPEG"))
    client = [sys.executable, str(EXAMPLES / "serve_client.py"), url, "birds", str(photo), str(photo)]
    curl = ["sh", str(EXAMPLES / "curl.sh"), url, "birds", str(photo)]
    environment = {**os.environ, "LPT_TOKEN": TOKEN}
    for arguments in (client, curl):
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "crane" in done.stdout
        assert TOKEN not in done.stdout
    refused = subprocess.run(client, capture_output=True, text=True, timeout=60, env={**os.environ, "LPT_TOKEN": "x"})
    assert (refused.returncode, "a token is needed" in refused.stderr) == (1, True)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    lines = [json.loads(line) for line in errors.splitlines()]
    assert {line["event"] for line in lines} == {"request"}
    assert TOKEN not in errors
    assert "a photo" not in errors


def test_what_a_user_can_get_wrong_at_the_start(packs: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.txt"
    short.write_text("secret\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for arguments, message in (
            ([packs, "--port", port], "Another program listens there"),
            ([packs, "--host", "256.1.1.1"], "cannot listen on 256.1.1.1"),
            ([packs, "--port", "0", "--token-file", short], "At least 16"),
            ([packs, "--port", "0", "--token-file", tmp_path], "cannot be read"),
            ([tmp_path / "nowhere", "--port", "0"], "does not exist"),
            ([tmp_path, packs / "birds", packs, "--port", "0", "--device", "tpu"], "device"),
        ):
            result = CliRunner().invoke(program, ["serve", "--checkpoint", str(tiny_backbone), *map(str, arguments)])
            assert result.exit_code == 2, (arguments, result.output)
            assert message in result.output, (arguments, result.output)
            assert "Traceback" not in result.output


def test_an_open_address_without_a_token_is_warned_about(
    packs: Path, tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apps: list[FastAPI] = []
    monkeypatch.setattr("lpt.serving.server.GracefulServer.run", lambda self, sockets: apps.append(self.config.app))
    monkeypatch.setattr("lpt.serving.logs.log_to", lambda stream: None)
    arguments = ["serve", str(packs), "--checkpoint", str(tiny_backbone), "--device", "cpu", "--port", "0"]
    result = CliRunner().invoke(program, [*arguments, "--host", "0.0.0.0"])
    assert (result.exit_code, len(apps)) == (0, 1), result.output
    assert "no token is asked for" in result.output
    result = CliRunner().invoke(program, [*arguments, "--host", "127.0.0.2"])  # this machine too
    assert "Warning" not in result.output
    for host, status in (("127.0.0.2:80", 200), ("localhost", 200), ("rebound.example", 421)):
        answer = TestClient(apps[-1]).get("/v1/packs", headers={"Host": host})
        assert answer.status_code == status


def test_answers_leave_at_once() -> None:
    """With Nagle's algorithm the body of an answer would wait 40 ms for the client to acknowledge the head."""
    set_options: list[int] = []

    async def look() -> None:
        def note(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted = writer.get_extra_info("socket")
            set_options.append(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        with listen("127.0.0.1", 0) as listener:
            async with await asyncio.start_server(note, sock=listener):
                reader, writer = await asyncio.open_connection(*listener.getsockname())
                await reader.read()
                writer.close()

    asyncio.run(look())
    assert set_options == [1]
