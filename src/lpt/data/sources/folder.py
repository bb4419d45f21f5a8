"""Read a folder of class folders, alone or in one folder per split."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from lpt.config.bounds import escaped
from lpt.data.images import IMAGE_SUFFIXES, FileImages
from lpt.data.sources.raw import SPLIT_WORDS, RawData, RawSplit, split_name
from lpt.errors import DataError
from lpt.system.text import plural, shorten

_SYSTEM_NAMES = frozenset({"thumbs.db", "desktop.ini", "__macosx"})


@dataclass
class _LeftOut:
    """The files and folders that a reader leaves out."""

    endings: Counter[str] = field(default_factory=Counter)
    inner_folders: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)


def read_folder(root: Path) -> RawData:
    """Read the splits of a folder.

    Folders called train, val, test and the like are splits if `train` holds class folders; otherwise every folder is a
    class and all images are for training. Hidden files are left out. A note gives the number of files that are no
    images, and of images outside of class folders. A class folder without images stays a class. A split without a
    labelled image is noted as unusable.

    Raises:
        DataError: there is no class folder or no image, the class folders hold folders instead of images, or two
            folders stand for one split.
    """
    folders = _folders(root)
    parts = {name: split for name in folders if (split := split_name(name)) is not None}
    train = next((name for name, split in parts.items() if split == "train"), None)
    data = RawData({})
    if train is None or not _folders(root / train):
        data.splits["train"] = _read_classes(root, folders, data.notes)
        return data
    for name, split in parts.items():
        if split in data.splits:
            raise DataError(f"{root} has two folders for the {split} split ({shorten(list(parts))}): keep one of them")
        inner = _folders(root / name)
        data.add(split, partial(_read_classes, root / name, inner, data.notes))
    data.notes += _loose_notes(root)
    others = [name for name in folders if name not in parts]
    if others:
        data.notes.append(f"Left out of {root}, since they are not splits ({SPLIT_WORDS}): {shorten(others)}.")
    return data


def _read_classes(root: Path, folders: list[str], notes: list[str]) -> RawSplit:
    """Read one split: the images of each class folder, classes and files in the order of their names."""
    left = _LeftOut()
    paths: list[str] = []
    counts: list[int] = []
    for folder in folders:
        files = _images_in(root, folder, left)
        paths += files
        counts.append(len(files))
    if not paths:
        raise DataError(_nothing_found(root, folders, left))
    notes += _left_notes(root, left) + _loose_notes(root)
    codes = np.repeat(np.arange(len(folders), dtype=np.int64), counts)
    printable = tuple(escaped(folder) for folder in folders)
    return RawSplit(FileImages(root, paths), np.arange(len(paths)), codes, printable, "names", str(root))


def _images_in(root: Path, folder: str, left: _LeftOut) -> list[str]:
    """Return the paths, from `root`, of the images directly in a class folder."""
    files = []
    with os.scandir(root / folder) as entries:
        for entry in entries:
            ending = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122  # half a million `Path`s take seconds
            if _is_hidden(entry.name):
                continue
            if entry.is_dir():
                left.inner_folders.append(f"{folder}/{entry.name}")
            elif ending in IMAGE_SUFFIXES:
                files.append(f"{folder}/{entry.name}")
            else:
                left.endings[ending or "no ending"] += 1
    if not files:
        left.empty.append(folder)
    return sorted(files)


def _left_notes(root: Path, left: _LeftOut) -> list[str]:
    """Write notes about what was left out of class folders."""
    notes = []
    if left.endings:
        files = plural(left.endings.total(), "file")
        kinds = ", ".join(f"{count} {ending}" for ending, count in left.endings.most_common(5))
        notes.append(f"Left out of {root}: {files} without the ending of an image ({kinds}).")
    if left.empty:
        folders = plural(len(left.empty), "class folder")
        notes.append(f"{folders} of {root} without an image, kept as classes: {shorten(left.empty)}.")
    if left.inner_folders:
        notes.append(f"Folders inside class folders of {root} were not looked into: {shorten(left.inner_folders)}.")
    return notes


def _loose_notes(root: Path) -> list[str]:
    """Write a note about images outside of class folders, if there are any."""
    loose = sum(ending in IMAGE_SUFFIXES for ending in _loose_endings(root))
    return (
        [f"Left out of {root}: {plural(loose, 'image')} directly in it, outside of any class folder."] if loose else []
    )


def _loose_endings(root: Path) -> list[str]:
    """Return the endings of the files directly in a folder, without hidden files."""
    with os.scandir(root) as entries:
        return [Path(entry.name).suffix.lower() for entry in entries if entry.is_file() and not _is_hidden(entry.name)]


def _nothing_found(root: Path, folders: list[str], left: _LeftOut) -> str:
    """Say why a folder holds no labelled image, and what to do."""
    files = _loose_endings(root)
    if ".parquet" in files or ".arrow" in files or (root / "dataset_dict.json").exists():
        return f"{root} looks like a Hugging Face data set: write hf:{root}"
    if not folders:
        loose = sum(ending in IMAGE_SUFFIXES for ending in files)
        return (
            f"{root} has no class folders ({loose} images lie in it directly). Give each class a folder of its own, "
            f"{root.name}/CLASS/IMAGE.jpg, or list the images in a CSV with columns image,label."
        )
    if left.inner_folders:
        return (
            f"{root}: its folders hold folders, not images ({shorten(left.inner_folders, 3)}). The class folders must "
            "lie directly in the folder given, or in train, val and test folders of it; for deeper trees list the "
            "images in a CSV with columns image,label."
        )
    others = ", ".join(f"{count} {ending}" for ending, count in left.endings.most_common(5)) or "none at all"
    return (
        f"{root}: its {len(folders)} folders hold no images (other files: {others}). Accepted are: "
        f"{' '.join(sorted(IMAGE_SUFFIXES))}."
    )


def _folders(root: Path) -> list[str]:
    """Return the names of the folders in a folder, sorted, without hidden folders.

    Raises:
        DataError: the folder cannot be listed.
    """
    try:
        with os.scandir(root) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and not _is_hidden(entry.name))
    except OSError as error:
        raise DataError(f"cannot list the folder {root}: {error.strerror}") from None


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES
