"""From stored bytes to an upright RGB picture.

`read_image` is the one decoder of LPT. It goes by the content of a file, not by its ending. It takes whatever people
have in their folders and returns the same kind of picture for all of it, or raises an `ImageError` that names the file
and the reason:

- it applies the EXIF rotation, so that a phone's portrait picture stands upright;
- it lays transparent images (alpha channel, transparent palette entry or colour) on **white**;
- it scales 16-bit, 32-bit and float greyscale to 8 bit (`lpt.data.pixels`);
- it turns greyscale, palette and CMYK into RGB (embedded colour profiles are not applied);
- of animated and multi-page files it takes the first frame.

Memory: at most 8 bytes a pixel (RGB of 16 bits with a white: 16). All threads together take at most `DECODING_BYTES`,
or a single larger picture.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

from PIL import Image

from lpt.config.bounds import MAX_PIXELS
from lpt.data import faulty
from lpt.data.budget import ByteBudget, Turn
from lpt.data.pixels import DeepRange, grey_range, is_deep_grey, is_wide_rgb, to_8bit, wide_rgb
from lpt.errors import DataError
from lpt.system.files import open_regular

_LONGEST_SIDE = 1_000_000
"""A longer side would take gigabytes of filter weights as it is resized."""
_PIXEL_BYTES = 8
_DECODING = ByteBudget.for_process()
_ORIENTATION = 0x0112
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

Result = TypeVar("Result")
logging.getLogger("PIL").addHandler(logging.NullHandler())  # what Pillow logs to the screen is in the `ImageError`


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


@dataclass(frozen=True)
class Reading:
    """How images are read.

    Args:
        max_pixels: most pixels of an image; a larger one counts as bad.
        white: the value of white in images of more than 8 bits. None: as the file says, see `scale_to_8bit`.
        repair: take an image that lacks its last bytes as far as it goes.
    """

    max_pixels: int = MAX_PIXELS
    white: float | None = None
    repair: bool = False


AS_USUAL = Reading()


def read_image(source: Path | bytes, name: str, reading: Reading = AS_USUAL, turn: Turn | None = None) -> Image.Image:
    """Decode an image to upright 8-bit RGB.

    Args:
        source: path of a file, or the bytes of one.
        name: what to call it in an error.
        reading: limits, and what is done to deep and to damaged images.
        turn: takes the memory of the image from a budget, and goes on holding it. None: held while decoding.

    Raises:
        ImageError: the file is missing, empty, truncated, damaged, not an image, or a decompression bomb.
    """
    if turn is not None:
        held = turn
        return _with_stream(source, name, lambda stream: _decode(stream, reading, held), reading)

    def decode(stream: BinaryIO) -> Image.Image:
        with _DECODING.queue() as own_turn:
            return _decode(stream, reading, own_turn)

    return _with_stream(source, name, decode, reading)


def image_size(source: Path | bytes, name: str, reading: Reading = AS_USUAL) -> tuple[int, int]:
    """Read width and height in pixels from the header, before any EXIF rotation.

    Raises:
        ImageError: as for `read_image`, as far as the header shows it.
    """
    return _with_stream(source, name, lambda stream: _header_size(stream, reading), reading)


def deep_range(
    source: Path | bytes, name: str, reading: Reading = AS_USUAL, *, header_only: bool = False
) -> DeepRange | bool:
    """Return the range of the values of an image of more than 8 bits; False for every other image.

    Args:
        source, name, reading: as for `read_image`.
        header_only: read no pixels, and return whether the image has more than 8 bits.

    Raises:
        ImageError: as for `read_image`.
    """

    def look(stream: BinaryIO) -> DeepRange | bool:
        with _opened(stream, reading) as image:
            wide = is_wide_rgb(image)
            if header_only or not (wide or is_deep_grey(image)):
                return wide or is_deep_grey(image)
            with _DECODING.queue() as turn:
                turn.take(image.width * image.height * 2 * _PIXEL_BYTES)
                if wide:
                    return wide_rgb(image, _again(stream, reading), None)[1]._replace(white=reading.white or 65535.0)
                image.load()
                return grey_range(image, reading.white)

    return _with_stream(source, name, look, reading)


def as_rgb(image: Image.Image, white: float | None = None) -> Image.Image:
    """Turn an opened picture upright and make it RGB, as `read_image` does."""
    return _turned(_as_rgb(to_8bit(image, white)), _turn_of(image))


def os_reason(error: OSError | ValueError) -> str:
    """Say why a file cannot be opened or read."""
    if isinstance(error, FileNotFoundError):
        return "the file does not exist"
    if isinstance(error, IsADirectoryError):
        return "it is a folder, not a file"
    return getattr(error, "strerror", None) or str(error)


def _with_stream(source: Path | bytes, name: str, use: Callable[[BinaryIO], Result], reading: Reading) -> Result:
    """Open the source and return what `use` makes of it; every failure becomes an `ImageError`."""
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else open_regular(source) as stream:
            try:
                return use(stream)
            except ImageError:
                raise
            except Exception as error:
                return _second_try(stream, name, use, reading, error)
    except (OSError, ValueError) as error:
        raise ImageError(name, os_reason(error)) from None


def _second_try(
    stream: BinaryIO, name: str, use: Callable[[BinaryIO], Result], reading: Reading, error: Exception
) -> Result:
    """Return what `use` makes of the mended stream."""
    again = None if isinstance(error, _RefusedError) else faulty.mended(stream, error, repair=reading.repair)
    if again is not None:
        try:
            result = use(again)
        except Exception as second:
            error = second
        else:
            if isinstance(result, Image.Image) and faulty.lacks_bytes(error):
                result.info[faulty.REPAIRED] = True
            return result
    why = (
        str(error) if isinstance(error, _RefusedError) else faulty.reason(error, stream, max_pixels=reading.max_pixels)
    )
    raise ImageError(name, why) from None


class _RefusedError(Exception):
    """The reason why LPT does not take an image that Pillow might take."""


def _opened(stream: BinaryIO, reading: Reading) -> Image.Image:
    """Open an image and check its size; no pixel is decoded yet."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and reading.max_pixels > 2 * limit:  # Pillow refuses twice its limit, also when it crops
        Image.MAX_IMAGE_PIXELS = -(-reading.max_pixels // 2)
    image = Image.open(stream)
    if image.format == "EPS":  # Pillow would let Ghostscript run it, for as long as it likes
        raise _RefusedError("it is a PostScript program (EPS), which is never run: convert it to PNG or JPEG")
    if image.width * image.height > reading.max_pixels:
        raise _RefusedError(faulty.too_large(image.size, reading.max_pixels))
    if max(image.size) > _LONGEST_SIDE:
        raise _RefusedError(
            f"it is {image.width:,} x {image.height:,} pixels; a side of at most {_LONGEST_SIDE:,} is accepted"
        )
    if faulty.is_camera_raw(image):
        raise _RefusedError("it is the raw file of a camera, with a small preview in it: convert it to JPEG or PNG")
    return image


def _again(stream: BinaryIO, reading: Reading) -> Image.Image:
    """Open the same stream a second time."""
    stream.seek(0)
    return _opened(io.BytesIO(stream.read()), reading)


def _decode(stream: BinaryIO, reading: Reading, turn: Turn) -> Image.Image:
    with _opened(stream, reading) as image:
        wide = reading.white is not None and is_wide_rgb(image)
        turn.take(image.width * image.height * (2 * _PIXEL_BYTES if wide else _PIXEL_BYTES))
        flat = None
        if wide:
            flat, _ = wide_rgb(image, _again(stream, reading), reading.white)
        if flat is None:
            image.load()
            flat = to_8bit(image, reading.white)
        upright = _turn_of(image)  # a PNG may keep it behind its pixels
        if flat is not image:
            image.close()  # its pixels are not needed beside the new ones
        return _turned(_as_rgb(flat), upright)


def _header_size(stream: BinaryIO, reading: Reading) -> tuple[int, int]:
    with _opened(stream, reading) as image:
        return image.size


def _as_rgb(image: Image.Image) -> Image.Image:
    return image if image.mode == "RGB" else image.convert("RGB")


def _turn_of(image: Image.Image) -> Image.Transpose | None:
    """Return how the picture is to be turned by its EXIF orientation; damaged EXIF data counts as none."""
    try:
        return _TRANSPOSE.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:
        return None


def _turned(image: Image.Image, method: Image.Transpose | None) -> Image.Image:
    if method is None:
        return image
    turned = image.transpose(method)
    for key in ("exif", "xmp", "XML:com.adobe.xmp"):  # so that nobody turns it a second time
        turned.info.pop(key, None)
    return turned
