"""Labelled images: the form in which the rest of LPT sees any data source.

`lpt.data.sources` opens a data source; after that only these two classes are passed around. Pixels stay in the source
and are read one at a time (`lpt.data.images`), so a manifest of half a million images is small.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from lpt.errors import DataError

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]


class ImageSource(Protocol):
    """A source of pixels: files, the column of a table, an array in memory."""

    def __len__(self) -> int: ...

    def read(self, row: int) -> Image.Image:
        """Read the image of a row, upright and RGB.

        Raises:
            DataError: the image cannot be read; the message names it.
        """
        ...

    def name(self, row: int) -> str:
        """Return the name of a row for messages: a path, or `file.parquet row 17`."""
        ...


@dataclass(frozen=True)
class LabelledImages:
    """Images of one split with their classes.

    Args:
        source: source of the pixels.
        rows: row of each image in `source`, [n].
        labels: class index of each image, [n], each in `0..len(class_names)-1`.
        class_names: names of all classes of the data set, also of those with no image in this split.
    """

    source: ImageSource
    rows: IntArray
    labels: IntArray
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.rows.shape != self.labels.shape or self.rows.ndim != 1:
            raise DataError(f"rows {self.rows.shape} and labels {self.labels.shape} must be two [n] arrays")
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < len(self.class_names):
            raise DataError(
                f"labels run from {self.labels.min()} to {self.labels.max()}, but there are "
                f"{len(self.class_names)} class names: labels must lie in 0..{len(self.class_names) - 1}"
            )

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def class_counts(self) -> IntArray:
        """Number of images of each class, [C]."""
        return np.bincount(self.labels, minlength=len(self.class_names)).astype(np.int64)

    def read(self, index: int) -> Image.Image:
        """Read the RGB image at a position of this split."""
        return self.source.read(int(self.rows[index]))

    def name(self, index: int) -> str:
        """Return the name, for messages, of the image at a position of this split."""
        return self.source.name(int(self.rows[index]))

    def subset(self, indices: IntArray) -> LabelledImages:
        """Return the images at these positions, in this order."""
        return replace(self, rows=self.rows[indices], labels=self.labels[indices])


@dataclass(frozen=True)
class Splits:
    """A data set as a run uses it.

    Args:
        train: images to learn from.
        validation: images for choices and the temperature, if any.
        test: images to measure on once at the end, if any.
        counts_before_cut: training images of each class before a validation split was cut out, [C]; they define the
            shot groups.
        skipped: images left out because they cannot be read, as (name, reason).
        notes: what LPT did while opening the data that a person should know, one sentence each.
    """

    train: LabelledImages
    validation: LabelledImages | None
    test: LabelledImages | None
    counts_before_cut: IntArray
    skipped: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of all classes, in label order."""
        return self.train.class_names
