"""From stored bytes to an upright RGB picture, and the places pictures are stored in.

`read_image` is the one decoder of LPT. It accepts whatever people have in their folders and returns the same kind of
thing for all of it, or an `ImageError` that names the file and the reason:

- EXIF rotation is applied, so that a phone's portrait picture stands upright;
- transparency (alpha channel, transparent palette entry or colour) is composited on **white**;
- 16-bit, 32-bit and float greyscale are scaled to 8 bit, never clipped (`scale_to_8bit`);
- greyscale, palette and CMYK become RGB (embedded colour profiles are not applied);
- of animated and multi-page files the first frame is taken.

The sources below are picklable and safe to read from several threads or worker processes.
"""

from __future__ import annotations

import io
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from lpt.data.manifest import ImageSource
from lpt.errors import DataError

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".avif", ".jp2"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".tga"}
)
"""Endings of the files that are taken for images in a folder (lower case)."""

_ORIENTATION = 0x0112
_BITS_PER_SAMPLE = 258
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_KNOWN_IMPOSTORS = (
    (0, b"version https://git-lfs", "it is a Git LFS pointer, not the image: run `git lfs pull`"),
    (0, b"<!doctype", "it is a web page saved under an image's name: download it again"),
    (0, b"<html", "it is a web page saved under an image's name: download it again"),
    (0, b"<svg", "it is an SVG drawing: convert it to PNG"),
    (4, b"ftyphei", "it is a HEIC photo: convert it to JPEG"),
    (4, b"ftypmif", "it is a HEIF photo: convert it to JPEG"),
    (0, b"%pdf", "it is a PDF document: convert it to PNG"),
)

Result = TypeVar("Result")


class ImageError(DataError):
    """One image that cannot be read.

    Args:
        name: the image, as `ImageSource.name` gives it.
        reason: why it cannot be read, a clause without a full stop.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name = name
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"{self.name}: cannot be read as an image: {self.reason}. Replace or remove it, or leave out all "
            "images that cannot be read with --bad-images skip (data.bad_images: skip)."
        )


class InspectableSource(ImageSource, Protocol):
    """An image source that can be looked at without decoding; all of this module are. Errors: `ImageError`."""

    def size(self, row: int) -> tuple[int, int]:
        """Width and height in pixels, from the header alone."""
        ...

    def stored_bytes(self, row: int) -> int:
        """Number of bytes the image is stored in."""
        ...

    def content(self, row: int, start: int = 0, length: int | None = None) -> bytes:
        """The stored bytes, or `length` of them from `start`."""
        ...


def read_image(source: Path | bytes, name: str) -> Image.Image:
    """The picture as upright 8-bit RGB.

    Args:
        source: path of a file, or the bytes of one.
        name: what to call it in an error.

    Raises:
        ImageError: the file is missing, empty, truncated, damaged, not an image, or a decompression bomb.
    """
    return _with_stream(source, name, _decode)


def image_size(source: Path | bytes, name: str) -> tuple[int, int]:
    """Width and height in pixels from the header, before any EXIF rotation.

    Raises:
        ImageError: as for `read_image`, as far as the header shows it.
    """
    return _with_stream(source, name, _header_size)


def scale_to_8bit(values: npt.NDArray[Any], white: float | None = None) -> npt.NDArray[np.uint8]:
    """Greyscale values of any depth as 0..255, [H, W].

    Args:
        values: integers or floats, [H, W]; what is not finite counts as the smallest value.
        white: the value of white. None: the smallest of 1 (floats only), 255 and 65535 that no value exceeds; when
            some value is negative or above 65535, the image's own minimum and maximum become 0 and 255.
    """
    grey = values.astype(np.float64)
    finite = np.isfinite(grey)
    low = float(grey[finite].min()) if finite.any() else 0.0
    high = float(grey[finite].max()) if finite.any() else 0.0
    grey = np.where(finite, grey, low)
    if white is None:
        whites = (1.0, 255.0, 65535.0) if np.issubdtype(values.dtype, np.floating) else (255.0, 65535.0)
        fitting = [value for value in whites if low >= 0 and high <= value]
        if not fitting:
            return np.round((grey - low) * (255.0 / max(high - low, 1e-12))).astype(np.uint8)
        white = fitting[0]
    return np.round(np.clip(grey / white, 0.0, 1.0) * 255.0).astype(np.uint8)


def _with_stream(source: Path | bytes, name: str, use: Callable[[BinaryIO], Result]) -> Result:
    """What `use` makes of the opened source; every failure becomes an `ImageError`."""
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as stream:
            try:
                return use(stream)
            except Exception as error:
                raise ImageError(name, _reason(error, stream)) from None
    except (OSError, ValueError) as error:
        raise ImageError(name, _os_reason(error)) from None


def as_rgb(image: Image.Image) -> Image.Image:
    """An opened picture upright and RGB, in the way `read_image` gives it."""
    return _to_rgb(_upright(image), _white_of(image))


def _decode(stream: BinaryIO) -> Image.Image:
    with Image.open(stream) as image:
        image.load()
        return as_rgb(image)


def _header_size(stream: BinaryIO) -> tuple[int, int]:
    with Image.open(stream) as image:
        return image.size


def _upright(image: Image.Image) -> Image.Image:
    """The picture turned as its EXIF orientation asks; damaged EXIF data counts as none."""
    try:
        method = _TRANSPOSE.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:
        return image
    if method is None:
        return image
    turned = image.transpose(method)
    for key in ("exif", "xmp", "XML:com.adobe.xmp"):  # what was applied must not be applied again
        turned.info.pop(key, None)
    return turned


def _to_rgb(image: Image.Image, white: float | None) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(scale_to_8bit(np.asarray(image), white)).convert("RGB")
    if image.has_transparency_data:
        with_alpha = image.convert("RGBA")
        paper = Image.new("RGBA", with_alpha.size, (255, 255, 255, 255))
        return Image.alpha_composite(paper, with_alpha).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _white_of(image: Image.Image) -> float | None:
    """The value of white in a deep greyscale image where the file says it, else None."""
    if image.mode.startswith("I;16"):
        tags = getattr(image, "tag_v2", {})
        return 4095.0 if tags.get(_BITS_PER_SAMPLE) == (12,) else 65535.0
    if image.mode == "I" and image.format in ("PNG", "PPM"):
        return 65535.0
    return None


def _reason(error: Exception, stream: BinaryIO) -> str:
    """Why decoding failed, in words."""
    stream.seek(0, os.SEEK_END)
    length = stream.tell()
    if length == 0:
        return "it is empty (0 bytes)"
    stream.seek(0)
    head = stream.read(64)
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for offset, magic, meaning in _KNOWN_IMPOSTORS:
        if start[offset:].startswith(magic):
            return meaning
    if isinstance(error, UnidentifiedImageError):
        return f"not an image of a known format ({length} bytes that start with {head[:8]!r})"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"it would decode to more pixels than is safe (at most {2 * (Image.MAX_IMAGE_PIXELS or 0):,})"
    if isinstance(error, MemoryError):
        return "there is not enough memory to decode it"
    text = str(error).strip().rstrip(".") or type(error).__name__
    return f"{text} (of {length} bytes stored)" if "truncated" in text.lower() else text


def _os_reason(error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError):
        return "the file does not exist"
    if isinstance(error, IsADirectoryError):
        return "it is a folder, not a file"
    return getattr(error, "strerror", None) or str(error)


class _EncodedImages(ABC):
    """Images that are stored in their files' formats; subclasses say where."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def name(self, row: int) -> str:
        """How to name a row to a person."""

    @abstractmethod
    def encoded(self, row: int) -> Path | bytes:
        """The file of a row, or its bytes.

        Raises:
            ImageError: the row holds neither.
        """

    def read(self, row: int) -> Image.Image:
        """The picture as upright RGB."""
        return read_image(self.encoded(row), self.name(row))

    def size(self, row: int) -> tuple[int, int]:
        """Width and height in pixels, from the header."""
        return image_size(self.encoded(row), self.name(row))

    def stored_bytes(self, row: int) -> int:
        """Number of bytes the image is stored in."""
        encoded = self.encoded(row)
        try:
            return len(encoded) if isinstance(encoded, bytes) else encoded.stat().st_size
        except OSError as error:
            raise ImageError(self.name(row), _os_reason(error)) from None

    def content(self, row: int, start: int = 0, length: int | None = None) -> bytes:
        """The stored bytes, or `length` of them from `start`."""
        encoded = self.encoded(row)
        if isinstance(encoded, bytes):
            return encoded[start : None if length is None else start + length]
        try:
            with encoded.open("rb") as stream:
                stream.seek(start)
                return stream.read(-1 if length is None else length)
        except OSError as error:
            raise ImageError(self.name(row), _os_reason(error)) from None


class FileImages(_EncodedImages):
    """Images in files.

    The paths are held in one block of bytes: half a million of them take some 30 MB, are pickled quickly, and are
    not copied by worker processes.

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
        """The file of a row. Text, not a `Path`: half a million are asked for at once."""
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)} images")
        given = os.fsdecode(self._block[self._ends[row] : self._ends[row + 1]])
        return os.path.join(self.root, given)  # noqa: PTH118

    def name(self, row: int) -> str:
        """The path, printable also where it is not valid Unicode."""
        return self.path(row).encode("utf-8", "backslashreplace").decode("utf-8")

    def encoded(self, row: int) -> Path:
        """The file of a row."""
        return Path(self.path(row))


class Table(Protocol):
    """Rows by number; a Hugging Face `Dataset` is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int) -> Any: ...


class ColumnImages(_EncodedImages):
    """Images in a column of a table.

    Args:
        table: rows that are mappings. The column holds encoded bytes, a path, or a mapping with `bytes` and `path`
            as Hugging Face `Image(decode=False)` gives it.
        column: name of the column.
        label: what to call the table in a row's name.
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
        """The table and the number of the row, counted from 0."""
        return f"{self._label} row {row}"

    def encoded(self, row: int) -> Path | bytes:
        """The bytes in a cell, or the file it names."""
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
        """The name of a row."""
        return f"image {row}" if self._names is None else self._names[row]

    def read(self, row: int) -> Image.Image:
        """The picture as RGB."""
        return Image.fromarray(self._array[row]).convert("RGB")

    def size(self, row: int) -> tuple[int, int]:
        """Width and height in pixels."""
        return int(self._array.shape[2]), int(self._array.shape[1])

    def stored_bytes(self, row: int) -> int:
        """Number of bytes of the pixels."""
        return int(self._array[row].nbytes)

    def content(self, row: int, start: int = 0, length: int | None = None) -> bytes:
        """The bytes of the pixels, or `length` of them from `start`."""
        pixels: bytes = self._array[row].tobytes()
        return pixels[start : None if length is None else start + length]
