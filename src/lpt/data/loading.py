"""Batches: images read, augmented and stacked, in this process or in workers."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lpt.data.cache import pixels, remember
from lpt.data.device_crops import stacked_whole
from lpt.data.manifest import IntArray, LabelledImages
from lpt.data.sampling import Sampler
from lpt.data.transforms import Preprocessing
from lpt.errors import DataError
from lpt.system.randomness import global_generator_restored, seed_of

Delivered = TypeVar("Delivered")


class StreamBatch(NamedTuple):
    """The images of one stream in one step.

    `images` uint8 [B, 3, height, width] and `labels` [B]; or whole images [B, H, W, 3] and the `crops` [B, 5] that
    `resampled_crops` takes of them.
    """

    images: Tensor
    labels: Tensor
    crops: Tensor | None = None


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
        whole: bool,
    ) -> None:
        self._images, self._samplers, self._batch_size, self._whole = images, samplers, batch_size, whole
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
        tensors, crops = [], []
        for position, index in zip(self._positions, indices, strict=True):
            generator.manual_seed(seed_of(*self._seed, stream, step, position, "augmentation"))
            if self._whole:
                image = pixels(self._images, int(index))
                crops.append(self._transform.draw(*image.shape[:2]))
                tensors.append(torch.from_numpy(image))
            else:
                tensors.append(self._transform(self._images.read(int(index))))
        labels = torch.from_numpy(self._images.labels[indices])
        if self._whole:
            return StreamBatch(stacked_whole(tensors), labels, torch.tensor(crops, dtype=torch.int32))
        return StreamBatch(torch.stack(tensors), labels)


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
    whole: bool = False,
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
        whole: give whole images and their crops, to be cut out where training runs (`lpt.data.device_crops`).
    """
    if workers:
        remember(images)
    positions = range(batch_size) if positions is None else positions
    dataset = _TrainBatches(images, samplers, batch_size, preprocessing, seed, last_step, positions, whole)
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
    yield from _delivered(loader)


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
    if workers:
        remember(images)
    loader = DataLoader(
        _Views(images, numbers, views, preprocessing, seed),
        batch_size=batch_size,
        num_workers=workers,
        worker_init_fn=_leave_interrupts_to_the_parent,
        collate_fn=_stacked_views,
        generator=torch.Generator(),
    )
    yield from _delivered(loader)


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
    if workers:
        remember(images)
    loader = DataLoader(
        _EvaluationImages(images, preprocessing),
        batch_size=batch_size,
        num_workers=workers,
        worker_init_fn=_leave_interrupts_to_the_parent,
        collate_fn=_stacked,
        generator=torch.Generator(),
    )
    yield from _delivered(loader)


def _delivered(loader: Iterable[Delivered | DataError]) -> Iterator[Delivered]:
    """A loader's batches; an error that a worker handed over is raised."""
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
