"""Fingerprints of images: whether they are those of before, wherever they lie now."""

from __future__ import annotations

import hashlib
import os

from lpt.data.cache import source_of
from lpt.data.images import FileImages
from lpt.data.manifest import LabelledImages


def data_fingerprint(images: LabelledImages) -> str:
    """Return a SHA-256 of the class names, and of names, labels and sizes of the images, not of their folders."""
    digest = hashlib.sha256("\0".join(images.class_names).encode("utf-8", "backslashreplace"))
    digest.update(images.labels.tobytes())
    digest.update(images.rows.tobytes())
    source = source_of(images.source)
    for index, row in enumerate(images.rows.tolist()):
        if isinstance(source, FileImages):
            name, size = source.name(row), source.stored_bytes(row)
        else:
            name, size = images.name(index), 0
        digest.update(f"{os.path.basename(name)}|{size}\0".encode("utf-8", "backslashreplace"))  # noqa: PTH119
    return digest.hexdigest()
