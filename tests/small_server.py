"""Images for a server, and a network that can be held."""

from __future__ import annotations

import io
import threading
from typing import Any

import numpy as np
from fastapi import FastAPI
from PIL import Image


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
