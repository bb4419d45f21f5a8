"""What the corruptions are made of: sizes relative to the picture, blur kernels, smooth random fields.

Strengths are calibrated on pictures whose shorter side is 224 pixels. On larger ones everything that is measured in
pixels grows with the shorter side, so that reducing the picture afterwards gives the same view. On smaller ones it
shrinks somewhat less than that, and what does not shrink with the picture (noise, compression) is made gentler: an
image of 32 pixels has little to lose.
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
    """The shorter side of a picture [H, W, ...] over the 224 pixels of the calibration."""
    return min(pixels.shape[:2]) / REFERENCE_SIDE


def pixel_unit(pixels: Pixels) -> float:
    """How many pixels of this picture one pixel of the calibration stands for."""
    size = relative_size(pixels)
    return size if size >= 1 else size**_SMALL_EXPONENT


def gentleness(pixels: Pixels) -> float:
    """How much of the full strength a picture can bear, at most 1: 0.38 for 32 pixels, never below 0.25."""
    return float(np.clip(np.sqrt(relative_size(pixels)), 0.25, 1.0))


def at_calibrated_size(pixels: Pixels, change: Callable[[Pixels], Pixels]) -> Pixels:
    """A change that belongs to single pixels, made on at most the size of the calibration, [H, W, 3] -> [H, W, 3].

    A larger picture is reduced for it, and what the change added is enlarged without smoothing: noise gets a coarser
    grain, so that it does not vanish when the network's input is made.
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
    """A disc of this radius in pixels; radii below one pixel are fine."""
    line = np.linspace(-radius, radius, 2 * int(np.ceil(2 * radius)) + 9)
    y, x = (axis.ravel() for axis in np.meshgrid(line, line, indexing="ij"))
    inside = y**2 + x**2 <= radius**2 + 1e-12
    return _splatted(y[inside], x[inside])


def line_kernel(length: float, angle: float) -> Kernel:
    """A line of this length in pixels, `angle` radians from horizontal."""
    along = np.linspace(-length / 2, length / 2, 2 * int(np.ceil(2 * length)) + 9)
    return _splatted(along * np.sin(angle), along * np.cos(angle))


def gaussian_kernel(deviation: float) -> Kernel:
    """A Gaussian of this standard deviation in pixels."""
    reach = 3.5 * deviation
    line = np.linspace(-reach, reach, 2 * int(np.ceil(2 * reach)) + 9)
    middle = _splatted(np.zeros_like(line), line, np.exp(-0.5 * (line / deviation) ** 2)).sum(axis=0)
    return np.outer(middle, middle)


def convolve(values: Pixels, kernel: Kernel) -> Pixels:
    """Each channel convolved with a kernel of odd size, mirrored at the borders, [H, W] or [H, W, 3]."""
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
    """Gaussian noise smoothed over `deviation` pixels, [H, W], mean 0 and standard deviation 1."""
    return _filtered(shape, rng, lambda frequency: np.exp(-2 * (np.pi * deviation * frequency) ** 2))


def cloud_field(shape: tuple[int, int], rng: np.random.Generator) -> Pixels:
    """Fractal noise whose amplitude falls with frequency as clouds' does, [H, W], mean 0 and standard deviation 1."""
    return _filtered(shape, rng, lambda frequency: np.maximum(frequency, 1e-6) ** -1.7)


def _filtered(
    shape: tuple[int, int],
    rng: np.random.Generator,
    gain: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]],
) -> Pixels:
    """White noise with the gain given at each frequency (cycles per pixel), standardised; 0 where nothing varies."""
    frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None])
    spectrum = np.fft.rfft2(rng.standard_normal(shape)) * gain(frequency)
    spectrum[0, 0] = 0
    field = np.fft.irfft2(spectrum, s=shape)
    return (field / max(float(field.std()), 1e-12)).astype(np.float32)


def _splatted(
    y: npt.NDArray[np.float64], x: npt.NDArray[np.float64], weights: npt.NDArray[np.float64] | None = None
) -> Kernel:
    """Points around 0 as a kernel of odd size and sum 1: each is shared by the four pixels around it."""
    weights = np.ones_like(y) if weights is None else weights
    reach = int(np.ceil(max(np.abs(y).max(), np.abs(x).max(), 0.0))) + 1
    size = 2 * reach + 1
    top, left = np.floor(y).astype(np.int64), np.floor(x).astype(np.int64)
    down, right = y - top, x - left
    kernel = np.zeros(size * size)
    for row, of_row in ((top, 1 - down), (top + 1, down)):
        for column, of_column in ((left, 1 - right), (left + 1, right)):
            cells = (row + reach) * size + column + reach
            kernel += np.bincount(cells, weights=weights * of_row * of_column, minlength=size * size)
    return (kernel / kernel.sum()).reshape(size, size)
