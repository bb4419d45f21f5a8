"""Images for a server, and a network that can be held."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from fastapi import FastAPI
from PIL import Image

from lpt.serving.server import listen, new_server


def encoded(size: tuple[int, int] = (40, 30), kind: str = "PNG", seed: int = 0) -> bytes:
    """An image file of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


class HeldNetwork:
    """Lets batches through only when it is opened, and remembers their sizes."""

    def __init__(self, app: FastAPI) -> None:
        self._open = threading.Event()
        self.entered = threading.Event()
        self.sizes: list[int] = []
        engine: Any = next(iter(app.state.service.shelf.served.values())).predictor.engine
        run = engine.run

        def held(batch: Any, *, attention: bool = False) -> Any:
            self.entered.set()
            assert self._open.wait(60)
            self.sizes.append(len(batch))
            return run(batch, attention=attention)

        engine.run = held

    def open(self) -> None:
        self._open.set()

    def __enter__(self) -> HeldNetwork:
        return self

    def __exit__(self, *error: object) -> None:
        self.open()


class RunningServer:
    """A server on a socket, in a thread."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app
        self.listener = listen("127.0.0.1", 0)
        self.port: int = self.listener.getsockname()[1]
        self.server = new_server(app)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.listener]}, daemon=True)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def stop(self) -> None:
        """Ask it to end, as a signal does."""
        self.server.handle_exit(15, None)

    def __enter__(self) -> RunningServer:
        self.thread.start()
        until(lambda: self.server.started)
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
        self.thread.join(30)
        assert not self.thread.is_alive()


def until(reached: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until something has happened."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)
