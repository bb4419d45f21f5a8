"""Batches: what is drawn, how it is augmented, and that neither hangs on workers, history or the global generator."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lpt.data.cache import CachedImages, decoded_bytes
from lpt.data.decoding import ImageError
from lpt.data.images import ArrayImages
from lpt.data.loading import StreamBatch, evaluation_batches, train_batches
from lpt.data.manifest import LabelledImages
from lpt.data.sampling import ClassBalanced, InstanceBalanced
from lpt.data.transforms import Preprocessing
from lpt.errors import DataError
from lpt.system.randomness import global_generator_restored, seed_of

HEIGHT, WIDTH = 20, 24


def preprocessing(**changes: Any) -> Preprocessing:
    values: dict[str, Any] = dict(
        size=(16, 16),
        mean=(0.5, 0.4, 0.3),
        std=(0.2, 0.3, 0.4),
        interpolation="bicubic",
        test_crop=0.875,
        crop_area=(0.2, 1.0),
        crop_aspect=(0.75, 1.33),
        flip=True,
    )
    return Preprocessing(**{**values, **changes})


@pytest.fixture(scope="module")
def images() -> LabelledImages:
    """Eleven noisy images of three classes; the last class has one."""
    pixels = np.random.default_rng(0).integers(0, 256, (11, HEIGHT, WIDTH, 3), dtype=np.uint8)
    labels = np.array([0] * 7 + [1] * 3 + [2])
    return LabelledImages(ArrayImages(pixels), np.arange(11), labels, ("a", "b", "c"))


def batches(images: LabelledImages, **changes: Any) -> Iterator[dict[str, StreamBatch]]:
    seed = changes.pop("seed", (0, 1))
    samplers = {
        "balanced": ClassBalanced(images.labels, 4, *seed, "balanced"),
        "instance": InstanceBalanced(len(images), *seed, "instance"),
    }
    options: dict[str, Any] = dict(
        batch_size=6, preprocessing=preprocessing(), first_step=0, last_step=5, workers=0, seed=seed
    )
    return train_batches(images, samplers, **{**options, **changes})


def assert_same(item: dict[str, StreamBatch], other: dict[str, StreamBatch]) -> None:
    assert item.keys() == other.keys()
    for stream in item:
        assert torch.equal(item[stream].images, other[stream].images)
        assert torch.equal(item[stream].labels, other[stream].labels)


# --- training ---------------------------------------------------------------------------------------------------------


def test_a_repeated_image_is_augmented_anew(images: LabelledImages) -> None:
    """The only image of a rare class fills four places of a batch with four different crops."""
    batch = next(batches(images, batch_size=12))["balanced"]
    rare = batch.images[batch.labels == 2]
    assert len(rare) == 4
    for item, other in itertools.combinations(rare, 2):
        assert not torch.equal(item, other)


def test_augmentation_is_a_function_of_seed_phase_stream_step_and_position(images: LabelledImages) -> None:
    """Each image is what the transform makes of it under the seed of its place, and of nothing else."""
    seed, step = (7, 2), 3
    batch = next(batches(images, seed=seed, first_step=step, last_step=step + 1))
    transform = preprocessing().train_transform()
    drawn = InstanceBalanced(len(images), *seed, "instance").draw(step, 6)
    for position, index in enumerate(drawn):
        with global_generator_restored() as generator:
            generator.manual_seed(seed_of(*seed, "instance", step, position, "augmentation"))
            expected = transform(images.read(int(index)))
        assert torch.equal(batch["instance"].images[position], expected)
        assert batch["instance"].labels[position] == images.labels[index]


@pytest.mark.parametrize("seed", [(1, 1), (0, 2)])
def test_seed_and_phase_change_the_augmentation(images: LabelledImages, seed: tuple[int, int]) -> None:
    """Phase 2 does not see phase 1's crops again."""
    single = images.subset(np.array([0]))  # so that the draws are the same
    item, other = next(batches(single)), next(batches(single, seed=seed))
    for stream in item:
        assert not torch.equal(item[stream].images, other[stream].images)


def test_steps_and_streams_differ(images: LabelledImages) -> None:
    """The two streams of a step, and a stream's two steps, crop the same image differently."""
    single = images.subset(np.array([0]))
    first, second = itertools.islice(batches(single), 2)
    assert not torch.equal(first["balanced"].images, first["instance"].images)
    assert not torch.equal(first["balanced"].images, second["balanced"].images)


def test_workers_and_first_step_change_nothing(images: LabelledImages) -> None:
    """Two reading processes give the batches that none gives; a run resumed at step 3 gets step 3."""
    alone = list(batches(images))
    for item, other in zip(alone, batches(images, workers=2), strict=True):
        assert_same(item, other)
    for item, other in zip(alone[3:], batches(images, first_step=3), strict=True):
        assert_same(item, other)


def test_past_the_last_step_there_is_nothing(images: LabelledImages) -> None:
    """Resuming a phase that is already done draws no batch."""
    assert list(batches(images, first_step=5)) == []


@pytest.mark.parametrize("workers", [0, 1])
def test_the_global_generator_is_left_alone(images: LabelledImages, workers: int) -> None:
    """A user's own random numbers are the same with or without LPT's loading in between."""
    torch.manual_seed(5)
    before = torch.get_rng_state()
    list(batches(images, last_step=2, workers=workers))
    assert torch.equal(torch.get_rng_state(), before)
    list(evaluation_batches(images, batch_size=4, preprocessing=preprocessing(), workers=workers))
    assert torch.equal(torch.get_rng_state(), before)


class _Broken(ArrayImages):
    """A source of which one image became unreadable after the data was checked."""

    def read(self, row: int) -> Image.Image:
        if row == 4:
            raise ImageError("photos/four.jpg", "it is cut short")
        return super().read(row)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_stops_with_its_name(workers: int) -> None:
    """A worker's error arrives as the `ImageError` it was, not as torch's RuntimeError with a traceback for a text."""
    source = _Broken(np.zeros((6, 8, 8), dtype=np.uint8))
    broken = LabelledImages(source, np.arange(6), np.array([0, 1] * 3), ("a", "b"))
    with pytest.raises(DataError, match=r"photos/four.jpg.*it is cut short"):
        list(batches(broken, workers=workers))
    with pytest.raises(DataError, match=r"photos/four.jpg.*it is cut short"):
        list(evaluation_batches(broken, batch_size=4, preprocessing=preprocessing(), workers=workers))


# --- evaluation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_keeps_the_order_and_the_short_last_batch(images: LabelledImages, workers: int) -> None:
    """All images once, in order, whatever the batch size and the number of readers."""
    some = images.subset(np.array([10, 3, 3, 0, 8, 7, 1]))
    got = list(evaluation_batches(some, batch_size=3, preprocessing=preprocessing(), workers=workers))
    assert [len(batch.labels) for batch in got] == [3, 3, 1]
    assert torch.cat([batch.labels for batch in got]).tolist() == some.labels.tolist()
    transform = preprocessing().test_transform()
    for index, pixels in enumerate(torch.cat([batch.images for batch in got])):
        assert torch.equal(pixels, transform(some.read(index)))


# --- cached images ----------------------------------------------------------------------------------------------------


class _Counted(ArrayImages):
    """Counts what is read."""

    reads = 0

    def read(self, row: int) -> Image.Image:
        self.reads += 1
        return super().read(row)


def test_cached_images_honour_their_limit() -> None:
    """Within the limit an image is decoded once, beyond it again and again; the pixels are the same either way."""
    pixels = np.random.default_rng(1).integers(0, 256, (5, 10, 10, 3), dtype=np.uint8)
    source = _Counted(pixels)
    kept = CachedImages(source, limit_bytes=2 * 300 + 299)
    for _ in range(3):
        for row in range(5):
            np.testing.assert_array_equal(np.asarray(kept.read(row)), pixels[row])
    assert source.reads == 2 + 3 * 3
    assert (len(kept), kept.name(2)) == (5, "image 2")


def test_cached_images_change_no_batch(images: LabelledImages) -> None:
    """Keeping images in memory is a matter of speed alone: augmentation never touches the kept picture."""
    kept = LabelledImages(CachedImages(images.source), images.rows, images.labels, images.class_names)
    for item, other in zip(batches(images), batches(kept), strict=True):
        assert_same(item, other)


def test_decoded_size_is_estimated(images: LabelledImages) -> None:
    """What `auto` decides upon: bytes of all pictures once decoded."""
    assert decoded_bytes(images) == 11 * HEIGHT * WIDTH * 3
    assert decoded_bytes(images.subset(np.array([], dtype=np.int64))) == 0


# --- transforms -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(16, 16), (16, 32), (24, 8)])
@pytest.mark.parametrize("shape", [(20, 24), (5, 60), (1, 1), (90, 7)])
def test_every_picture_becomes_the_input_size(size: tuple[int, int], shape: tuple[int, int]) -> None:
    """Height and width are not mixed up, and the smallest and longest pictures are taken."""
    picture = Image.fromarray(np.zeros((*shape, 3), dtype=np.uint8))
    both = preprocessing(size=size)
    for transform in (both.train_transform(), both.test_transform()):
        made = transform(picture)
        assert made.shape == (3, *size)
        assert made.dtype == torch.uint8


@pytest.mark.parametrize(
    ("size", "test_crop"), [((16, 16), 0.875), ((16, 32), 0.8), ((16, 16), 1.0), ((14, 14), 0.875)]
)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_test_transform_is_the_published_one(size: tuple[int, int], test_crop: float, interpolation: str) -> None:
    """Resize to size / test_crop whatever the aspect (8/7 of the size in the paper), then the centre, as by PIL."""
    pixels = np.random.default_rng(2).integers(0, 256, (37, 50, 3), dtype=np.uint8)
    box = [round(side / test_crop) for side in size]
    mode = Image.Resampling[interpolation.upper()]
    resized = np.asarray(Image.fromarray(pixels).resize((box[1], box[0]), mode))
    top, left = round((box[0] - size[0]) / 2), round((box[1] - size[1]) / 2)
    expected = resized[top : top + size[0], left : left + size[1]].transpose(2, 0, 1)
    chosen = preprocessing(size=size, test_crop=test_crop, interpolation=interpolation)
    np.testing.assert_array_equal(chosen.test_transform()(Image.fromarray(pixels)).numpy(), expected)


def test_five_views_are_the_centre_and_the_corners_of_the_same_resized_image() -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (37, 50, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    item, five = (preprocessing(size=(16, 14), test_crop=0.8, test_views=views) for views in (1, 5))
    whole = np.asarray(picture.resize((18, 20), Image.Resampling[item.interpolation.upper()])).transpose(2, 0, 1)
    views = five.test_transform()(picture).numpy()
    np.testing.assert_array_equal(views[0], item.test_transform()(picture).numpy())
    corners = [
        whole[:, rows, columns] for rows in (slice(16), slice(-16, None)) for columns in (slice(14), slice(-14, None))
    ]
    assert sorted(view.tobytes() for view in views[1:]) == sorted(corner.tobytes() for corner in corners)
    assert views.shape == (5, 3, 16, 14)


def test_two_views_are_the_centre_and_its_mirror_image() -> None:
    picture = Image.fromarray(np.random.default_rng(2).integers(0, 256, (37, 50, 3), dtype=np.uint8))
    one, two = (preprocessing(size=(16, 14), test_crop=0.8, test_views=views) for views in (1, 2))
    centre = one.test_transform()(picture).numpy()
    np.testing.assert_array_equal(two.test_transform()(picture).numpy(), np.stack([centre, np.flip(centre, axis=-1)]))


def ramp() -> LabelledImages:
    """A picture that gets brighter from left to right: a mirrored crop gets darker."""
    pixels = np.broadcast_to(np.linspace(0, 255, 32).astype(np.uint8), (1, 32, 32))
    return LabelledImages(ArrayImages(np.ascontiguousarray(pixels)), np.array([0]), np.array([0]), ("a", "b"))


@pytest.mark.parametrize("flip", [True, False])
def test_mirroring_is_what_flip_says(flip: bool) -> None:
    """Off, no training image is ever mirrored (letters, digits, left and right hands); on, half of them are."""
    batch = next(batches(ramp(), batch_size=64, preprocessing=preprocessing(flip=flip)))["instance"].images.float()
    mirrored = int((batch[:, 0, :, 0] > batch[:, 0, :, -1]).all(dim=1).sum())
    assert 16 <= mirrored <= 48 if flip else mirrored == 0


def test_normalisation_is_the_backbones() -> None:
    """(value / 255 - mean) / std for each channel; what is handed in is not changed."""
    pixels = torch.randint(0, 256, (2, 3, 4, 5), dtype=torch.uint8)
    before = pixels.clone()
    made = preprocessing().normalize(pixels)
    mean, std = torch.tensor((0.5, 0.4, 0.3))[:, None, None], torch.tensor((0.2, 0.3, 0.4))[:, None, None]
    torch.testing.assert_close(made, (pixels.float() / 255 - mean) / std)
    assert torch.equal(pixels, before)
