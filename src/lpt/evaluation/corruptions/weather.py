"""Draw weather over pictures: fog, snow, rain, and glaring light."""

from __future__ import annotations

import numpy as np

from lpt.evaluation.corruptions.fields import (
    Pixels,
    cloud_field,
    convolve,
    gentleness,
    line_kernel,
    pixel_unit,
    smooth_field,
)

_RAIN_GREY = 0.8


def fog(pixels: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Clouds of light mixed into the picture: `strength` parts of fog to one of the picture."""
    height, width = pixels.shape[:2]
    clouds = np.clip(0.72 + 0.16 * cloud_field((height, width), rng), 0.2, 1.0)
    return (pixels + strength * clouds[..., None]) / (1 + strength)


def snow(pixels: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Driven flakes over about a share `strength` of the picture, which pales under them."""
    height, width = pixels.shape[:2]
    strength *= (1 + gentleness(pixels)) / 2
    unit = pixel_unit(pixels)
    field = smooth_field((height, width), 0.9 * unit, rng)
    flakes = np.clip(2 * (field - np.quantile(field, 1 - strength)), 0, 1)
    layer = convolve(flakes, line_kernel(5 * unit, rng.uniform(0.25, 0.75) * np.pi))[..., None]
    grey = pixels.mean(axis=2, keepdims=True)
    paled = pixels + min(2 * strength, 0.7) * (np.clip(1.2 * grey + 0.35, 0, 1) - pixels)
    return paled + np.clip(1.6 * layer, 0, 1) * (1 - paled)


def rain(pixels: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Slanting streaks over about a share `strength` of the picture, which darkens and loses contrast behind them."""
    height, width = pixels.shape[:2]
    strength *= (1 + gentleness(pixels)) / 2
    unit = pixel_unit(pixels)
    length = max(22 * unit, 1.0)
    field = smooth_field((height, width), 0.45 * unit, rng)
    drops = np.clip(field - np.quantile(field, 1 - strength / length), 0, 1)
    streaks = convolve(drops, line_kernel(length, rng.uniform(0.4, 0.6) * np.pi))[..., None]
    dim = pixels * (1 - 0.55 * strength) + 0.12 * strength
    return dim + np.clip(1.1 * length * streaks, 0, 0.75) * (_RAIN_GREY - dim)


def brightness(pixels: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Glaring light: the HSV value v becomes v + strength * (1 - v), hue and saturation stay."""
    del rng
    value = pixels.max(axis=2, keepdims=True)
    lighter = value + strength * (1 - value)
    return np.where(value > 0, pixels * lighter / np.maximum(value, 1e-6), lighter)
