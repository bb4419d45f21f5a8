"""Images of more than 8 bits: which there are, and how much of their range they use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from lpt.data.cache import source_of
from lpt.data.images import EncodedImages
from lpt.data.manifest import LabelledImages
from lpt.data.pixels import DeepRange
from lpt.data.scan import scan
from lpt.errors import DataError

Item = TypeVar("Item")
FEW_LEVELS = 64
"""A deep image that has fewer grey levels than this in 8 bits, and more as it is stored, uses part of its range."""


class DeepImages(NamedTuple):
    """Deep images that were looked at: name and range of each, and whether there may be more of them."""

    ranges: list[tuple[str, DeepRange]]
    sampled: bool

    @property
    def shallow(self) -> list[tuple[str, DeepRange]]:
        """Those that use part of their range, the fewest levels first."""
        shallow = [(name, used) for name, used in self.ranges if used.high > used.low and used.levels < FEW_LEVELS]
        return sorted(shallow, key=lambda entry: entry[1].levels)


def find_deep(
    splits: Sequence[LabelledImages],
    *,
    headers: int | None = None,
    decoded: int | None = None,
    workers: int | None = None,
) -> DeepImages:
    """Find deep images and the values that they use. Images that cannot be read are passed over.

    Args:
        splits: where to look.
        headers: most headers to read, evenly spread; None: all.
        decoded: most deep images to decode, evenly spread; None: all.
        workers: threads; None: one for each core this process may use.
    """
    places = [
        (source, row)
        for images in splits
        if isinstance(source := source_of(images.source), EncodedImages)
        for row in images.rows.tolist()
    ]
    looked_at = _spread(places, headers)

    def is_deep(number: int) -> bool:
        source, row = looked_at[number]
        try:
            return source.is_deep(row)
        except DataError:
            return False

    are_deep = scan(len(looked_at), is_deep, workers, "Reading headers")
    deep = [place for place, wanted in zip(looked_at, are_deep, strict=True) if wanted]
    chosen = _spread(deep, decoded)

    def used(number: int) -> DeepRange | None:
        source, row = chosen[number]
        try:
            return source.deep_range(row)
        except DataError:
            return None

    ranges = scan(len(chosen), used, workers, "Reading deep images")
    named = [(source.name(row), spread) for (source, row), spread in zip(chosen, ranges, strict=True) if spread]
    return DeepImages(named, len(looked_at) < len(places) or len(chosen) < len(deep))


def largest_value(images: LabelledImages) -> tuple[float | None, int]:
    """Return the largest value of the deep images of a split, and their number; None and 0 if there is none."""
    ranges = find_deep([images]).ranges
    largest = max((used.high for _, used in ranges), default=0.0)
    return (largest if largest > 0 else None), len(ranges)


def _spread(items: list[Item], most: int | None) -> list[Item]:
    if most is None or len(items) <= most:
        return items
    return [items[place] for place in np.linspace(0, len(items) - 1, most).astype(int)]
