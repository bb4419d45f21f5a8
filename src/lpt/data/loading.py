"""Batches: images read, augmented and stacked, in this process or in workers."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lpt.data.manifest import ImageSource, IntArray, LabelledImages
from lpt.data.sampling import Sampler
from lpt.data.transforms import Preprocessing
from lpt.errors import DataError
from lpt.randomness import global_generator_restored, seed_of

CACHE_LIMIT_BYTES = 2**30


class StreamBatch(NamedTuple):
    """The images of one stream in one step: `images` uint8 [B, 3, height, width] and `labels` [B]."""

    images: Tensor
    labels: Tensor


class RememberedImages:
    """A source that keeps decoded images, up to a limit in bytes; beyond it images are read again.

    It is for small sets drawn many times. A worker process keeps its own.
    """

    def __init__(self, source: ImageSource, limit_bytes: int = CACHE_LIMIT_BYTES) -> None:
        self._source = source
        self._free = limit_bytes
        self._kept: dict[int, Image.Image] = {}

    def __len__(self) -> int:
        return len(self._source)

    def name(self, row: int) -> str:
        """As the source names it."""
        return self._source.name(row)

    def read(self, row: int) -> Image.Image:
        """The kept image, or the source's."""
        if row in self._kept:
            return self._kept[row]
        image = self._source.read(row)
        size = image.width * image.height * 3
        if size <= self._free:
            self._free -= size
            self._kept[row] = image
        return image


class _TrainBatches(Dataset[dict[str, StreamBatch] | DataError]):
    """Item t is step t: one batch of every stream. Augmentation is seeded by (seed, phase, stream, step, position)."""

    def __init__(
        self,
        images: LabelledImages,
        samplers: dict[str, Sampler],
        batch_size: int,
        preprocessing: Preprocessing,
        seed: tuple[int | str, ...],
        steps: int,
        positions: range,
    ) -> None:
        self._images, self._samplers, self._batch_size = images, samplers, batch_size
        self._transform = preprocessing.train_transform()
        self._seed, self._steps, self._positions = seed, steps, positions

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> dict[str, StreamBatch] | DataError:
        try:
            with global_generator_restored() as generator:
                return {stream: self._batch(stream, step, generator) for stream in self._samplers}
        except DataError as error:  # handed over whole: torch would raise a worker's error as another one
            return error

    def _batch(self, stream: str, step: int, generator: torch.Generator) -> StreamBatch:
        indices = self._samplers[stream].draw(step, self._batch_size)[self._positions]
        tensors = []
        for position, index in zip(self._positions, indices, strict=True):
            image = self._images.read(int(index))
            generator.manual_seed(seed_of(*self._seed, stream, step, position, "augmentation"))
            tensors.append(self._transform(image))
        return StreamBatch(torch.stack(tensors), torch.from_numpy(self._images.labels[indices]))


def train_batches(
    images: LabelledImages,
    samplers: dict[str, Sampler],
    *,
    batch_size: int,
    preprocessing: Preprocessing,
    seed: tuple[int | str, ...],
    first_step: int,
    last_step: int,
    workers: int,
    pin_memory: bool = False,
    positions: range | None = None,
) -> Iterator[dict[str, StreamBatch]]:
    """Batches of steps `first_step` .. `last_step - 1`, in order; `DataError` for an image that cannot be read.

    Args:
        images: the training split.
        samplers: a sampler for each stream.
        batch_size: images of each stream in a step, over all processes.
        preprocessing: how images are cropped and resized.
        seed: what augmentation is a function of, beside stream, step and position: (run seed, phase).
        workers: processes that read ahead; 0 reads in this process.
        pin_memory: page-locked batches, for a CUDA device.
        positions: which positions of each step's batches to give (this process's share); None: all.
    """
    positions = range(batch_size) if positions is None else positions
    dataset = _TrainBatches(images, samplers, batch_size, preprocessing, seed, last_step, positions)
    loader = DataLoader(
        dataset,
        batch_size=None,
        sampler=range(first_step, last_step),
        num_workers=workers,
        pin_memory=pin_memory,
        prefetch_factor=2 if workers else None,
        worker_init_fn=_leave_interrupts_to_the_parent,
        generator=torch.Generator(),  # else the loader draws its workers' seeds from the global one
    )
    for batch in loader:
        if isinstance(batch, DataError):
            raise batch
        yield batch


class _Views(Dataset["Tensor | DataError"]):
    """Item i is one augmented view of an image; its augmentation is seeded by (seed, image, view)."""

    def __init__(
        self, images: LabelledImages, numbers: IntArray, views: int, preprocessing: Preprocessing, seed: int
    ) -> None:
        self._images, self._numbers, self._views, self._seed = images, numbers, views, seed
        self._transform = preprocessing.train_transform()

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, item: int) -> Tensor | DataError:
        index, view = divmod(int(self._numbers[item]), self._views)
        try:
            image = self._images.read(index)
        except DataError as error:
            return error
        with global_generator_restored() as generator:
            generator.manual_seed(seed_of(self._seed, "view", index, view, "augmentation"))
            augmented: Tensor = self._transform(image)
            return augmented


def view_batches(
    images: LabelledImages,
    numbers: IntArray,
    *,
    views: int,
    batch_size: int,
    preprocessing: Preprocessing,
    seed: int,
    workers: int,
) -> Iterator[Tensor]:
    """Fixed augmented views in order, uint8 [B, 3, height, width] each; `DataError` for one that cannot be read.

    Args:
        images: the training split.
        numbers: which views, each as image * views + view, [n].
        views: views of each image.
        batch_size: views at a time; the last batch is as short as it is.
        preprocessing: how images are cropped and resized.
        seed: seed of the run.
        workers: processes that read ahead.
    """
    loader = DataLoader(
        _Views(images, numbers, views, preprocessing, seed),
        batch_size=batch_size,
        num_workers=workers,
        worker_init_fn=_leave_interrupts_to_the_parent,
        collate_fn=_stacked_views,
        generator=torch.Generator(),
    )
    for batch in loader:
        if isinstance(batch, DataError):
            raise batch
        yield batch


def _stacked_views(items: Sequence[Tensor | DataError]) -> Tensor | DataError:
    """One batch of views, or the first error among them."""
    errors = [item for item in items if isinstance(item, DataError)]
    return errors[0] if errors else torch.stack([item for item in items if isinstance(item, Tensor)])


class _EvaluationImages(Dataset[tuple[Tensor, int] | DataError]):
    def __init__(self, images: LabelledImages, preprocessing: Preprocessing) -> None:
        self._images = images
        self._transform = preprocessing.test_transform()

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Tensor, int] | DataError:
        try:
            return self._transform(self._images.read(index)), int(self._images.labels[index])
        except DataError as error:
            return error


def evaluation_batches(
    images: LabelledImages, *, batch_size: int, preprocessing: Preprocessing, workers: int
) -> Iterator[StreamBatch]:
    """All images in order with the test transform, the last batch as short as it is."""
    loader = DataLoader(
        _EvaluationImages(images, preprocessing),
        batch_size=batch_size,
        num_workers=workers,
        worker_init_fn=_leave_interrupts_to_the_parent,
        collate_fn=_stacked,
        generator=torch.Generator(),
    )
    for batch in loader:
        if isinstance(batch, DataError):
            raise batch
        yield batch


def _leave_interrupts_to_the_parent(worker: int) -> None:
    """A terminal sends Ctrl-C to workers too; they are ended by the parent once it has saved."""
    del worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _stacked(items: Sequence[tuple[Tensor, int] | DataError]) -> StreamBatch | DataError:
    """One batch of single images, or the first error among them."""
    tensors, labels = [], []
    for item in items:
        if isinstance(item, DataError):
            return item
        tensors.append(item[0])
        labels.append(item[1])
    return StreamBatch(torch.stack(tensors), torch.tensor(labels))


def decoded_bytes(images: LabelledImages, sample: int = 64) -> int:
    """Estimated size of all images decoded, bytes, from an evenly spread sample of them."""
    if not len(images):
        return 0
    picked: Sequence[int] = np.unique(np.linspace(0, len(images) - 1, sample).astype(int)).tolist()
    sizes = [image.width * image.height * 3 for image in map(images.read, picked)]
    return int(np.mean(sizes) * len(images))
