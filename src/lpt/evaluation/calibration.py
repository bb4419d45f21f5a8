"""Turn cosines into calibrated probabilities: scale and temperature."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lpt.data.manifest import FloatArray
from lpt.errors import DataError

Floats = npt.NDArray[np.floating]

LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.1, 10.0
_ROWS, _CELLS = 2048, 1 << 18
"""Most rows, and about the most cells, of a table of images and classes that are worked on at a time in float64."""


def probabilities(cosines: npt.ArrayLike, scale: float, temperature: float = 1.0) -> Floats:
    """Return softmax(scale * cosine / temperature) over the classes, [n, C] -> [n, C] of the same precision.

    It is computed in float64, in chunks of rows.
    """
    z = _floats(cosines)
    p = np.empty_like(z)
    for rows in chunks(z):
        p[rows] = _softmax(z[rows].astype(np.float64) * (scale / temperature))
    return p


def fit_temperature(cosines: npt.ArrayLike, labels: npt.ArrayLike, scale: float) -> float:
    """Find the temperature T that makes softmax(scale * cosine / T) most likely (Guo et al., ICML 2017, section 4.2).

    The negative log-likelihood is convex in b = 1 / T, so its slope rises with b:
    dNLL/db = mean_i(E_p[s z_i] - s z_i,y). Newton steps inside a shrinking bracket find its zero, in float64. T stays
    in 0.1..10: without this bound it would fall to 0 if every image is right, and grow without end if the cosines say
    nothing. T is 1 if all cosines of every image are equal.

    Args:
        cosines: cosine of each validation image with each class, [n, C].
        labels: their true classes, [n].
        scale: factor s of the cosines.

    Raises:
        DataError: there is no image, shapes do not fit, a class is outside 0..C-1, or a cosine is not finite.
    """
    z, y = np.asarray(cosines), np.asarray(labels)
    _check(z, y)
    if np.ptp(z, axis=1).max() == 0:
        return 1.0
    low, high = 1 / HIGHEST_TEMPERATURE, 1 / LOWEST_TEMPERATURE
    if _slope(z, y, scale, low)[0] >= 0:
        return HIGHEST_TEMPERATURE
    if _slope(z, y, scale, high)[0] <= 0:
        return LOWEST_TEMPERATURE
    inverse = 1.0
    for _ in range(100):
        slope, curvature = _slope(z, y, scale, inverse)
        low, high = (low, inverse) if slope > 0 else (inverse, high)
        following = inverse - slope / curvature if curvature > 0 else low
        if not low < following < high:
            following = (low + high) / 2
        if abs(following - inverse) <= 1e-12 * inverse:
            break
        inverse = following
    return 1 / inverse


def chunks(table: Floats) -> list[slice]:
    """Cut the rows of a table [n, C] into slices."""
    step = min(max(_CELLS // max(table.shape[-1], 1), 1), _ROWS)
    return [slice(start, start + step) for start in range(0, len(table), step)]


def _slope(z: Floats, y: npt.NDArray[np.integer], scale: float, inverse: float) -> tuple[float, float]:
    """Return the first and second derivative of the mean negative log-likelihood by b = 1 / T."""
    first = second = 0.0
    for rows in chunks(z):
        logits = scale * z[rows].astype(np.float64)
        true = logits[np.arange(len(logits)), y[rows]]
        p = _softmax(logits * inverse)
        expected = (p * logits).sum(axis=1)
        first += float((expected - true).sum())
        second += float((p * (logits - expected[:, None]) ** 2).sum())
    return first / len(y), second / len(y)


def _floats(values: npt.ArrayLike) -> Floats:
    """Return values as an array of float32 or float64."""
    array = np.asarray(values)
    return array if array.dtype == np.float32 else array.astype(np.float64, copy=False)


def _softmax(logits: FloatArray) -> FloatArray:
    exp = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(exp / exp.sum(axis=-1, keepdims=True))


def _check(cosines: Floats, labels: npt.NDArray[np.integer]) -> None:
    if cosines.ndim != 2 or labels.shape != cosines.shape[:1]:
        raise DataError(f"a temperature needs cosines [n, C] and labels [n]; got {cosines.shape} and {labels.shape}")
    if not len(labels):
        raise DataError("a temperature cannot be fitted without validation images")
    if labels.min() < 0 or labels.max() >= cosines.shape[1]:
        raise DataError(f"labels run from {labels.min()} to {labels.max()}; there are {cosines.shape[1]} classes")
    if wrong := sum(int((~np.isfinite(cosines[rows])).sum()) for rows in chunks(cosines)):
        raise DataError(f"{wrong} cosines are not finite")
