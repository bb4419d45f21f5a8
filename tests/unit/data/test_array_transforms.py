"""The transform of test images without PyTorch gives, bit for bit, what torchvision gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from lpt.data.decoding import as_rgb
from lpt.data.transforms import Preprocessing
from samples import PREPROCESSING

SIZES = [(24, 24), (37, 21), (1, 90), (300, 201), (27, 27), (640, 24)]


def picture(mode: str, size: tuple[int, int]) -> Image.Image:
    """A picture of noise, width by height."""
    noise = np.random.default_rng(size[0]).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    if mode == "I;16":
        return Image.fromarray(noise[..., 0].astype(np.uint16) * 257)
    return Image.fromarray(noise).convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "CMYK", "RGBA", "1", "LA", "I;16"])
def test_any_mode_is_transformed_as_by_torchvision(mode: str) -> None:
    for size in SIZES:
        rgb = as_rgb(picture(mode, size))
        expected = PREPROCESSING.test_transform()(rgb)
        assert np.array_equal(PREPROCESSING.test_array(rgb), expected.numpy())


@pytest.mark.parametrize("views", [1, 2, 5])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize(("size", "crop"), [((24, 24), 0.875), ((24, 24), 1.0), ((31, 18), 0.9), ((7, 40), 0.33)])
def test_any_setting_gives_the_same_pixels_and_the_same_normalised_numbers(
    size: tuple[int, int], crop: float, interpolation: str, views: int
) -> None:
    changes = {"size": size, "test_crop": crop, "interpolation": interpolation, "test_views": views}
    odd = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    preprocessing = Preprocessing(**{**PREPROCESSING.model_dump(), **changes, **odd})
    for shape in SIZES:
        rgb = picture("RGB", shape)
        expected: torch.Tensor = preprocessing.test_transform()(rgb)
        array = preprocessing.test_array(rgb)
        assert array.dtype == np.uint8
        assert np.array_equal(array, expected.numpy())
        normalised = preprocessing.normalize_array(array)
        assert normalised.dtype == np.float32
        assert np.array_equal(normalised, preprocessing.normalize(expected).numpy())
