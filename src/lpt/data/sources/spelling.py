"""Take names that look alike and differ in their Unicode form for the same: `é` is one character or two.

macOS writes file names decomposed (NFD), almost everything else composed (NFC). Names are compared in NFC.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from lpt.data.images import FileImages
from lpt.data.manifest import IntArray, LabelledImages
from lpt.data.sources.raw import SPLITS, RawSplit, SplitName
from lpt.system.text import composed, plural, shorten


def unify_classes(
    parts: Mapping[SplitName, RawSplit], notes: list[str], known: Sequence[str] = ()
) -> dict[SplitName, RawSplit]:
    """Return the splits with one spelling of each class: the known one, else that of the first split that has it.

    Args:
        parts: the splits.
        notes: gets a sentence on the classes whose spelling was changed.
        known: names of classes that keep their spelling.
    """
    spelling = {composed(name): name for name in reversed(known)}
    for part in (parts[split] for split in SPLITS if split in parts):
        names = set(part.names)
        for name in part.names:
            key = composed(name)
            spelling.setdefault(key, key if key in names else name)
    changed = sorted({composed(name) for part in parts.values() for name in part.names
                      if spelling[composed(name)] != name})  # fmt: skip
    if not changed:
        return dict(parts)
    notes.append(
        f"{plural(len(changed), 'class')} written in two Unicode forms (NFC and NFD), which look the same; each is "
        f"taken for one: {shorten(changed)}."
    )
    return {split: _respelled(part, spelling) for split, part in parts.items()}


def _respelled(part: RawSplit, spelling: Mapping[str, str]) -> RawSplit:
    names = tuple(dict.fromkeys(spelling[composed(name)] for name in part.names))
    index = {name: code for code, name in enumerate(names)}
    codes = np.array([index[spelling[composed(name)]] for name in part.names], dtype=np.int64)
    return replace(part, names=names, codes=codes[part.codes])


def find_respelled(images: LabelledImages, missing: IntArray, origin: str, notes: list[str]) -> LabelledImages:
    """Return the images with the paths under which the disk has them, where only the Unicode form differs.

    Args:
        images: the images.
        missing: positions of those whose file does not exist.
        origin: what lists them, for the note.
        notes: gets a sentence if any is found.
    """
    source = images.source
    if not isinstance(source, FileImages):
        return images
    listings: dict[str, dict[str, str]] = {}
    renamed = {}
    for row in images.rows[missing].tolist():
        path = _on_disk(source.path(row), listings)
        if path is not None:
            renamed[row] = path
    if not renamed:
        return images
    notes.append(f"{plural(len(renamed), 'image')} of {origin} found under names in another Unicode form (NFC or NFD).")
    base = os.path.join(source.root, "")  # noqa: PTH118
    paths = [renamed.get(row, source.path(row)).removeprefix(base) for row in range(len(source))]
    return replace(images, source=FileImages(Path(source.root), paths))


def _on_disk(path: str, listings: dict[str, dict[str, str]]) -> str | None:
    """Return the path of a file or folder, or the one that differs in its Unicode form; None if there is neither."""
    if os.path.exists(path):  # noqa: PTH110
        return path
    folder, name = os.path.split(path)
    if not name or path.isascii():
        return None
    above = _on_disk(folder, listings) if folder else "."
    if above is None:
        return None
    if above not in listings:
        try:
            listings[above] = {composed(entry): entry for entry in os.listdir(above)}  # noqa: PTH208
        except OSError:
            listings[above] = {}
    entry = listings[above].get(composed(name))
    return None if entry is None else os.path.join(above if folder else "", entry)  # noqa: PTH118
