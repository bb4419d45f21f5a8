"""A cache of decoded images in memory: one block for a process and all of its workers."""

from __future__ import annotations

import mmap
import multiprocessing.context
import os
import sys
import threading
import weakref
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing import reduction
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from lpt.data.images import ArrayImages, EncodedImages
from lpt.data.manifest import ImageSource, IntArray, LabelledImages
from lpt.data.scan import scan
from lpt.errors import DataError

if TYPE_CHECKING:
    import torch

CACHE_LIMIT_BYTES = 2**30

Pixels = npt.NDArray[np.uint8]


class CachedImages:
    """A source of images with a cache of decoded ones, for small sets drawn many times.

    The pixels lie in one block of shared memory of at most `limit_bytes`. Once an image does not fit, no more images
    are cached, and the rest are read again each time. So are all images where the system gives no such block.

    Worker processes look into the same block, however they are started, and cache nothing themselves. So the limit
    holds for the process and all of its workers together. Only the process that made the block writes to it: call
    `fill` before workers start. Each process that torchrun started has its own block.

    Args:
        source: where the images come from.
        limit_bytes: size of the block; it takes memory only as it is filled.
    """

    def __init__(self, source: ImageSource, limit_bytes: int = CACHE_LIMIT_BYTES) -> None:
        self.source = source
        try:
            self._block: _Block | None = _Block(max(limit_bytes, 1))
        except OSError:  # no such memory here, or a limit on the size of files: cache nothing
            self._block, limit_bytes = None, 0
        self._free_from, self._limit, self._full = 0, limit_bytes, False
        self._starts = np.full(len(source), -1, dtype=np.int64)
        self._sizes = np.zeros((len(source), 2), dtype=np.int32)
        self._owner = os.getpid()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.source)

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__ | {"_lock": None, "_owner": 0}  # a worker never writes
        if multiprocessing.context.get_spawning_popen() is None:  # a copy for no worker: it reads by itself
            state |= {"_block": None, "_starts": np.full_like(self._starts, -1)}
        return state

    def name(self, row: int) -> str:
        """Return the name that the source gives the image."""
        return self.source.name(row)

    def read(self, row: int) -> Image.Image:
        """Return the cached image, or read it from the source and cache it."""
        cached = self.cached(row)
        if cached is not None:
            return Image.fromarray(cached)
        image = self.source.read(row)
        self._store(row, image)
        return image

    def cached(self, row: int) -> Pixels | None:
        """Return a cached image, [height, width, 3], which the caller must not change; None where it is not cached."""
        start, (height, width) = self._starts[row], self._sizes[row]
        if start < 0 or self._block is None:
            return None
        return self._block.pixels[start : start + height * width * 3].reshape(height, width, 3)

    def sizes(self, rows: IntArray) -> npt.NDArray[np.int32]:
        """Return height and width of cached images, pixels, [n, 2]."""
        return self._sizes[rows]

    def fill(self, rows: IntArray) -> bool:
        """Decode and cache images, by several threads; return whether all of them are cached now.

        It stops at the first image that does not fit. It passes over images that cannot be read: `read` raises then.
        """
        missing = np.unique(rows[self._starts[rows] < 0])
        if len(missing) and not self._full and os.getpid() == self._owner:

            def decode(index: int) -> None:
                if not self._full:
                    with suppress(DataError):
                        self.read(int(missing[index]))

            scan(len(missing), decode, None, "Decoding images")
        return bool((self._starts[rows] >= 0).all())

    def _store(self, row: int, image: Image.Image) -> None:
        """Copy the pixels of an image into the block if they fit."""
        if os.getpid() != self._owner:
            return
        pixels = np.asarray(image)
        with self._lock:
            start, end = self._free_from, self._free_from + pixels.nbytes
            self._full = self._full or end > self._limit
            if self._full or self._block is None or self._starts[row] >= 0:
                return
            self._free_from = end
            self._block.pixels[start:end] = pixels.reshape(-1)
            self._sizes[row] = image.height, image.width
            self._starts[row] = start  # last: other threads look at it without the lock


def source_of(source: ImageSource) -> ImageSource:
    """Return the source behind a cache, or the source itself."""
    return source.source if isinstance(source, CachedImages) else source


def with_white(splits: Sequence[LabelledImages], white: float | None) -> list[LabelledImages]:
    """Return splits whose images of more than 8 bits are read with this value of white, without a cache if that is new.

    Splits that share a source still share it afterwards.
    """
    changed: dict[int, ImageSource] = {}
    for images in splits:
        source = source_of(images.source)
        if isinstance(source, EncodedImages) and source.reading.white != white and id(images.source) not in changed:
            changed[id(images.source)] = source.with_white(white)
    return [replace(images, source=changed.get(id(images.source), images.source)) for images in splits]


def decodes(source: ImageSource) -> bool:
    """Return whether images are stored in a form that takes time to decode and that may be damaged."""
    return not isinstance(source, ArrayImages)


def pixels(images: LabelledImages, index: int) -> Pixels:
    """Return the image at a position of a split, [height, width, 3], which the caller must not change."""
    source, row = images.source, int(images.rows[index])
    if isinstance(source, CachedImages):
        cached = source.cached(row)
        if cached is not None:
            return cached
    return np.array(source.read(row))


def fill_cache(images: LabelledImages) -> bool:
    """Decode and cache the images of a split before workers start; return whether all of them are cached.

    A split whose source has no cache stays as it is.
    """
    return isinstance(images.source, CachedImages) and images.source.fill(images.rows)


class _Block:
    """Shared memory that worker processes see too, whether forked or started anew; pages are taken when written to."""

    def __init__(self, size: int) -> None:
        if sys.platform == "linux":  # not limited by the size of /dev/shm, which is 64 MB in many containers
            file = os.memfd_create("lpt-images")
            os.ftruncate(file, size)
            self._map(file, size)
        else:
            import torch

            self._take(torch.UntypedStorage._new_shared(size))

    def __getstate__(self) -> Any:
        """Return what a worker that is being started needs to find the same memory."""
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
        import torch

        self._shared = storage
        self.pixels = torch.empty(0, dtype=torch.uint8).set_(storage).numpy()


def decoded_bytes(images: LabelledImages, sample: int = 64) -> int:
    """Estimate the size of all images once decoded, bytes, from an evenly spread sample of them."""
    if not len(images):
        return 0
    positions: Sequence[int] = np.unique(np.linspace(0, len(images) - 1, sample).astype(int)).tolist()
    sizes = [image.width * image.height * 3 for image in map(images.read, positions)]
    return int(np.mean(sizes) * len(images))
