"""Read lists of `path label` lines, the form of Places-LT, ImageNet-LT and iNaturalist.

The label is the last field of a line and an integer, so paths may contain spaces.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lpt.data.sources.raw import RawData, RawSplit, encode_labels
from lpt.data.sources.text import Faults, listed_images, read_text


def read_path_list(path: Path, image_root: Path | None) -> RawData:
    """Read the images of a list as one training split.

    Raises:
        DataError: lines have no label, or one that is not an integer from 0 up; the message names the first few.
    """
    paths, labels = [], []
    faults = Faults(path)
    for line, text in enumerate(read_text(path).split("\n"), start=1):
        fields = text.rsplit(None, 1)
        if not fields:
            continue
        if len(fields) == 1:
            faults.add(line, f"{text.strip()!r} has no label")
        elif not (fields[1].isascii() and fields[1].isdigit()):
            faults.add(line, f"the last field, {fields[1]!r}, is not an integer from 0 up")
        else:
            paths.append(fields[0].strip())
            labels.append(str(int(fields[1])))
    faults.raise_any(
        "Each line must be `path label` with the class index last. For class names use a CSV with columns image,label."
    )
    codes, names, kind = encode_labels(labels)
    data = RawData({})
    source = listed_images(path, paths, image_root, data.notes)
    data.splits["train"] = RawSplit(source, np.arange(len(paths)), codes, names, kind, str(path))
    return data
