"""The frozen part of phase 2, computed once for each augmented view and kept (DESIGN section 3, item 4).

Up to block K, and in the whole query, nothing trains in phase 2. With a fixed number of augmented views of an image,
what those blocks give for a view never changes: it is kept, in memory or in a file, and a step runs blocks K+1..L
alone. Which view a draw shows is a function of (seed, phase, stream, step, position), the view's augmentation one of
(seed, image, view). So all views that a phase will ever draw are known before it starts, and only those are computed.
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
    """What is kept of one view: N x D numbers of the image tokens, and D of the query in float32."""

    tokens: int
    width: int
    dtype: torch.dtype

    @property
    def stored_bytes(self) -> int:
        """Bytes of one view."""
        return self.width * (self.tokens * self.dtype.itemsize + torch.float32.itemsize)


@dataclass(frozen=True)
class Draws:
    """Which view of which image every draw of a phase shows, as image * views + view.

    Args:
        samplers: of the streams.
        views: augmented views of an image.
        batch_size: images of each stream in a step, over all processes.
        positions: this process's share of them.
        seed: what the choice of a view is a function of: (run seed, phase).
    """

    samplers: dict[str, Sampler]
    views: int
    batch_size: int
    positions: range
    seed: tuple[int, int]

    def step(self, stream: str, step: int) -> IntArray:
        """The views of this process's positions, [b]."""
        own = slice(self.positions.start, self.positions.stop)
        images = self.samplers[stream].draw(step, self.batch_size)[own]
        random = np.random.Generator(np.random.PCG64(seed_of(*self.seed, stream, step, "view")))
        picked: IntArray = random.integers(self.views, size=self.batch_size)[own]
        return images * self.views + picked

    def distinct(self, images: int, steps: int) -> IntArray:
        """All views that the phase's steps draw, each once, ascending."""
        drawn = np.zeros(images * self.views, dtype=bool)
        for stream in self.samplers:
            for step in range(steps):
                drawn[self.step(stream, step)] = True
        return np.flatnonzero(drawn)


class PrefixCache:
    """Kept results of the frozen part for a set of views, one row of bytes each: query, then tokens.

    Args:
        numbers: the views kept, ascending, [n].
        total: images * views, of which `numbers` are some.
        shape: what is kept of each.
        batch_size: views computed at a time; an interrupted file is gone on with after its last whole batch.
        file: where to keep them; None: in memory. A file that an interrupted run left is gone on with if it is of the
            same views and identity; each process has its own.
        identity: what the kept numbers are a function of: weights, precision, preprocessing, seed.

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
            self._done = _go_on_with(file, identity, shape.stored_bytes, batch_size)

    @property
    def done(self) -> int:
        """Views that are kept already."""
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
        """Compute the views that are missing, in order.

        Args:
            model: with the shared prompt of phase 1, on its device.
            images, preprocessing, views, seed, workers: as in `view_batches`.
            progress: called with the number of views done after each batch; may raise to stop.

        Raises:
            RunError: the file cannot be written.
        """
        device = model.head.weight.device
        waiting = view_batches(
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
            for batch in waiting:
                pixels = preprocessing.normalize(to_device(batch, device))
                self._keep(model.encode(pixels, constants=constants))
                progress(self._done)
        if self._file is not None:
            self._rows = _mapped(self._file, len(self.numbers), self.shape.stored_bytes)

    def batch(self, numbers: IntArray, labels: IntArray) -> Batch:
        """A batch of kept views and their classes, [b] each."""
        slots = torch.from_numpy(self._slots[numbers].astype(np.int64))
        return _KeptBatch(self._rows, self.shape, slots, torch.from_numpy(labels))

    def remove(self) -> None:
        """Delete the file, if there is one; nothing can be drawn any more."""
        self._rows = self._rows[:0].clone()
        if self._file is not None:
            for path in (self._file, _identity_of(self._file)):
                path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # another process's is still there
                self._file.parent.rmdir()

    def _keep(self, encoded: Encoded) -> None:
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
class _KeptBatch:
    """Rows of a cache."""

    rows: Tensor
    shape: Shape
    slots: Tensor
    labels: Tensor

    def inputs(self, rows: slice, device: torch.device) -> Encoded:
        """Tokens [b, N, D] and queries [b, D]."""
        kept = self.rows[self.slots[rows]]
        if device.type == "cuda":
            kept = kept.pin_memory()
        kept = to_device(kept, device)
        end = self.shape.width * torch.float32.itemsize
        query = kept[:, :end].contiguous().view(torch.float32)
        tokens = kept[:, end:].contiguous().view(self.shape.dtype)
        return Encoded(tokens.view(-1, self.shape.tokens, self.shape.width), query)


def kept_batches(
    cache: PrefixCache, draws: Draws, labels: IntArray, first_step: int, last_step: int
) -> Iterator[dict[str, Batch]]:
    """The batches of steps `first_step` .. `last_step - 1` from a filled cache."""
    for step in range(first_step, last_step):
        numbers = {stream: draws.step(stream, step) for stream in draws.samplers}
        yield {stream: cache.batch(own, labels[own // draws.views]) for stream, own in numbers.items()}


def _go_on_with(file: Path, identity: str, row_bytes: int, batch_size: int) -> int:
    """Make a file ready to be written on; how many rows of the same identity it holds already.

    Only whole batches count: a view's rounding may depend on the batch it was computed in.
    """
    known = _identity_of(file)
    try:
        if file.exists() and known.exists() and known.read_text(encoding="utf-8") == identity:
            rows = file.stat().st_size // row_bytes // batch_size * batch_size
            with file.open("rb+") as stream:
                stream.truncate(rows * row_bytes)
            return rows
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
        write_text(known, identity)
    except OSError as error:
        raise RunError(f"cannot write the prefix cache {file}: {error.strerror}") from None
    return 0


def _mapped(file: Path, count: int, row_bytes: int) -> Tensor:
    """A file's rows, read when they are needed, [n, row_bytes]."""
    if not count:
        return torch.empty(0, row_bytes, dtype=torch.uint8)
    return torch.from_file(str(file), shared=False, size=count * row_bytes, dtype=torch.uint8).view(count, row_bytes)


def _identity_of(file: Path) -> Path:
    return file.with_suffix(".identity")
