"""Position embeddings for other input sizes than the backbone's, without PyTorch: the numbers of timm."""

from __future__ import annotations

import numpy as np

from lpt.data.manifest import Float32Array


def resample(positions: Float32Array, grid: tuple[int, int]) -> Float32Array:
    """Resample position embeddings to another grid, bicubic and antialiased, [1, D, rows, columns]."""
    if positions.shape[2:] == grid:
        return positions
    rows, columns = (_filter(old, new) for old, new in zip(positions.shape[2:], grid, strict=True))
    return np.einsum("rh,bdhw,cw->bdrc", rows, positions.astype(np.float64), columns, optimize=True).astype(np.float32)


def _filter(old: int, new: int) -> Float32Array:
    """Return the weight of each old point in each new one, [new, old]; in float32, as timm has it from PyTorch."""
    step = np.float32(old / new)
    widening = max(step, np.float32(1))
    centres = step * (np.arange(new, dtype=np.float32) + np.float32(0.5))
    points = np.arange(old, dtype=np.float32)[None]
    weights = _cubic((points - centres[:, None] + np.float32(0.5)) / widening)
    return weights / weights.sum(axis=1, keepdims=True)


def _cubic(distance: Float32Array) -> Float32Array:
    """Return Keys' cubic convolution kernel with a = -0.5."""
    x = np.abs(distance)
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0)).astype(np.float32)
