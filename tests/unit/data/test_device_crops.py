"""Crops made as matrix products: the boxes and mirrors of Pillow's path, and its pixels to within 2 levels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from lpt.data.cache import CachedImages
from lpt.data.device_crops import resampled_crops, stacked_whole, suits_device_crops
from lpt.data.images import ArrayImages
from lpt.data.manifest import LabelledImages
from lpt.data.transforms import Preprocessing

NO_CARD = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, NO_CARD])]
SHAPES = [(32, 32), (20, 61), (97, 33), (150, 200), (7, 9), (1, 1), (3, 80)]


def preprocessing(size: tuple[int, int], interpolation: str = "bicubic", flip: bool = True) -> Preprocessing:
    channel = (0.5, 0.5, 0.5)
    return Preprocessing(
        size=size,
        mean=channel,
        std=channel,
        interpolation=interpolation,
        test_crop=0.875,
        crop_area=(0.08, 1.0),
        crop_aspect=(0.75, 1.33),
        flip=flip,
    )


def noise(shape: tuple[int, int], low: int, high: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, (*shape, 3), dtype=np.uint8)


@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_the_training_transform_is_torchvisions(interpolation: str, flip: bool) -> None:
    """Box, mirror and every pixel are those of the v2 transforms at the same state of the generator."""
    chosen = preprocessing((24, 40), interpolation, flip)
    crop = v2.RandomResizedCrop(
        chosen.size, chosen.crop_area, chosen.crop_aspect, InterpolationMode(interpolation), antialias=True
    )
    reference = v2.Compose([crop, *([v2.RandomHorizontalFlip()] if flip else []), v2.PILToTensor()])
    for number, shape in enumerate(SHAPES * 3):
        picture = Image.fromarray(noise(shape, 0, 256, number))
        torch.manual_seed(number)
        expected = reference(picture)
        after = torch.get_rng_state()
        torch.manual_seed(number)
        assert torch.equal(chosen.train_transform()(picture), expected)
        assert torch.equal(torch.get_rng_state(), after)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(16, 16), (96, 64), (224, 224)])
def test_crops_equal_pillows(size: tuple[int, int], interpolation: str, device: str) -> None:
    """Shrinking, enlarging and both at once, images of unequal sizes in one batch, some mirrored."""
    transform = preprocessing(size, interpolation).train_transform()
    images = [noise(shape, 64, 192, number) for number, shape in enumerate(SHAPES * 3)]
    crops, expected = [], []
    for number, image in enumerate(images):
        torch.manual_seed(number)
        crops.append(transform.draw(*image.shape[:2]))
        torch.manual_seed(number)
        expected.append(transform(Image.fromarray(image)))
    assert 0 < sum(crop.mirrored for crop in crops) < len(crops)
    whole = stacked_whole([torch.from_numpy(image) for image in images]).to(device)
    made = resampled_crops(whole, torch.tensor(crops).to(device), size, interpolation).cpu()
    assert torch.equal(made, made.round())
    difference = (made - torch.stack(expected)).abs()
    assert difference.max() <= 2
    assert (difference > 0).float().mean() < 0.05


def test_enlarged_saturated_thumbnails_equal_pillows() -> None:
    """Pure black and white, where the bicubic filter overshoots and Pillow clips after each of its two passes."""
    transform = preprocessing((128, 128)).train_transform()
    images = [noise((32, 32), 0, 2, number) * 255 for number in range(20)]
    crops, expected = [], []
    for number, image in enumerate(images):
        torch.manual_seed(number)
        crops.append(transform.draw(32, 32))
        torch.manual_seed(number)
        expected.append(transform(Image.fromarray(image)))
    made = resampled_crops(torch.from_numpy(np.stack(images)), torch.tensor(crops), (128, 128), "bicubic")
    assert (made - torch.stack(expected)).abs().max() <= 2


def cached(*shapes: tuple[int, int], limit: int = 2**20) -> LabelledImages:
    class Mixed(ArrayImages):
        def read(self, row: int) -> Image.Image:
            return Image.fromarray(noise(shapes[row], 0, 256, row))

    source = CachedImages(Mixed(np.zeros((len(shapes), 1, 1), dtype=np.uint8)), limit)
    return LabelledImages(source, np.arange(len(shapes)), np.zeros(len(shapes), dtype=np.int64), ("a",))


def test_when_crops_are_made_on_the_device() -> None:
    """On a card for kept images of up to twice the input; never for images that are read, never on a CPU."""
    cpu, card = torch.device("cpu"), torch.device("cuda")
    thumbnails, mixed = cached((32, 32), (32, 32)), cached((32, 32), (31, 32))
    assert not suits_device_crops(thumbnails, preprocessing((128, 128)), cpu)
    assert suits_device_crops(mixed, preprocessing((128, 128)), card)
    larger = cached((64, 64), (20, 128))
    assert suits_device_crops(larger, preprocessing((48, 48)), card) is False  # a batch is padded to 64 x 128
    assert suits_device_crops(larger, preprocessing((64, 64)), card)
    assert not suits_device_crops(cached((32, 32), (32, 32), limit=5000), preprocessing((128, 128)), card)
    plain = ArrayImages(np.zeros((2, 32, 32), dtype=np.uint8))
    assert not suits_device_crops(replace(thumbnails, source=plain), preprocessing((128, 128)), card)
