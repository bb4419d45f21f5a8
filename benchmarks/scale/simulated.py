"""Write a data set of the full size over a small set of image files."""

from __future__ import annotations

import csv
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

LARGEST, SMALLEST = 1000, 2
TEST_IMAGES_OF_A_CLASS = 3
PIXELS = 64


class Row(NamedTuple):
    """A line of a manifest: path from the folder of the manifest, class index, split."""

    image: str
    label: int
    split: str


@dataclass(frozen=True)
class Sizes:
    """The sizes of a data set: training images, classes, and image files that the manifests point at."""

    images: int
    classes: int
    files: int


def class_counts(images: int, classes: int) -> np.ndarray:
    """Return training images of each class, [C]: 1,000 * (1 + c / b)^-p down to 2, with p so that the sum is right.

    What rounding leaves goes to the classes after the first, one image each. For too many or too few images the largest
    class has another size.
    """
    largest = min(max(min(LARGEST, images // 4), 12 * images // classes), images // 2)
    place = np.arange(classes) / (classes - 1)

    def counts(power: float) -> np.ndarray:
        ratio = (largest / SMALLEST) ** (1 / power) - 1
        return np.maximum(np.floor(largest * (1 + place * ratio) ** -power), SMALLEST).astype(np.int64)

    low, high = 0.05, 50.0  # the larger the power, the longer the head: more images
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if counts(middle).sum() <= images else (low, middle)
    sizes = counts(low)
    short = images - int(sizes.sum())
    if not 0 <= short <= 20 * classes:
        raise SystemExit(f"{classes} classes cannot share {images} images with {largest} to {SMALLEST} a class")
    sizes[1:] += short // (classes - 1)
    sizes[1 : 1 + short % (classes - 1)] += 1
    return np.sort(sizes)[::-1]


def class_name(label: int) -> str:
    """Return a name as long as that of a species."""
    return f"Genusname speciesname {label:04d}"


def write_data(folder: Path, sizes: Sizes, fractions: list[float], seed: int) -> None:
    """Write the files, and the data set in each form: `table.csv`, `train.txt` and `test.txt`, and a folder `tree`.

    The rows of the table and of the lists point at the files, each many times. The tree has a file for each image, hard
    links to the same files. `table_<n>.csv` are tables of a part of the images, for the cost against their number.
    """
    random = np.random.default_rng(seed)
    _write_files(folder / "files", sizes.files, random)
    rows = _rows(sizes.images, sizes, random)
    _write_table(folder / "table.csv", rows)
    for split in ("train", "test"):
        lines = [f"{row.image} {row.label}\n" for row in rows if row.split == split]
        (folder / f"{split}.txt").write_text("".join(lines), encoding="utf-8")
    for fraction in fractions:
        images = int(sizes.images * fraction)
        _write_table(folder / f"table_{images}.csv", _rows(images, sizes, random))


def write_tree(folder: Path, sizes: Sizes, seed: int) -> None:
    """Write `tree/train` and `tree/test`, class folders of hard links."""
    for number, row in enumerate(_rows(sizes.images, sizes, np.random.default_rng(seed))):
        class_folder = folder / "tree" / row.split / class_name(row.label)
        class_folder.mkdir(parents=True, exist_ok=True)
        _link(folder / row.image, class_folder / f"{number:06d}.jpg")


def _rows(images: int, sizes: Sizes, random: np.random.Generator) -> list[Row]:
    """List every image of train and test in random order, with the files in turn."""
    counts = class_counts(images, sizes.classes)
    train = np.repeat(np.arange(sizes.classes), counts)
    test = np.repeat(np.arange(sizes.classes), TEST_IMAGES_OF_A_CLASS)
    labels = np.concatenate([train, test])
    file = random.permutation(len(labels)) % sizes.files
    return [
        Row(f"files/{file[place]:06d}.jpg", int(labels[place]), "train" if place < len(train) else "test")
        for place in random.permutation(len(labels)).tolist()
    ]


def _write_files(folder: Path, files: int, random: np.random.Generator) -> None:
    folder.mkdir(parents=True)
    for number in range(files):
        coarse = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((PIXELS, PIXELS)).save(folder / f"{number:06d}.jpg", quality=85)


def _write_table(path: Path, rows: list[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "label", "split"])
        writer.writerows((row.image, class_name(row.label), row.split) for row in rows)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # the file system has no hard links, or no more of this file
        shutil.copyfile(source, target)
