"""Parts of the corruptions: sizes relative to the picture, blur kernels, smooth random fields.

Strengths are calibrated on pictures whose shorter side is 224 pixels. On larger pictures every size in pixels grows
with the shorter side, so that reducing the picture afterwards gives the same view. On smaller pictures it shrinks
somewhat less. Noise and compression do not shrink with the picture, so they are made gentler: an image of 32 pixels
has little to lose.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

Pixels = npt.NDArray[np.float32]
Kernel = npt.NDArray[np.float64]
REFERENCE_SIDE = 224
_SMALL_EXPONENT = 0.8


def relative_size(pixels: Pixels) -> float:
    """Return the shorter side of a picture [H, W, ...] over the 224 pixels of the calibration."""
    return min(pixels.shape[:2]) / REFERENCE_SIDE


def pixel_unit(pixels: Pixels) -> float:
    """Return how many pixels of this picture stand for one pixel of the calibration."""
    size = relative_size(pixels)
    return size if size >= 1 else size**_SMALL_EXPONENT


def gentleness(pixels: Pixels) -> float:
    """Return the part of the full strength that a picture can bear: 0.38 for 32 pixels, within 0.25..1."""
    return float(np.clip(np.sqrt(relative_size(pixels)), 0.25, 1.0))


def at_calibrated_size(pixels: Pixels, change: Callable[[Pixels], Pixels]) -> Pixels:
    """Apply a change of single pixels at no more than the size of the calibration, [H, W, 3] -> [H, W, 3].

    A larger picture is reduced first, and the difference that the change makes is enlarged without smoothing. So noise
    gets a coarser grain and does not vanish when the network's input is made.
    """
    size = relative_size(pixels)
    if size <= 1:
        return change(pixels)
    height, width = (max(round(side / size), 1) for side in pixels.shape[:2])
    small = F.interpolate(torch.from_numpy(pixels).permute(2, 0, 1)[None], (height, width), mode="area")
    reduced = small[0].permute(1, 2, 0).contiguous().numpy()
    added = change(reduced) - reduced
    rows = np.arange(pixels.shape[0]) * height // pixels.shape[0]
    columns = np.arange(pixels.shape[1]) * width // pixels.shape[1]
    return pixels + added[rows[:, None], columns]


def disc_kernel(radius: float) -> Kernel:
    """Return a disc of this radius in pixels; it may be below one pixel."""
    line = np.linspace(-radius, radius, 2 * int(np.ceil(2 * radius)) + 9)
    y, x = (axis.ravel() for axis in np.meshgrid(line, line, indexing="ij"))
    inside = y**2 + x**2 <= radius**2 + 1e-12
    return _splatted(y[inside], x[inside])


def line_kernel(length: float, angle: float) -> Kernel:
    """Return a line of this length in pixels, `angle` radians from horizontal."""
    along = np.linspace(-length / 2, length / 2, 2 * int(np.ceil(2 * length)) + 9)
    return _splatted(along * np.sin(angle), along * np.cos(angle))


def gaussian_kernel(deviation: float) -> Kernel:
    """Return a Gaussian of this standard deviation in pixels."""
    reach = 3.5 * deviation
    line = np.linspace(-reach, reach, 2 * int(np.ceil(2 * reach)) + 9)
    middle = _splatted(np.zeros_like(line), line, np.exp(-0.5 * (line / deviation) ** 2)).sum(axis=0)
    return np.outer(middle, middle)


def convolve(values: Pixels, kernel: Kernel) -> Pixels:
    """Convolve each channel with a kernel of odd size, mirrored at the borders, [H, W] or [H, W, 3]."""
    reach = len(kernel) // 2
    extra = [(reach, reach)] * 2 + [(0, 0)] * (values.ndim - 2)
    padded = np.pad(values, extra, mode="symmetric")
    shape = padded.shape[:2]
    centred = np.zeros(shape)
    centred[: len(kernel), : len(kernel)] = kernel
    transfer = np.fft.rfft2(np.roll(centred, (-reach, -reach), axis=(0, 1)))
    transfer = transfer.reshape(transfer.shape + (1,) * (values.ndim - 2))
    blurred = np.fft.irfft2(np.fft.rfft2(padded, axes=(0, 1)) * transfer, s=shape, axes=(0, 1))
    height, width = values.shape[:2]
    return blurred[reach : reach + height, reach : reach + width].astype(np.float32)


def smooth_field(shape: tuple[int, int], deviation: float, rng: np.random.Generator) -> Pixels:
    """Draw Gaussian noise smoothed over `deviation` pixels, [H, W], mean 0 and standard deviation 1."""
    return _filtered(shape, rng, lambda frequency: np.exp(-2 * (np.pi * deviation * frequency) ** 2))


def cloud_field(shape: tuple[int, int], rng: np.random.Generator) -> Pixels:
    """Draw fractal noise with the spectrum of clouds, [H, W], mean 0 and standard deviation 1."""
    return _filtered(shape, rng, lambda frequency: np.maximum(frequency, 1e-6) ** -1.7)


def _filtered(
    shape: tuple[int, int],
    rng: np.random.Generator,
    gain: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]],
) -> Pixels:
    """Draw standardised white noise with this gain at each frequency in cycles per pixel; 0 if nothing varies."""
    frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None])
    spectrum = np.fft.rfft2(rng.standard_normal(shape)) * gain(frequency)
    spectrum[0, 0] = 0
    field = np.fft.irfft2(spectrum, s=shape)
    return (field / max(float(field.std()), 1e-12)).astype(np.float32)


def _splatted(
    y: npt.NDArray[np.float64], x: npt.NDArray[np.float64], weights: npt.NDArray[np.float64] | None = None
) -> Kernel:
    """Return points around 0 as a kernel of odd size and sum 1; the four pixels around a point share it."""
    weights = np.ones_like(y) if weights is None else weights
    reach = int(np.ceil(max(np.abs(y).max(), np.abs(x).max(), 0.0))) + 1
    size = 2 * reach + 1
    top, left = np.floor(y).astype(np.int64), np.floor(x).astype(np.int64)
    down, right = y - top, x - left
    kernel = np.zeros(size * size)
    for row, row_share in ((top, 1 - down), (top + 1, down)):
        for column, column_share in ((left, 1 - right), (left + 1, right)):
            cells = (row + reach) * size + column + reach
            kernel += np.bincount(cells, weights=weights * row_share * column_share, minlength=size * size)
    return (kernel / kernel.sum()).reshape(size, size)
