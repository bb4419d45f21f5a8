"""Read a folder of class folders, alone or in one folder per split."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from lpt.config.bounds import escaped
from lpt.data.images import IMAGE_SUFFIXES, FileImages
from lpt.data.sources.raw import PLAIN_WORDS, SPLIT_WORDS, RawData, RawSplit, SplitName, split_name
from lpt.data.sources.tree import LeftOut, Walk
from lpt.errors import DataError
from lpt.system.text import plural, shorten

_SHOWN_FAULTS = 5


def read_folder(root: Path, *, skip_faults: bool = False) -> RawData:
    """Read the splits of a folder.

    Folders called train, val, test and the like are splits if `train` holds class folders; otherwise every folder is a
    class and all images are for training. A class folder is read with all folders in it. What is left out (hidden
    files, files of the system, output of LPT ...) is counted in a note. A class folder without images stays a class,
    unless all it holds is output of LPT. A split without a labelled image is noted as unusable.

    Args:
        root: the folder.
        skip_faults: leave out folders and links that cannot be read, and list them in `RawData.skipped`.

    Raises:
        DataError: there is no class folder or no image, a folder or link cannot be read, the class folders hold splits
            or classes instead of images, LPT wrote the folder, or two folders stand for one split.
    """
    data = RawData({})
    try:
        _read(root, data)
    except DataError:
        _refuse_faults(root, data, skip_faults)
        raise
    _refuse_faults(root, data, skip_faults)
    return data


def _read(root: Path, data: RawData) -> None:
    """Read the splits that the folders in the root stand for, or the root as the training split."""
    walk = Walk(root)
    folders = walk.level().folders
    parts = _parts(root, folders)
    train = next((name for name, split in parts.items() if split == "train"), None)
    if train is None or not _folders(root / train):
        data.splits["train"] = _read_classes(root, data)
        return
    for name, split in parts.items():
        if split in data.splits:
            raise DataError(f"{root} has two folders for the {split} split ({shorten(list(parts))}): keep one of them")
        data.add(split, partial(_read_classes, _unwrapped(root / name), data))
    data.skipped += _faults(root, walk.left)
    data.notes += _notes(root, walk.left, loose=_loose(root))
    others = [name for name in folders if name not in parts]
    if others:
        data.notes.append(f"Left out of {root}, since they are not splits ({SPLIT_WORDS}): {shorten(others)}.")


def _parts(root: Path, folders: list[str]) -> dict[str, SplitName]:
    """Return the split of each folder that stands for one.

    Where a folder is called `val`, one called `eval` or `val_data` stands for nothing; nor does one that LPT wrote.
    """
    parts = {name: split for name in folders if (split := split_name(name)) is not None}
    plain = {split for name, split in parts.items() if name.lower() in PLAIN_WORDS}
    return {
        name: split
        for name, split in parts.items()
        if (split not in plain or name.lower() in PLAIN_WORDS) and not _is_output(root / name)
    }


def _is_output(folder: Path) -> bool:
    """Return whether LPT wrote a folder, and nobody put a class folder there."""
    walk = Walk(folder)
    level = walk.level()
    return "." in walk.left.outputs and not level.folders


def _read_classes(root: Path, data: RawData) -> RawSplit:
    """Read one split: the images of each class folder, classes and files in the order of their names."""
    walk = Walk(root)
    level = walk.level()
    folders = sorted(level.folders)
    images = {}
    for folder in folders:
        outputs = len(walk.left.outputs)
        inside = walk.images(folder, above=[""])
        if inside or len(walk.left.outputs) == outputs:
            images[folder] = inside
    data.skipped += _faults(root, walk.left)
    _refuse_inner_splits(root, images)
    if _nothing_to_tell_apart(images):
        raise DataError(_nothing_found(root, images, walk.left, len(level.images + level.links)))
    data.notes += _notes(root, walk.left, len(level.images + level.links)) + _class_notes(root, images)
    codes = np.repeat(np.arange(len(images), dtype=np.int64), [len(files) for files in images.values()])
    paths = [path for files in images.values() for path in files]
    names = tuple(map(escaped, images))
    return RawSplit(FileImages(root, paths), np.arange(len(paths)), codes, names, "names", str(root))


def _nothing_to_tell_apart(images: dict[str, list[str]]) -> bool:
    """Return whether there is no image, or all lie in folders inside of a single folder, which is then no class."""
    filled = {folder: files for folder, files in images.items() if files}
    return not filled or (len(filled) == 1 and all(_inner(path) for files in filled.values() for path in files))


def _refuse_inner_splits(root: Path, images: dict[str, list[str]]) -> None:
    """Raise `DataError` if class folders are divided into train and test: all would be trained on."""
    for folder, files in images.items():
        inner = {deeper.split("/")[1] for path in files if (deeper := _inner(path))}
        splits = {split_name(name): name for name in sorted(inner)}
        if splits.get("train") and (splits.get("test") or splits.get("validation")):
            named = ", ".join(f"{folder}/{name}" for split, name in splits.items() if split)
            raise DataError(
                f"{root}: its class folders are divided into splits ({named}). The splits must lie above the classes: "
                f"{root.name}/train/{folder}, {root.name}/test/{folder}; or list the images in a CSV with columns "
                "image,label,split."
            )


def _inner(path: str) -> str:
    """Return the folder inside of a class folder that an image lies in, with the class folder; empty if it has none."""
    return "/".join(path.split("/", 2)[:2]) if path.count("/") > 1 else ""


def _class_notes(root: Path, images: dict[str, list[str]]) -> list[str]:
    """Write notes about class folders that are empty, or that have folders in them."""
    notes = []
    if empty := [folder for folder, files in images.items() if not files]:
        folders = plural(len(empty), "class folder")
        notes.append(f"{folders} of {root} without an image, kept as classes: {shorten(empty)}.")
    deeper = [inner for files in images.values() for path in files if (inner := _inner(path))]
    if deeper:
        notes.append(
            f"{len(deeper):,} of the {plural(sum(map(len, images.values())), 'image')} of {root} lie in folders inside "
            f"of class folders ({shorten(sorted(set(deeper)), 3)}) and are of the class of the outer folder."
        )
    return notes


def _notes(root: Path, left: LeftOut, loose: int) -> list[str]:
    """Write notes about what was left out of a folder."""
    reasons = left.reasons()
    notes = [f"Left out of {root}: {'; '.join(reasons)}."] if reasons else []
    return notes + (
        [f"Left out of {root}: {plural(loose, 'image')} directly in it, outside of any class folder."] if loose else []
    )


def _faults(root: Path, left: LeftOut) -> list[tuple[str, str]]:
    return [(escaped(str(root / path)), reason) for path, reason in left.faults]


def _refuse_faults(root: Path, data: RawData, skip: bool) -> None:
    """Raise `DataError` if something cannot be read, unless it is to be left out; then add a note."""
    if not data.skipped:
        return
    faults = plural(len(data.skipped), "folder or link").replace("folder or links", "folders or links")
    if skip:
        data.notes.append(f"Left out of {root}: {faults} that cannot be read.")
        return
    named = "\n".join(f"  {path}: {reason}" for path, reason in data.skipped[:_SHOWN_FAULTS])
    more = f"\n  and {len(data.skipped) - _SHOWN_FAULTS} more" if len(data.skipped) > _SHOWN_FAULTS else ""
    raise DataError(
        f"{root}: {faults} in it cannot be read:\n{named}{more}\nChange the permissions, or remove the link; or leave "
        "out what cannot be read with --bad-images skip (data.bad_images: skip)."
    )


def _nothing_found(root: Path, images: dict[str, list[str]], left: LeftOut, loose: int) -> str:
    """Say why a folder holds no labelled image, and what to do."""
    if "." in left.outputs:
        return f"{root} is output of lpt, a run or the like, and no data: give the folder of your images"
    if ".parquet" in left.endings or ".arrow" in left.endings or (root / "dataset_dict.json").exists():
        return f"{root} looks like a Hugging Face data set: write hf:{root}"
    if not images:
        return (
            f"{root} has no class folders ({loose} images lie in it directly). Give each class a folder of its own, "
            f"{root.name}/CLASS/IMAGE.jpg, or list the images in a CSV with columns image,label."
        )
    inner = sorted({_inner(path) for files in images.values() for path in files})
    if inner:
        return (
            f"{root}: its folders hold folders, not images ({shorten(inner, 3)}). The class folders must "
            "lie directly in the folder given, or in train, val and test folders of it; for deeper trees list the "
            "images in a CSV with columns image,label."
        )
    return (
        f"{root}: its {len(images)} folders hold no images (left out: {'; '.join(left.reasons()) or 'nothing'}). "
        f"Accepted are: {' '.join(sorted(IMAGE_SUFFIXES))}."
    )


def _unwrapped(folder: Path) -> Path:
    """Return the folder of a split, or the inner one of `seg_train/seg_train`, as some archives unpack."""
    level = Walk(folder).level()
    inner = folder / level.folders[0] if len(level.folders) == 1 else folder
    same = split_name(inner.name) == split_name(folder.name) and not (level.images or level.links)
    return inner if same and _folders(inner) else folder


def _folders(folder: Path) -> list[str]:
    """Return the folders in a folder that may be classes; none if it cannot be listed."""
    return Walk(folder).level().folders


def _loose(root: Path) -> int:
    """Return how many images lie directly in a folder."""
    level = Walk(root).level()
    return len(level.images) + len(level.links)
