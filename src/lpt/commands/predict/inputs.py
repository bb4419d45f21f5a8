"""Find the images to classify, and read how frequent classes are where they come from."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from lpt.data.images import IMAGE_SUFFIXES
from lpt.errors import ConfigError, DataError
from lpt.system.files import read_regular


def find_images(given: Iterable[Path]) -> list[Path]:
    """Return files as given, and all image files in folders at any depth, sorted. Links are followed.

    Raises:
        DataError: something does not exist, or a folder holds no image or cannot be listed.
    """
    files: list[Path] = []
    for path in given:
        if path.is_dir():
            inside = sorted(_images_in(path))
            if not inside:
                raise DataError(f"there is no image in the folder {path}; endings: {' '.join(sorted(IMAGE_SUFFIXES))}")
            files += inside
        elif path.exists():
            files.append(path)
        else:
            raise DataError(f"there is no file or folder {path}")
    return files


def read_prior(path: Path, class_names: list[str]) -> dict[str, float]:
    """Read the share of each class from a CSV file with columns class and share; classes left out count 0.

    Raises:
        ConfigError: the file cannot be read, or a row is not a known class and a share; the row is named.
    """
    try:
        rows = list(csv.reader(io.StringIO(read_regular(path).decode("utf-8-sig"), newline="")))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"--prior: cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    known, shares = set(class_names), dict[str, float]()
    for number, row in enumerate(rows, start=1):
        if not row or (number == 1 and [cell.strip().lower() for cell in row] == ["class", "share"]):
            continue
        where = f"--prior: {path}, row {number}"
        if len(row) != 2:
            raise ConfigError(f"{where}: {len(row)} columns instead of class,share: {','.join(row)}")
        name, text = row
        if name not in known:
            raise ConfigError(f"{where}: the pack has no class {name!r}; its classes: lpt inspect PACK")
        if name in shares:
            raise ConfigError(f"{where}: the class {name!r} is listed twice")
        shares[name] = _share(text, where)
    if not any(shares.values()):
        raise ConfigError(f"--prior: {path} gives no class a positive share; write rows of class,share")
    return shares


def _share(text: str, where: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0 <= share < math.inf:
        raise ConfigError(f"{where}: the share must be a number of at least 0, got {text!r}")
    return share


def _images_in(folder: Path, above: frozenset[str] = frozenset()) -> Iterator[Path]:
    """Yield image files at any depth, through links too, without hidden ones.

    Args:
        folder: where to look.
        above: real paths of the folders above it; a link back to one of them is not followed.

    Raises:
        DataError: a folder cannot be listed.
    """
    real = os.path.realpath(folder)
    if real in above:
        return
    try:
        with os.scandir(folder) as entries:
            seen = [(folder / entry.name, *_kind(entry)) for entry in entries if entry.name[0] != "."]
    except OSError as error:
        raise DataError(
            f"cannot look into the folder {folder}: {error.strerror}. Change its permissions, or name the folders and "
            "files to be read instead of one above it."
        ) from None
    for path, is_folder, is_file in seen:
        if is_folder:
            yield from _images_in(path, above | {real})
        elif is_file and path.suffix.lower() in IMAGE_SUFFIXES:
            yield path


def _kind(entry: os.DirEntry[str]) -> tuple[bool, bool]:
    """Return whether an entry is a folder, and whether it is a file; neither if it is a link in a circle."""
    try:
        return entry.is_dir(), entry.is_file()
    except OSError:
        return False, False
