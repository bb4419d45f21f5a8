"""Change colour and tone: little contrast, loud colours, a cast of one colour, no colour."""

from __future__ import annotations

import numpy as np

from lpt.evaluation.corruptions.fields import Pixels

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def contrast(pixels: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Little contrast: a share `strength` of every channel's distance from its mean is taken away."""
    del rng
    mean = pixels.mean(axis=(0, 1), keepdims=True)
    return np.asarray(mean + (1 - strength) * (pixels - mean), dtype=np.float32)


def saturation(pixels: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Loud colours: the distance from grey times 1 + `strength`. A grey picture stays as it is."""
    del rng
    grey = (pixels @ _LUMA)[..., None]
    return np.asarray(grey + (1 + strength) * (pixels - grey), dtype=np.float32)


def colour_cast(pixels: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Light of one random colour: the channels are multiplied by gains whose logarithms differ by about `strength`."""
    angle = rng.uniform(0, 2 * np.pi) + 2 * np.pi / 3 * np.arange(3)
    return pixels * np.exp(strength * np.cos(angle)).astype(np.float32)


def greyscale(pixels: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """A share `strength` of all colour is lost. A grey picture stays as it is."""
    del rng
    grey = (pixels @ _LUMA)[..., None]
    return pixels + strength * (grey - pixels)
