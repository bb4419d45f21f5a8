"""From stored bytes to an upright RGB picture.

`read_image` is the one decoder of LPT. It takes whatever people have in their folders and returns the same kind of
picture for all of it, or raises an `ImageError` that names the file and the reason:

- it applies the EXIF rotation, so that a phone's portrait picture stands upright;
- it lays transparent images (alpha channel, transparent palette entry or colour) on **white**;
- it scales 16-bit, 32-bit and float greyscale to 8 bit and never clips it (`scale_to_8bit`);
- it turns greyscale, palette and CMYK into RGB (embedded colour profiles are not applied);
- of animated and multi-page files it takes the first frame.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from lpt.errors import DataError

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

    @property
    def message(self) -> str:
        """The message, made when it is asked for: the error is pickled as name and reason."""
        return (
            f"{self.name}: cannot be read as an image: {self.reason}. Replace or remove it, or leave out all "
            "images that cannot be read with --bad-images skip (data.bad_images: skip)."
        )


def read_image(source: Path | bytes, name: str) -> Image.Image:
    """Decode an image to upright 8-bit RGB.

    Args:
        source: path of a file, or the bytes of one.
        name: what to call it in an error.

    Raises:
        ImageError: the file is missing, empty, truncated, damaged, not an image, or a decompression bomb.
    """
    return _with_stream(source, name, _decode)


def image_size(source: Path | bytes, name: str) -> tuple[int, int]:
    """Read width and height in pixels from the header, before any EXIF rotation.

    Raises:
        ImageError: as for `read_image`, as far as the header shows it.
    """
    return _with_stream(source, name, _header_size)


def scale_to_8bit(values: npt.NDArray[Any], white: float | None = None) -> npt.NDArray[np.uint8]:
    """Scale greyscale values of any depth to 0..255, [H, W].

    Args:
        values: integers or floats, [H, W]; a value that is not finite counts as the smallest.
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
    """Open the source and return what `use` makes of it; every failure becomes an `ImageError`."""
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as stream:
            try:
                return use(stream)
            except Exception as error:
                raise ImageError(name, _reason(error, stream)) from None
    except (OSError, ValueError) as error:
        raise ImageError(name, os_reason(error)) from None


def as_rgb(image: Image.Image) -> Image.Image:
    """Turn an opened picture upright and make it RGB, as `read_image` does."""
    return _to_rgb(_upright(image), _white_of(image))


def _decode(stream: BinaryIO) -> Image.Image:
    with Image.open(stream) as image:
        image.load()
        return as_rgb(image)


def _header_size(stream: BinaryIO) -> tuple[int, int]:
    with Image.open(stream) as image:
        return image.size


def _upright(image: Image.Image) -> Image.Image:
    """Turn the picture as its EXIF orientation asks; damaged EXIF data counts as none."""
    try:
        method = _TRANSPOSE.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:
        return image
    if method is None:
        return image
    turned = image.transpose(method)
    for key in ("exif", "xmp", "XML:com.adobe.xmp"):  # so that nobody turns it a second time
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
    """Return the value of white in a deep greyscale image, or None where the file does not say it."""
    if image.mode.startswith("I;16"):
        tags = getattr(image, "tag_v2", {})
        return 4095.0 if tags.get(_BITS_PER_SAMPLE) == (12,) else 65535.0
    if image.mode == "I" and image.format in ("PNG", "PPM"):
        return 65535.0
    return None


def _reason(error: Exception, stream: BinaryIO) -> str:
    """Say why decoding failed."""
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


def os_reason(error: OSError | ValueError) -> str:
    """Say why a file cannot be opened or read."""
    if isinstance(error, FileNotFoundError):
        return "the file does not exist"
    if isinstance(error, IsADirectoryError):
        return "it is a folder, not a file"
    return getattr(error, "strerror", None) or str(error)
