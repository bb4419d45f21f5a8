"""The reference image of packs, and how outputs for it are compared; without PyTorch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lpt.data.manifest import Float32Array
from lpt.packs.info import Reference

REFERENCE_TOLERANCE = 2e-3
_GOLDEN = 0.6180339887498949


class ReferenceOutput(NamedTuple):
    """The output of a model for a reference image; fields as in `Reference`."""

    cosines: list[float]
    mixed: list[float] | None = None
    keys: list[float] | None = None


def reference_array(size: tuple[int, int], variant: int) -> Float32Array:
    """Return an image made by a formula, the same on every machine, roughly normalised, [1, 3, height, width]."""
    height, width = size
    rows = np.linspace(0, 6.283185, height)[:, None]
    columns = np.linspace(0, 6.283185, width)[None]
    waves = [np.sin((1 + band) * rows + band + variant) * np.cos((2 + band) * columns) for band in range(3)]
    return np.stack(waves)[None].astype(np.float32)


def mixing_weights(count: int) -> npt.NDArray[np.float64]:
    """Return weights of length 1 by which all group prompts are summed to one, [M].

    The weights follow the golden ratio: all differ, neighbours by much, and none is small. Their signs vary, so the
    common part of the prompts does not hide the rest. The sum shows a change of any prompt or of their order.
    """
    points = (np.arange(1, count + 1) * _GOLDEN) % 1 - 0.5
    weights = points + np.sign(points) / 2
    return np.asarray(weights / np.linalg.norm(weights))


def largest_difference(stored: Reference, now: ReferenceOutput) -> float:
    """Return the largest difference between an output and the stored one; values that an old pack lacks are skipped."""
    pairs = [(stored.cosines, now.cosines), (stored.mixed, now.mixed), (stored.keys, now.keys)]
    present = [np.subtract(a, b) for a, b in pairs if a is not None and b is not None]
    return float(np.abs(np.concatenate(present)).max())
