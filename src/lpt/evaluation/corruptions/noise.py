"""Add noise: of the sensor, of few photons, of broken pixels, and in proportion to the light."""

from __future__ import annotations

import numpy as np

from lpt.evaluation.corruptions.fields import Pixels, at_calibrated_size, gentleness


def gaussian_noise(pixels: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Noise of a standard deviation of `strength` in every value, as in low light."""
    deviation = strength * gentleness(pixels)
    return at_calibrated_size(
        pixels, lambda small: small + deviation * rng.standard_normal(small.shape, dtype=np.float32)
    )


def shot_noise(pixels: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Poisson noise of light that comes in few photons: white is 1 / strength of them."""
    photons = 1 / (strength * gentleness(pixels) ** 2)
    return at_calibrated_size(pixels, lambda small: (rng.poisson(small * photons) / photons).astype(np.float32))


def impulse_noise(pixels: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Salt and pepper: a share `strength` of all values is 0 or 1."""
    share = strength * gentleness(pixels)

    def hit(small: Pixels) -> Pixels:
        draws = rng.random(small.shape, dtype=np.float32)
        return np.where(draws < share, (draws < share / 2).astype(np.float32), small)

    return at_calibrated_size(pixels, hit)


def speckle_noise(pixels: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Noise in proportion to the light: a value v gets a standard deviation of v * `strength`."""
    deviation = strength * gentleness(pixels)
    return at_calibrated_size(
        pixels, lambda small: small * (1 + deviation * rng.standard_normal(small.shape, dtype=np.float32))
    )
