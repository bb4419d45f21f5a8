"""The places that images are stored in: files, the column of a table, an array.

Every source can be pickled, and several threads or worker processes may read from it at the same time.
"""

from __future__ import annotations

import copy
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
from PIL import Image

from lpt.data.decoding import AS_USUAL, ImageError, Reading, deep_range, image_size, os_reason, read_image
from lpt.data.manifest import ImageSource
from lpt.data.pixels import DeepRange
from lpt.errors import DataError
from lpt.system.files import open_regular

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".avif", ".jp2"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".heic", ".heif", ".hif", ".mpo", ".apng", ".dib", ".j2k"}
)
"""Endings (lower case) by which images are known in a folder; the content says how each is read."""


class InspectableSource(ImageSource, Protocol):
    """An image source that also gives sizes and stored bytes without decoding. Errors: `ImageError`."""

    def size(self, row: int) -> tuple[int, int]:
        """Return width and height in pixels, from the header alone."""
        ...

    def stored_bytes(self, row: int) -> int:
        """Return the number of bytes the image is stored in."""
        ...

    def content(self, row: int, start: int = 0, length: int | None = None) -> bytes:
        """Return the stored bytes, or `length` of them from `start`."""
        ...


class EncodedImages(ABC):
    """Images stored in a file format; subclasses say where. `reading` says how they are read."""

    reading: Reading = AS_USUAL

    def with_white(self, white: float | None) -> Self:
        """Return the same images, where deep ones are read with this value of white."""
        changed = copy.copy(self)
        changed.reading = replace(self.reading, white=white)
        return changed

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def name(self, row: int) -> str:
        """Return the name of a row for messages."""

    @abstractmethod
    def encoded(self, row: int) -> Path | bytes:
        """Return the file of a row, or its bytes.

        Raises:
            ImageError: the row holds neither.
        """

    def read(self, row: int) -> Image.Image:
        """Decode the picture as upright RGB."""
        return read_image(self.encoded(row), self.name(row), self.reading)

    def size(self, row: int) -> tuple[int, int]:
        """Return width and height in pixels, from the header."""
        return image_size(self.encoded(row), self.name(row), self.reading)

    def is_deep(self, row: int) -> bool:
        """Return whether an image has more than 8 bits, from the header."""
        return bool(deep_range(self.encoded(row), self.name(row), self.reading, header_only=True))

    def deep_range(self, row: int) -> DeepRange | None:
        """Return the range of the values of an image of more than 8 bits; None for every other image."""
        spread = deep_range(self.encoded(row), self.name(row), self.reading)
        return spread if isinstance(spread, DeepRange) else None

    def stored_bytes(self, row: int) -> int:
        """Return the number of bytes the image is stored in."""
        encoded = self.encoded(row)
        try:
            return len(encoded) if isinstance(encoded, bytes) else encoded.stat().st_size
        except OSError as error:
            raise ImageError(self.name(row), os_reason(error)) from None

    def content(self, row: int, start: int = 0, length: int | None = None) -> bytes:
        """Return the stored bytes, or `length` of them from `start`."""
        encoded = self.encoded(row)
        if isinstance(encoded, bytes):
            return encoded[start : None if length is None else start + length]
        try:
            with open_regular(encoded) as stream:
                stream.seek(start)
                return stream.read(-1 if length is None else length)
        except OSError as error:
            raise ImageError(self.name(row), os_reason(error)) from None


class FileImages(EncodedImages):
    """Images in files.

    It holds the paths in one block of bytes: half a million of them take some 30 MB and are pickled quickly, and
    worker processes do not copy them.

    Args:
        root: folder that relative paths start from.
        paths: path of each row, relative to `root` or absolute.
    """

    def __init__(self, root: Path, paths: Iterable[str]) -> None:
        encoded = [os.fsencode(path) for path in paths]
        self.root = str(root)
        self._ends = np.cumsum([0, *(len(path) for path in encoded)], dtype=np.int64)
        self._block = b"".join(encoded)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def path(self, row: int) -> str:
        """Return the file of a row, as text: half a million `Path`s would take seconds."""
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)} images")
        given = os.fsdecode(self._block[self._ends[row] : self._ends[row + 1]])
        return os.path.join(self.root, given)  # noqa: PTH118

    def name(self, row: int) -> str:
        """Return the path, printable also where it is not valid Unicode."""
        return self.path(row).encode("utf-8", "backslashreplace").decode("utf-8")

    def encoded(self, row: int) -> Path:
        """Return the file of a row."""
        return Path(self.path(row))


class Table(Protocol):
    """Rows by number; a Hugging Face `Dataset` is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int) -> Any: ...


class ColumnImages(EncodedImages):
    """Images in a column of a table.

    Args:
        table: rows that are mappings. The column holds encoded bytes, a path, or a mapping with `bytes` and `path`
            as Hugging Face `Image(decode=False)` gives it.
        column: name of the column.
        label: name of the table in the name of a row.
        root: folder that relative paths start from.
    """

    def __init__(self, table: Table, column: str, label: str, root: Path | None = None) -> None:
        self._table = table
        self._column = column
        self._label = label
        self._root = root or Path()

    def __len__(self) -> int:
        return len(self._table)

    def name(self, row: int) -> str:
        """Return the table and the number of the row, counted from 0."""
        return f"{self._label} row {row}"

    def encoded(self, row: int) -> Path | bytes:
        """Return the bytes in a cell, or the file it names."""
        cell = self._table[row][self._column]
        if isinstance(cell, dict):
            cell = cell.get("bytes") or cell.get("path")
        if isinstance(cell, bytes | bytearray | memoryview):
            return bytes(cell)
        if isinstance(cell, str) and cell:
            return self._root / cell
        raise ImageError(self.name(row), f"column {self._column!r} holds {type(cell).__name__}, not an image")


class ArrayImages:
    """Images in memory.

    Args:
        array: [n, H, W] (greyscale) or [n, H, W, 3] (RGB), uint8.
        names: name of each row; None: `image 0`, `image 1`, ...

    Raises:
        DataError: the array has another shape or type, or there are not n names.
    """

    def __init__(self, array: npt.NDArray[np.uint8], names: Sequence[str] | None = None) -> None:
        if array.dtype != np.uint8 or not (array.ndim == 3 or (array.ndim == 4 and array.shape[3] == 3)):
            raise DataError(
                f"an array of images must be uint8 of shape [n, H, W] or [n, H, W, 3]; got {array.dtype} "
                f"{list(array.shape)}. Scale it to 0..255, put the channels last and convert it with .astype('uint8')."
            )
        if names is not None and len(names) != len(array):
            raise DataError(f"{len(array)} images in the array, but {len(names)} names: give one name for each")
        self._array = array
        self._names = None if names is None else list(names)

    def __len__(self) -> int:
        return len(self._array)

    def name(self, row: int) -> str:
        """Return the name of a row."""
        return f"image {row}" if self._names is None else self._names[row]

    def read(self, row: int) -> Image.Image:
        """Return the picture as RGB."""
        return Image.fromarray(self._array[row]).convert("RGB")

    def size(self, row: int) -> tuple[int, int]:
        """Return width and height in pixels."""
        return int(self._array.shape[2]), int(self._array.shape[1])

    def stored_bytes(self, row: int) -> int:
        """Return the number of bytes of the pixels."""
        return int(self._array[row].nbytes)

    def content(self, row: int, start: int = 0, length: int | None = None) -> bytes:
        """Return the bytes of the pixels, or `length` of them from `start`."""
        pixels: bytes = self._array[row].tobytes()
        return pixels[start : None if length is None else start + length]
