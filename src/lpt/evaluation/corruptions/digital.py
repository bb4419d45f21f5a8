"""Corrupt pictures as storing and processing does: large pixels, JPEG, warping, few levels of light."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from lpt.evaluation.corruptions.fields import (
    REFERENCE_SIDE,
    Pixels,
    at_calibrated_size,
    gentleness,
    pixel_unit,
    smooth_field,
)


def pixelate(pixels: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Large pixels: the shorter side is left with 1 / `strength` of its pixels (of at most 224)."""
    del rng
    height, width = pixels.shape[:2]
    kept = min(1.0, REFERENCE_SIDE / min(height, width)) * (1 / strength) ** gentleness(pixels)
    small = (max(round(width * kept), 1), max(round(height * kept), 1))
    image = _image(pixels).resize(small, Image.Resampling.BOX).resize((width, height), Image.Resampling.NEAREST)
    return _pixels(image)


def jpeg(pixels: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """JPEG compression of quality 100 / `strength`, in a picture of at most 224 pixels."""
    del rng
    quality = max(round(100 * (1 / strength) ** ((1 + gentleness(pixels)) / 2)), 1)

    def compressed(small: Pixels) -> Pixels:
        stored = io.BytesIO()
        _image(small).save(stored, "JPEG", quality=quality, subsampling=2)
        stored.seek(0)
        with Image.open(stored) as image:
            return _pixels(image)

    return at_calibrated_size(pixels, compressed)


def elastic(pixels: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Warped: every point is moved by a smooth random field, `strength` pixels (at 224) in the root mean square."""
    height, width = pixels.shape[:2]
    reach = strength * pixel_unit(pixels)
    smoothness = max(0.08 * min(height, width), 1.0)
    y, x = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    y = y + reach * smooth_field((height, width), smoothness, rng) / np.sqrt(2)
    x = x + reach * smooth_field((height, width), smoothness, rng) / np.sqrt(2)
    return _sampled(pixels, np.clip(y, 0, height - 1), np.clip(x, 0, width - 1))


def posterize(pixels: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Few levels of light: `1 + 16 / strength`, rounded, between the darkest and the lightest value of the picture."""
    del rng
    steps = max(round(16 / strength), 1)
    low, high = float(pixels.min()), float(pixels.max())
    width = max(high - low, 1e-6) / steps
    return np.asarray(low + np.round((pixels - low) / width) * width, dtype=np.float32)


def _sampled(pixels: Pixels, y: npt.NDArray[np.float64], x: npt.NDArray[np.float64]) -> Pixels:
    """Sample the picture at places between its pixels, bilinear, [H, W, 3]; the places lie inside it."""
    top, left = np.floor(y).astype(np.int64), np.floor(x).astype(np.int64)
    bottom, right = np.minimum(top + 1, pixels.shape[0] - 1), np.minimum(left + 1, pixels.shape[1] - 1)
    down, across = (y - top)[..., None].astype(np.float32), (x - left)[..., None].astype(np.float32)
    above = pixels[top, left] * (1 - across) + pixels[top, right] * across
    below = pixels[bottom, left] * (1 - across) + pixels[bottom, right] * across
    return above * (1 - down) + below * down


def _image(pixels: Pixels) -> Image.Image:
    return Image.fromarray((pixels.clip(0, 1) * 255).round().astype(np.uint8))


def _pixels(image: Image.Image) -> Pixels:
    return np.asarray(image, dtype=np.float32) / np.float32(255)
