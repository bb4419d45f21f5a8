"""Recognise training images by what their files hold: under any name, in any folder."""

from __future__ import annotations

import contextlib
import hashlib

from lpt.data.cache import source_of
from lpt.data.decoding import ImageError
from lpt.data.images import FileImages
from lpt.data.manifest import LabelledImages

SAMPLE = "image_sample"
"""Name of the sample among the settings that a pack was trained with."""
MOST_SAMPLED = 128
"""So many training images are remembered in a pack; of a smaller set all are."""


def sample_files(images: LabelledImages) -> list[str]:
    """Return size and hash of the files of some images, evenly spread; none where images are not in files."""
    source = source_of(images.source)
    if not isinstance(source, FileImages):
        return []
    count = min(len(images), MOST_SAMPLED)
    sample = []
    for number in range(count):
        row = int(images.rows[number * len(images) // count])
        with contextlib.suppress(ImageError):  # it was deleted after training
            sample.append(_entry(source, row, source.stored_bytes(row)))
    return sample


def count_known(images: LabelledImages, sample: list[str]) -> int:
    """Return how many entries of a sample are files of these images; only files of the same size are read."""
    source = source_of(images.source)
    if not sample or not isinstance(source, FileImages):
        return 0
    wanted = set(sample)
    sizes = {entry.partition(":")[0] for entry in wanted}
    entries = set()
    for row in images.rows.tolist():
        with contextlib.suppress(ImageError):  # reading the image reports it
            size = source.stored_bytes(row)
            if str(size) in sizes:
                entries.add(_entry(source, row, size))
    return sum(entry in entries for entry in sample)


def _entry(source: FileImages, row: int, size: int) -> str:
    return f"{size}:{hashlib.sha256(source.content(row)).hexdigest()[:16]}"
