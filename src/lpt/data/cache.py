"""Decoded images kept in memory: one block for a process and all of its workers."""

from __future__ import annotations

import mmap
import multiprocessing.context
import os
import sys
import threading
import weakref
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import reduction
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from lpt.data.images import ArrayImages
from lpt.data.manifest import ImageSource, IntArray, LabelledImages
from lpt.data.scan import scan
from lpt.errors import DataError

CACHE_LIMIT_BYTES = 2**30

Pixels = npt.NDArray[np.uint8]


class CachedImages:
    """A source that keeps decoded images, for small sets drawn many times.

    The pixels lie in one block of shared memory of at most `limit_bytes`; once one has no room left, nothing more is
    kept, and the rest is read again each time (so is everything where such a block cannot be had). Worker processes
    look into the same block, however they are started, and keep nothing themselves: the limit is one for the process
    and all of its workers together. (Each process of a run that torchrun started has a block of its own.) Only the
    process that made it writes, so that what workers need must be remembered first.

    Args:
        source: where images come from.
        limit_bytes: size of the block; memory is taken as it is filled.
    """

    def __init__(self, source: ImageSource, limit_bytes: int = CACHE_LIMIT_BYTES) -> None:
        self.source = source
        try:
            self._block = _Block(max(limit_bytes, 1))
        except OSError:  # no such memory here, or a limit on the size of files: nothing is kept
            self._block, limit_bytes = _Block(0), 0
        self._free_from, self._limit, self._full = 0, limit_bytes, False
        self._starts = np.full(len(source), -1, dtype=np.int64)
        self._sizes = np.zeros((len(source), 2), dtype=np.int32)
        self._owner = os.getpid()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.source)

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__ | {"_lock": None, "_owner": 0}  # a worker never writes
        if multiprocessing.context.get_spawning_popen() is None:  # a copy that no worker gets: it reads by itself
            state |= {"_block": None, "_starts": np.full_like(self._starts, -1)}
        return state

    def name(self, row: int) -> str:
        """As the source names it."""
        return self.source.name(row)

    def read(self, row: int) -> Image.Image:
        """The kept image, or the source's."""
        kept = self.kept(row)
        if kept is not None:
            return Image.fromarray(kept)
        image = self.source.read(row)
        self._keep(row, image)
        return image

    def kept(self, row: int) -> Pixels | None:
        """An image that is kept, [height, width, 3], not to be written to."""
        start, (height, width) = self._starts[row], self._sizes[row]
        if start < 0:
            return None
        return self._block.pixels[start : start + height * width * 3].reshape(height, width, 3)

    def sizes(self, rows: IntArray) -> npt.NDArray[np.int32]:
        """Height and width of kept images, pixels, [n, 2]."""
        return self._sizes[rows]

    def remember(self, rows: IntArray) -> bool:
        """Decode and keep images, by several threads; whether all of them are kept now.

        It stops at the first that has no room, and passes over those that cannot be read: whoever reads them is told.
        """
        missing = np.unique(rows[self._starts[rows] < 0])
        if len(missing) and not self._full and os.getpid() == self._owner:

            def look(index: int) -> None:
                if not self._full:
                    with suppress(DataError):
                        self.read(int(missing[index]))

            scan(len(missing), look, None, "Decoding images")
        return bool((self._starts[rows] >= 0).all())

    def _keep(self, row: int, image: Image.Image) -> None:
        """Copy an image's pixels into the block if they have room."""
        if os.getpid() != self._owner:
            return
        pixels = np.asarray(image)
        with self._lock:
            start, end = self._free_from, self._free_from + pixels.nbytes
            self._full = self._full or end > self._limit
            if self._full or self._starts[row] >= 0:
                return
            self._free_from = end
            self._block.pixels[start:end] = pixels.reshape(-1)
            self._sizes[row] = image.height, image.width
            self._starts[row] = start  # last: other threads look at it without the lock


def source_of(source: ImageSource) -> ImageSource:
    """Where images come from, whether or not they are remembered."""
    return source.source if isinstance(source, CachedImages) else source


def decodes(source: ImageSource) -> bool:
    """Whether images are stored in a form that takes time to read, and that may be damaged."""
    return not isinstance(source, ArrayImages)


def pixels(images: LabelledImages, index: int) -> Pixels:
    """The image at a position of a split, [height, width, 3], not to be written to."""
    source, row = images.source, int(images.rows[index])
    if isinstance(source, CachedImages):
        kept = source.kept(row)
        if kept is not None:
            return kept
    return np.array(source.read(row))


def remember(images: LabelledImages) -> bool:
    """Decode now what is to be kept of a split, before workers start; whether all of it is kept in memory."""
    return isinstance(images.source, CachedImages) and images.source.remember(images.rows)


class _Block:
    """Shared memory that worker processes see too, whether forked or started anew; pages are taken when written to."""

    def __init__(self, size: int) -> None:
        if not size:
            self._take(torch.UntypedStorage(0))
        elif sys.platform == "linux":  # not limited by the size of /dev/shm, which is 64 MB in many containers
            file = os.memfd_create("lpt-images")
            os.ftruncate(file, size)
            self._map(file, size)
        else:
            self._take(torch.UntypedStorage._new_shared(size))

    def __getstate__(self) -> Any:
        """For a worker that is being started: how it gets at the same memory."""
        return (reduction.DupFd(self._shared), len(self.pixels)) if isinstance(self._shared, int) else self._shared

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple):
            self._map(state[0].detach(), state[1])
        else:
            self._take(state)

    def _map(self, file: int, size: int) -> None:
        self._shared: int | torch.UntypedStorage = file
        self.pixels: Pixels = np.frombuffer(mmap.mmap(file, size), dtype=np.uint8)
        weakref.finalize(self, os.close, file)

    def _take(self, storage: torch.UntypedStorage) -> None:
        self._shared = storage
        self.pixels = torch.empty(0, dtype=torch.uint8).set_(storage).numpy()


def decoded_bytes(images: LabelledImages, sample: int = 64) -> int:
    """Estimated size of all images decoded, bytes, from an evenly spread sample of them."""
    if not len(images):
        return 0
    picked: Sequence[int] = np.unique(np.linspace(0, len(images) - 1, sample).astype(int)).tolist()
    sizes = [image.width * image.height * 3 for image in map(images.read, picked)]
    return int(np.mean(sizes) * len(images))
