"""Batches: read, augment and stack images, in this process or in workers."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lpt.data.cache import fill_cache, pixels
from lpt.data.device_crops import stacked_whole
from lpt.data.manifest import IntArray, LabelledImages
from lpt.data.sampling import Sampler
from lpt.data.transforms import Preprocessing
from lpt.errors import DataError
from lpt.system.interrupt import HANG_UP
from lpt.system.randomness import global_generator_restored, seed_of

Delivered = TypeVar("Delivered")
_AHEAD_BYTES = 2**31
"""Most bytes of batches that all workers together read ahead of the one that they are at."""


class StreamBatch(NamedTuple):
    """The images of one stream in one step.

    `images` is uint8 [B, 3, height, width] and `labels` [B]. Or `images` holds whole images [B, H, W, 3], and `crops`
    [B, 5] the parts that `resampled_crops` cuts out.
    """

    images: Tensor
    labels: Tensor
    crops: Tensor | None = None


class _TrainBatches(Dataset[dict[str, StreamBatch] | DataError]):
    """Item t is step t: one batch of every stream.

    (seed, phase, stream, step, position) seed the augmentation of an image.
    """

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
        except DataError as error:  # returned, not raised: torch would raise the error of a worker as another one
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
    """Yield the batches of steps `first_step` .. `last_step - 1`, in order.

    Args:
        images: the training split.
        samplers: a sampler for each stream.
        batch_size: images of each stream in a step, over all processes.
        preprocessing: how images are cropped and resized.
        seed: (run seed, phase), which seed the augmentation together with stream, step and position.
        workers: processes that read ahead; 0 reads in this process.
        pin_memory: page-locked batches, for a CUDA device.
        positions: positions of each batch that this process takes; None: all.
        whole: give whole images and their crops, to cut out on the training device (`lpt.data.device_crops`).

    Raises:
        DataError: an image cannot be read.
    """
    if workers:
        fill_cache(images)
    positions = range(batch_size) if positions is None else positions
    step_bytes = len(samplers) * len(positions) * _image_bytes(preprocessing)
    dataset = _TrainBatches(images, samplers, batch_size, preprocessing, seed, last_step, positions, whole)
    loader = DataLoader(
        dataset,
        batch_size=None,
        sampler=range(first_step, last_step),
        num_workers=workers,
        pin_memory=pin_memory,
        prefetch_factor=_batches_ahead(step_bytes, workers),
        worker_init_fn=_ignore_interrupts,
        generator=torch.Generator(),  # otherwise the loader draws the seeds of its workers from the global one
    )
    yield from _raise_errors(loader)


class _Views(Dataset["Tensor | DataError"]):
    """Item i is one augmented view of an image; (seed, image, view) seed its augmentation."""

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
    """Yield batches of fixed augmented views in order, uint8 [B, 3, height, width] each.

    Args:
        images: the training split.
        numbers: numbers of the views, image * views + view, [n].
        views: views of each image.
        batch_size: views in a batch; the last batch may be shorter.
        preprocessing: how images are cropped and resized.
        seed: seed of the run.
        workers: processes that read ahead; 0 reads in this process.

    Raises:
        DataError: an image cannot be read.
    """
    if workers:
        fill_cache(images)
    loader = DataLoader(
        _Views(images, numbers, views, preprocessing, seed),
        batch_size=batch_size,
        num_workers=workers,
        prefetch_factor=_batches_ahead(batch_size * _image_bytes(preprocessing), workers),
        worker_init_fn=_ignore_interrupts,
        collate_fn=_stack_views,
        generator=torch.Generator(),
    )
    yield from _raise_errors(loader)


def _stack_views(items: Sequence[Tensor | DataError]) -> Tensor | DataError:
    """Stack views in a batch, or return the first error among them."""
    errors = [item for item in items if isinstance(item, DataError)]
    return errors[0] if errors else torch.stack([item for item in items if isinstance(item, Tensor)])


class _EvaluationImages(Dataset[tuple[Tensor, int] | DataError]):
    """Item i is image i under the test transform, with its label."""

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
    """Yield all images in order under the test transform; the last batch may be shorter.

    Raises:
        DataError: an image cannot be read.
    """
    if workers:
        fill_cache(images)
    loader = DataLoader(
        _EvaluationImages(images, preprocessing),
        batch_size=batch_size,
        num_workers=workers,
        prefetch_factor=_batches_ahead(batch_size * preprocessing.test_views * _image_bytes(preprocessing), workers),
        worker_init_fn=_ignore_interrupts,
        collate_fn=_stack,
        generator=torch.Generator(),
    )
    yield from _raise_errors(loader)


def _image_bytes(preprocessing: Preprocessing) -> int:
    """Return the bytes of an image at the size of the network's input."""
    return 3 * preprocessing.size[0] * preprocessing.size[1]


def _batches_ahead(batch_bytes: int, workers: int) -> int | None:
    """Return how many batches each worker reads ahead: 2, or 1 where 2 of all workers would take too many bytes."""
    if not workers:
        return None
    return 2 if 2 * workers * batch_bytes <= _AHEAD_BYTES else 1


def _raise_errors(loader: Iterable[Delivered | DataError]) -> Iterator[Delivered]:
    """Yield the batches of a loader; raise an error that a worker returned."""
    try:
        for batch in loader:
            if isinstance(batch, DataError):
                raise batch
            yield batch
    except (ConnectionError, EOFError) as error:  # it died while it handed over a batch, before PyTorch noticed
        raise RuntimeError(f"DataLoader worker (pid unknown) closed its connection: {error}") from error


def _ignore_interrupts(worker: int) -> None:
    """Ignore Ctrl-C and a closed terminal in a worker, which gets them too: the parent ends it once it has saved."""
    del worker
    for number in (signal.SIGINT, HANG_UP):
        if number is not None:
            signal.signal(number, signal.SIG_IGN)


def _stack(items: Sequence[tuple[Tensor, int] | DataError]) -> StreamBatch | DataError:
    """Stack single images in a batch, or return the first error among them."""
    tensors, labels = [], []
    for item in items:
        if isinstance(item, DataError):
            return item
        tensors.append(item[0])
        labels.append(item[1])
    return StreamBatch(torch.stack(tensors), torch.tensor(labels))
