"""Read lists of `path label` lines, the form of Places-LT, ImageNet-LT and iNaturalist.

The label is the last field of a line and an integer, so paths may contain spaces.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lpt.data.images import IMAGE_SUFFIXES
from lpt.data.sources.paths import listed_images, stream_files
from lpt.data.sources.raw import RawData, RawSplit, encode_labels
from lpt.data.sources.rows import DELIMITERS, first_line, read_start
from lpt.data.sources.text import Faults, open_text, read_text


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
        elif not _is_index(fields[1]):
            faults.add(line, f"the last field, {fields[1]!r}, is not an integer from 0 up")
        else:
            paths.append(fields[0].strip())
            labels.append(str(int(float(fields[1]))))
    faults.raise_any(
        "Each line must be `path label` with the class index last. For class names use a CSV with columns image,label."
    )
    codes, names, kind = encode_labels(labels)
    data = RawData({})
    source = listed_images(path, paths, image_root, data.notes)
    data.splits["train"] = RawSplit(source, np.arange(len(paths)), codes, names, kind, str(path))
    return data


def is_really_table(path: Path) -> bool:
    """Return whether a list is a table by its first line: fields between commas, not a path and an integer.

    Raises:
        DataError: the file cannot be read.
    """
    first = first_line(read_start(path)).strip()
    return any(mark in first for mark in DELIMITERS) and not _is_index(first.rsplit(None, 1)[-1])


def stream_listed_paths(path: Path, image_root: Path | None, notes: list[str]) -> Iterator[Path]:
    """Yield the image files of a list of paths, with labels after them or without. It is never in memory whole.

    Raises:
        DataError: the file cannot be read.
    """
    labelled = all(_has_label(line) for line in _lines(path))

    def paths() -> Iterator[str]:
        return (line.rsplit(None, 1)[0].strip() if labelled else line for line in _lines(path))

    return stream_files(path, paths, image_root, notes)


def _lines(path: Path) -> Iterator[str]:
    with open_text(path) as file:
        for line in file:
            if text := line.strip():
                yield text


def _has_label(line: str) -> bool:
    fields = line.rsplit(None, 1)
    return len(fields) == 2 and _is_index(fields[1]) and Path(line).suffix.lower() not in IMAGE_SUFFIXES


def _is_index(text: str) -> bool:
    digits, _, decimals = text.partition(".")
    return digits.isascii() and digits.isdigit() and not decimals.strip("0")
