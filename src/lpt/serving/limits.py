"""The limits of the server: what a request may hold, and how long anything may take."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from lpt.config.bounds import check_positive
from lpt.errors import ConfigError

CPU_BATCH, CARD_BATCH = 8, 32
"""Most images of a batch unless given: batches gain nothing on a CPU; the value for a card was not measured."""

_SECONDS = ("timeout", "body_seconds", "header_seconds")


@dataclass(frozen=True)
class Limits:
    """The limits of the server; all are above 0.

    Args:
        queue: most images that wait to be decoded or to be classified, of all requests together.
        timeout: longest time from a complete request to its answer, seconds.
        max_batch: most images that the network takes at once; None: 8 on a CPU, 32 on a card.
        max_images: most images of a request.
        max_body: most bytes of a request body.
        max_bodies: most bytes of all request bodies in memory.
        max_pixels: most pixels of an image.
        max_top_k: most classes that an answer lists for an image.
        body_seconds: longest time in which a body must arrive.
        header_seconds: longest time in which the head of a request must arrive; this and the next two are bounds of
            `lpt serve`, not of the app.
        read_rate: fewest bytes a second that a client must read of an answer, measured over `header_seconds`.
        connections: most open connections; more are closed at once.
    """

    queue: int = 64
    timeout: float = 30.0
    max_batch: int | None = None
    max_images: int = 64
    max_body: int = 32 * 2**20
    max_bodies: int = 512 * 2**20
    max_pixels: int = 64_000_000
    max_top_k: int = 1000
    body_seconds: float = 30.0
    header_seconds: float = 10.0
    read_rate: int = 8 * 2**10
    connections: int = 512

    def __post_init__(self) -> None:
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in _SECONDS:
            seconds = given.pop(name)
            number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
            if not (number and 0 < seconds < math.inf):
                raise ConfigError(f"{name}: a number of seconds above 0 is accepted, not {seconds!r}")
        if self.max_batch is None:
            del given["max_batch"]
        check_positive(**given)

    @property
    def images(self) -> int:
        """Most images of a request, which the queue must hold together."""
        return min(self.max_images, self.queue)

    def batch_on(self, device: str) -> int:
        """Return the most images of a batch on a device."""
        return self.max_batch or (CPU_BATCH if device == "cpu" else CARD_BATCH)
