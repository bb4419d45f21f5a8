"""Arrange classes, group prompts and queries so that what is alike lies side by side."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lpt.data.manifest import FloatArray, IntArray


class Plane(NamedTuple):
    """Vectors in the plane of their two principal components.

    Args:
        points: coordinates, [n, 2].
        explained: share of the variance that each of the two explains.
    """

    points: FloatArray
    explained: tuple[float, float]


def prompt_order(use: npt.ArrayLike) -> IntArray:
    """Return the group prompts in an order in which neighbours are picked by the same classes, [M].

    A greedy chain: it begins with the most used prompt, and goes on with the one whose column is most alike (cosine).

    Args:
        use: share of a class's picks that each prompt has, [C, M].
    """
    columns = np.nan_to_num(np.asarray(use, dtype=np.float64)).T
    total = columns.sum(axis=1)
    lengths = np.linalg.norm(columns, axis=1)
    unit = columns / np.where(lengths > 0, lengths, 1)[:, None]
    alike = unit @ unit.T
    chain = [int(total.argmax())]
    left = np.ones(len(columns), dtype=bool)
    left[chain[0]] = False
    while left.any():
        nearest = np.where(left, alike[chain[-1]] + 1e-9 * total / max(total.sum(), 1), -1)
        chain.append(int(nearest.argmax()))
        left[chain[-1]] = False
    return np.array(chain, dtype=np.int64)


def class_order(use: npt.ArrayLike, prompts: npt.ArrayLike) -> IntArray:
    """Return the classes in an order in which neighbours pick the same prompts; classes without picks come last, [C].

    They are sorted by their most picked prompt, then by the mean place of all their picks.

    Args:
        use: as for `prompt_order`, [C, M].
        prompts: the order of the prompts, [M].
    """
    rows = np.nan_to_num(np.asarray(use, dtype=np.float64))[:, np.asarray(prompts)]
    total = rows.sum(axis=1)
    first = np.where(total > 0, rows.argmax(axis=1), rows.shape[1])
    centre = rows @ np.arange(rows.shape[1]) / np.where(total > 0, total, 1)
    return np.lexsort((np.arange(len(rows)), centre, first)).astype(np.int64)


def principal_plane(vectors: npt.ArrayLike) -> Plane:
    """Project vectors, scaled to unit length, onto their two principal components, [n, D] -> [n, 2].

    Unit length, because group prompts are picked by cosine. The sign of a component is that of its largest entry.
    """
    x = np.asarray(vectors, dtype=np.float64)
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    x = x / np.where(lengths > 0, lengths, 1)
    x = x - x.mean(axis=0)
    variances, axes = np.linalg.eigh(x.T @ x)  # ascending
    axes = axes[:, ::-1][:, :2]
    axes = axes * np.where(np.take_along_axis(axes, np.abs(axes).argmax(axis=0)[None], axis=0) < 0, -1, 1)
    total = max(float(variances.sum()), np.finfo(np.float64).tiny)
    first, second = (max(float(value), 0.0) / total for value in variances[::-1][:2])
    return Plane(x @ axes, (first, second))
