"""Find images that occur twice: listed again, or stored again byte for byte.

Only stored images of equal length are compared, first by a piece from their middle, then whole. So most images are
never read.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from hashlib import blake2b
from typing import NamedTuple, cast

from lpt.data.images import FileImages, InspectableSource
from lpt.data.manifest import LabelledImages
from lpt.data.scan import scan
from lpt.errors import DataError

_PIECE_BYTES = 4096


class Place(NamedTuple):
    """The place of an image in a data set: its split, and its position in it."""

    split: str
    position: int


def listed_again(splits: dict[str, LabelledImages]) -> list[list[Place]]:
    """Return groups of two or more places of the same file, or of the same row of another source.

    Groups come in the order of `splits`. Nothing is read. Two paths are the same if their text is the same.
    """
    return _shared(
        (images.source.path(row) if isinstance(images.source, FileImages) else (id(images.source), row), name, index)
        for name, images in splits.items()
        for index, row in enumerate(images.rows.tolist())
    )


def find_duplicates(
    splits: dict[str, LabelledImages], workers: int | None = None, *, without: Collection[Place] = ()
) -> list[list[Place]]:
    """Return groups of two or more images with the same stored bytes, in the order of `splits`.

    Images that cannot be read do not count, nor do sources that give no stored bytes.

    Args:
        splits: the splits to compare, by name.
        workers: threads; None: one for each core this process may use.
        without: places to leave out, such as those of images that are listed again.
    """
    left_out = frozenset(without)
    places = [
        place
        for name, images in splits.items()
        if hasattr(images.source, "stored_bytes")
        for place in map(Place, itertools.repeat(name), range(len(images)))
        if place not in left_out
    ]

    def length(source: InspectableSource, row: int) -> int | None:
        return source.stored_bytes(row) or None  # empty files are broken, not alike

    def piece(source: InspectableSource, row: int) -> bytes:
        middle = max(0, source.stored_bytes(row) // 2 - _PIECE_BYTES // 2)
        return _digest(source.content(row, middle, _PIECE_BYTES))

    def whole(source: InspectableSource, row: int) -> bytes:
        return _digest(source.content(row))

    groups = [places]
    for key in (length, piece, whole):
        groups = _split_groups(splits, groups, key, workers)
    return groups


def _split_groups(
    splits: dict[str, LabelledImages],
    groups: Sequence[list[Place]],
    key: Callable[[InspectableSource, int], Hashable],
    workers: int | None,
) -> list[list[Place]]:
    """Divide the groups by a key; drop groups of a single image."""
    members = [(number, place) for number, group in enumerate(groups) for place in group]

    def key_of(number: int) -> Hashable:
        images = splits[members[number][1].split]
        row = int(images.rows[members[number][1].position])
        try:
            return key(cast(InspectableSource, images.source), row)
        except DataError:
            return None

    keys = scan(len(members), key_of, workers, "Comparing images")
    return _shared(
        ((number, value), *place) for (number, place), value in zip(members, keys, strict=True) if value is not None
    )


def _shared(keyed: Iterable[tuple[Hashable, str, int]]) -> list[list[Place]]:
    """Group places by their key, from (key, split, position) of each; drop groups of one place."""
    places: dict[Hashable, list[Place]] = {}
    for key, split, position in keyed:
        places.setdefault(key, []).append(Place(split, position))
    return [group for group in places.values() if len(group) > 1]


def _digest(content: bytes) -> bytes:
    return blake2b(content, digest_size=16).digest()
