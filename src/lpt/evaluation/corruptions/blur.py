"""Blur pictures: out of focus, moved, zoomed during exposure, and soft."""

from __future__ import annotations

import numpy as np
from PIL import Image

from lpt.evaluation.corruptions.fields import (
    Pixels,
    convolve,
    disc_kernel,
    gaussian_kernel,
    line_kernel,
    pixel_unit,
)

_ZOOMS = 12


def defocus_blur(pixels: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Out of focus: every point becomes a disc with a radius of `strength` pixels (at 224)."""
    del rng
    return convolve(pixels, disc_kernel(strength * pixel_unit(pixels)))


def motion_blur(pixels: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """The camera moved by `strength` pixels (at 224), in a random direction."""
    return convolve(pixels, line_kernel(strength * pixel_unit(pixels), rng.uniform(0, np.pi)))


def zoom_blur(pixels: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """The camera came nearer: the mean of views enlarged by up to 1 + `strength` about the centre."""
    del rng
    height, width = pixels.shape[:2]
    image = Image.fromarray((pixels * 255).round().astype(np.uint8))
    total = pixels.copy()
    for zoom in np.linspace(1, 1 + strength, _ZOOMS)[1:]:
        y, x = height * (1 - 1 / zoom) / 2, width * (1 - 1 / zoom) / 2
        view = image.resize((width, height), Image.Resampling.BILINEAR, box=(x, y, width - x, height - y))
        total += np.asarray(view, dtype=np.float32) / np.float32(255)
    return total / np.float32(_ZOOMS)


def gaussian_blur(pixels: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Soft: a Gaussian with a standard deviation of `strength` pixels (at 224)."""
    del rng
    return convolve(pixels, gaussian_kernel(strength * pixel_unit(pixels)))
