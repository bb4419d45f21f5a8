"""Prefix cache: the frozen part of phase 2, computed once for each augmented view (DESIGN section 3, item 4).

Nothing trains in phase 2 up to block K, nor in the query. With a fixed number of augmented views of an image, the
outputs of these blocks for a view never change. They are cached in memory or in a file, and a step runs only blocks
K+1..L. The view that a draw shows is a function of (seed, phase, stream, step, position); the view's augmentation is
a function of (seed, image, view). So all views of a phase are known before it starts, and only those are computed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lpt.data.loading import view_batches
from lpt.data.manifest import IntArray, LabelledImages
from lpt.data.sampling import Sampler
from lpt.data.transforms import Preprocessing
from lpt.errors import RunError
from lpt.model import LPT, Encoded
from lpt.system.files import write_text
from lpt.system.randomness import seed_of
from lpt.training.batches import Batch, to_device


class Shape(NamedTuple):
    """The shape of a cached view: N x D numbers of the tokens, and D of the query in float32."""

    tokens: int
    width: int
    dtype: torch.dtype

    @property
    def stored_bytes(self) -> int:
        """Return the bytes of one view."""
        return self.width * (self.tokens * self.dtype.itemsize + torch.float32.itemsize)


@dataclass(frozen=True)
class Draws:
    """The views that the draws of a phase show, numbered image * views + view.

    Args:
        samplers: of the streams.
        views: augmented views of an image.
        batch_size: images of each stream in a step, over all processes.
        positions: this process's share of the batch.
        seed: (run seed, phase), from which the views are drawn.
    """

    samplers: dict[str, Sampler]
    views: int
    batch_size: int
    positions: range
    seed: tuple[int, int]

    def step(self, stream: str, step: int) -> IntArray:
        """Return the views of this process's positions, [b]."""
        positions = slice(self.positions.start, self.positions.stop)
        images = self.samplers[stream].draw(step, self.batch_size)[positions]
        random = np.random.Generator(np.random.PCG64(seed_of(*self.seed, stream, step, "view")))
        picked: IntArray = random.integers(self.views, size=self.batch_size)[positions]
        return images * self.views + picked

    def distinct(self, images: int, steps: int) -> IntArray:
        """Return all views that the phase's steps draw, each once, ascending."""
        drawn = np.zeros(images * self.views, dtype=bool)
        for stream in self.samplers:
            for step in range(steps):
                drawn[self.step(stream, step)] = True
        return np.flatnonzero(drawn)


class PrefixCache:
    """A cache of the frozen part for a set of views: a row of bytes for each view, query first, then tokens.

    Args:
        numbers: the cached views, ascending, [n].
        total: images * views; `numbers` are below it.
        shape: of a cached view.
        batch_size: views computed at a time. An interrupted file is continued after its last whole batch.
        file: where to keep the rows; None: in memory. Each process has its own file. A file that an interrupted run
            left is continued if it has the same views and identity.
        identity: a text that names all that the cached numbers depend on: weights, precision, preprocessing, seed.

    Raises:
        RunError: the file cannot be written.
    """

    def __init__(
        self,
        numbers: IntArray,
        total: int,
        shape: Shape,
        batch_size: int,
        file: Path | None = None,
        identity: str = "",
    ) -> None:
        self.numbers, self.shape, self._batch_size = numbers, shape, batch_size
        self._slots = np.full(total, -1, dtype=np.int32 if total < 2**31 else np.int64)
        self._slots[numbers] = np.arange(len(numbers))
        self._file = file
        self._done = 0
        self._rows = torch.empty(len(numbers) if file is None else 0, shape.stored_bytes, dtype=torch.uint8)
        if file is not None:
            identity = f"{identity} {shape} {batch_size} {sha256(numbers.tobytes()).hexdigest()}"
            self._done = _open_file(file, identity, shape.stored_bytes, batch_size)

    @property
    def done(self) -> int:
        """Return how many views are cached already."""
        return self._done

    def fill(
        self,
        model: LPT,
        images: LabelledImages,
        preprocessing: Preprocessing,
        *,
        views: int,
        seed: int,
        workers: int,
        progress: Callable[[int], None] = lambda done: None,
    ) -> None:
        """Compute the missing views, in order.

        Args:
            model: with the shared prompt of phase 1, on its device.
            images, preprocessing, views, seed, workers: as in `view_batches`.
            progress: called after each batch with the number of views done; may raise to stop.

        Raises:
            RunError: the file cannot be written.
        """
        device = model.head.weight.device
        batches = view_batches(
            images,
            self.numbers[self._done :],
            views=views,
            batch_size=self._batch_size,
            preprocessing=preprocessing,
            seed=seed,
            workers=workers,
        )
        with torch.inference_mode():
            constants = model.shared_constants()
            for batch in batches:
                pixels = preprocessing.normalize(to_device(batch, device))
                self._keep(model.encode(pixels, constants=constants))
                progress(self._done)
        if self._file is not None:
            self._rows = _mapped(self._file, len(self.numbers), self.shape.stored_bytes)

    def batch(self, numbers: IntArray, labels: IntArray) -> Batch:
        """Return a batch of cached views with their classes, [b] each."""
        slots = torch.from_numpy(self._slots[numbers].astype(np.int64))
        return _CachedBatch(self._rows, self.shape, slots, torch.from_numpy(labels))

    def remove(self) -> None:
        """Delete the file, if there is one. The cache cannot be used any more."""
        self._rows = self._rows[:0].clone()
        if self._file is not None:
            for path in (self._file, _identity_of(self._file)):
                path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # it still holds the file of another process
                self._file.parent.rmdir()

    def _keep(self, encoded: Encoded) -> None:
        """Append the rows of a batch."""
        parts = (encoded.query.to("cpu", torch.float32), encoded.tokens.to("cpu", self.shape.dtype))
        rows = torch.cat([part.flatten(1).contiguous().view(torch.uint8) for part in parts], dim=1)
        if self._file is None:
            self._rows[self._done : self._done + len(rows)] = rows
        else:
            try:
                with self._file.open("ab") as file:
                    file.write(rows.numpy().data)
            except OSError as error:
                raise RunError(
                    f"cannot write the prefix cache {self._file}: {error.strerror}. Free some space and go on with "
                    "--resume, or start again with fewer views (--set prefix_cache.views=...)."
                ) from None
        self._done += len(rows)


@dataclass(frozen=True)
class _CachedBatch:
    """A batch of rows of a cache."""

    rows: Tensor
    shape: Shape
    slots: Tensor
    labels: Tensor

    def inputs(self, rows: slice, device: torch.device) -> Encoded:
        """Return tokens [b, N, D] and queries [b, D] on the device."""
        stored = self.rows[self.slots[rows]]
        if device.type == "cuda":
            stored = stored.pin_memory()
        stored = to_device(stored, device)
        end = self.shape.width * torch.float32.itemsize
        query = stored[:, :end].contiguous().view(torch.float32)
        tokens = stored[:, end:].contiguous().view(self.shape.dtype)
        return Encoded(tokens.view(-1, self.shape.tokens, self.shape.width), query)


def cached_batches(
    cache: PrefixCache, draws: Draws, labels: IntArray, first_step: int, last_step: int
) -> Iterator[dict[str, Batch]]:
    """Yield the batches of steps `first_step` .. `last_step - 1` from a filled cache.

    Args:
        cache: holds every view of `draws`.
        draws: of the phase.
        labels: class of each training image, [n].
        first_step, last_step: the range of steps.
    """
    for step in range(first_step, last_step):
        views = {stream: draws.step(stream, step) for stream in draws.samplers}
        yield {stream: cache.batch(numbers, labels[numbers // draws.views]) for stream, numbers in views.items()}


def _open_file(file: Path, identity: str, row_bytes: int, batch_size: int) -> int:
    """Make a file ready for more rows and return how many rows of the same identity it holds already.

    Only whole batches count: the rounding of a view may depend on the batch it was computed in.
    """
    identity_file = _identity_of(file)
    try:
        if file.exists() and identity_file.exists() and identity_file.read_text(encoding="utf-8") == identity:
            rows = file.stat().st_size // row_bytes // batch_size * batch_size
            with file.open("rb+") as stream:
                stream.truncate(rows * row_bytes)
            return rows
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
        write_text(identity_file, identity)
    except OSError as error:
        raise RunError(f"cannot write the prefix cache {file}: {error.strerror}") from None
    return 0


def _mapped(file: Path, count: int, row_bytes: int) -> Tensor:
    """Map the rows of a file into memory, [n, row_bytes]; they are read when they are used."""
    if not count:
        return torch.empty(0, row_bytes, dtype=torch.uint8)
    return torch.from_file(str(file), shared=False, size=count * row_bytes, dtype=torch.uint8).view(count, row_bytes)


def _identity_of(file: Path) -> Path:
    return file.with_suffix(".identity")
