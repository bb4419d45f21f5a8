"""The common parts of lists and tables in text files: decoding, faults by line, and the images they name."""

from __future__ import annotations

import os
from pathlib import Path

from lpt.data.images import FileImages
from lpt.errors import DataError
from lpt.system.files import read_regular
from lpt.system.text import plural

_SHOWN_FAULTS = 5
_SAMPLED_PATHS = 50


def read_text(path: Path) -> str:
    """Read a text file in UTF-8 (with or without byte-order mark) or in UTF-16 with one.

    Raises:
        DataError: the file cannot be read, is empty, or is in another encoding (the message names the line).
    """
    try:
        data = read_regular(path)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path} line {line}: byte 0x{data[error.start]:02x} is not UTF-8. Save the file as UTF-8, or convert "
            f"it: iconv -f LATIN1 -t UTF-8 {path.name} > utf8-{path.name}"
        ) from None
    if not text.strip():
        raise DataError(f"{path} is empty: it must list one image per line")
    return text


class Faults:
    """The faulty lines of a file, reported together."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: list[str] = []
        self._count = 0

    def add(self, line: int, text: str) -> None:
        """Note the fault of a line; lines count from 1."""
        self._count += 1
        if len(self._lines) < _SHOWN_FAULTS:
            self._lines.append(f"  line {line}: {text}")

    def raise_any(self, advice: str) -> None:
        """Raise an error if there is any fault.

        Raises:
            DataError: with the number of faults, the first few by line, and `advice`.
        """
        if self._count:
            more = [f"  and {self._count - _SHOWN_FAULTS} more"] if self._count > _SHOWN_FAULTS else []
            lines = "\n".join(self._lines + more)
            raise DataError(f"{self._path}: {plural(self._count, 'faulty line')}:\n{lines}\n{advice}")


def listed_images(listing: Path, paths: list[str], image_root: Path | None, notes: list[str]) -> FileImages:
    """Return the images that a list or table names.

    Relative paths start from `image_root`. Without it they start from the folder of the list or, if more of them exist
    there, from the working directory. Windows paths are understood.

    Raises:
        DataError: `image_root` is no folder, or the paths are web addresses.
    """
    sample = paths[:: max(1, len(paths) // _SAMPLED_PATHS)]
    address = next((path for path in sample if "://" in path), None)
    if address is not None:
        raise DataError(f"{listing}: {address} is a web address; download the images and list their local paths")
    if image_root is not None and not image_root.is_dir():
        raise DataError(f"the image root {image_root} is not a folder; relative paths in {listing} start from it")
    roots = [image_root] if image_root is not None else [listing.parent, Path.cwd()]
    choices = [(root, paths) for root in roots]
    if os.sep == "/" and any("\\" in path for path in sample):
        choices += [(root, [path.replace("\\", "/") for path in paths]) for root in roots]
    root, chosen = max(choices, key=lambda choice: _count_files(*choice))
    if root != roots[0]:
        notes.append(f"Relative paths in {listing} start from the working directory, {root}.")
    return FileImages(root, chosen)


def _count_files(root: Path, paths: list[str]) -> int:
    sample = paths[:: max(1, len(paths) // _SAMPLED_PATHS)]
    return sum(os.path.isfile(root / path) for path in sample)  # noqa: PTH113
