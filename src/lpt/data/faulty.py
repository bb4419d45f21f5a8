"""Why a file cannot be read as an image, and what can be done so that it can be read after all."""

from __future__ import annotations

import io
import os
import struct
from typing import BinaryIO

from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from lpt.system.packages import install_command
from lpt.system.text import plural

REPAIRED = "repaired by lpt"
"""Key in the `info` of a picture that lacked its last bytes."""
TOO_LARGE = "it would decode to more pixels than is safe"
"""How the reason of a picture with too many pixels begins."""
_WEB_PAGE = "it is a web page saved under an image's name: download it again"
_IMPOSTORS = (
    (0, b"version https://git-lfs", "it is a Git LFS pointer, not the image: run `git lfs pull`"),
    (0, b"<!doctype", _WEB_PAGE),
    (0, b"<html", _WEB_PAGE),
    (0, b"<svg", "it is an SVG drawing: convert it to PNG"),
    (0, b"%pdf", "it is a PDF document: convert it to PNG"),
)
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_JPEG_END = b"\xff\xd9"
_TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt")
_ORIENTATION_TEXTS = (b"Raw profile type exif\0", b"Raw profile type APP1\0", b"XML:com.adobe.xmp\0")
_SAMPLE_FORMATS = {
    1: "unsigned integers",
    2: "signed integers",
    3: "floats",
    5: "complex integers",
    6: "complex floats",
}
_TIFF_ACCEPTED = (
    "accepted are TIFFs of one band (integers of 1 to 16 bits, 32-bit integers, or floats of 32 or 64 bits; "
    "little-endian if in doubt), and RGB, RGBA or CMYK of 8- or 16-bit unsigned integers. Next: save the bands to be "
    "looked at as one of these"
)


def is_camera_raw(image: Image.Image) -> bool:
    """Return whether an opened TIFF is the raw file of a camera, of which Pillow would show the preview only."""
    tags = getattr(image, "tag_v2", {})
    return image.format == "TIFF" and (50706 in tags or (tags.get(254) == 1 and 330 in tags))


def mended(stream: BinaryIO, error: Exception, *, repair: bool) -> BinaryIO | None:
    """Return a stream that may be read where this one failed with `error`; None: nothing can be done.

    Long texts in a PNG are left out, a HEIC or AVIF photo is left to Pillow's plugin, and with `repair` a JPEG that
    lacks its last bytes is ended.
    """
    stream.seek(0)
    head = stream.read(64)
    stream.seek(0)
    if head.startswith(_PNG) and isinstance(error, ValueError) and "text" in str(error).lower():
        return io.BytesIO(_without_texts(stream.read()))
    if isinstance(error, UnidentifiedImageError) and _brands(head) & {*_HEIF_BRANDS, *_AVIF_BRANDS}:
        return stream if _plugin_is_there() else None
    if repair and lacks_bytes(error) and head.startswith(_JPEG):
        return io.BytesIO(stream.read() + _JPEG_END)
    return None


def lacks_bytes(error: Exception) -> bool:
    """Return whether a picture could not be read because its file ends too early."""
    return "truncated" in str(error).lower()


def reason(error: Exception, stream: BinaryIO, *, max_pixels: int) -> str:
    """Say why decoding failed."""
    stream.seek(0, os.SEEK_END)
    length = stream.tell()
    if length == 0:
        return "it is empty (0 bytes)"
    stream.seek(0)
    head = stream.read(64)
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for offset, magic, meaning in _IMPOSTORS:
        if start[offset:].startswith(magic):
            return meaning
    if isinstance(error, UnidentifiedImageError):
        known = _photo_reason(head) or _tiff_reason(head, stream)
        return known or f"not an image of a known format ({length} bytes that start with {head[:8]!r})"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return too_large(None, max_pixels)
    if isinstance(error, MemoryError):
        return "there is not enough memory to decode it"
    text = str(error).strip().rstrip(".") or type(error).__name__
    if not lacks_bytes(error):
        return text
    more = "; --bad-images repair takes what is there" if head.startswith(_JPEG) else ""
    return f"{text} (of {length} bytes stored){more}"


def too_large(size: tuple[int, int] | None, max_pixels: int) -> str:
    """Say that a picture has too many pixels."""
    given = f"{size[0]:,} x {size[1]:,} = {size[0] * size[1]:,}" if size else "its header promises more"
    return (
        f"{TOO_LARGE}: {given}, at most {max_pixels:,}. If it is meant to be that "
        "large, raise --max-pixels (data.max_pixels); in lpt fit, compare and tune it is --set data.max_pixels=N"
    )


def _brands(head: bytes) -> set[bytes]:
    """Return the brands in the head of an ISO media file, its own and those that it is compatible with."""
    if head[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(head[:4], "big"), len(head))
    return {head[8:12], *(head[start : start + 4] for start in range(16, end, 4))}


def _plugin_is_there() -> bool:
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def _photo_reason(head: bytes) -> str | None:
    brands = _brands(head)
    if brands & set(_AVIF_BRANDS):
        return f"it is an AVIF picture, which this Pillow cannot decode: {install_command('heif')}, or convert it"
    if not brands & set(_HEIF_BRANDS):
        return None
    if _plugin_is_there():
        return "it is a HEIC photo that pillow-heif cannot decode: convert it to JPEG"
    return f"it is a HEIC photo, which needs pillow-heif: {install_command('heif')}, or convert it to JPEG"


def _tiff_reason(head: bytes, stream: BinaryIO) -> str | None:
    """Describe the bands of a TIFF that Pillow does not take."""
    if head[:4] not in _TIFF:
        return None
    try:
        directory = TiffImagePlugin.ImageFileDirectory_v2(head[:16] if b"+" in head[2:4] else head[:8])
        stream.seek(directory.next)
        directory.load(stream)
        bands = int(directory.get(277, 1))
        bits = _numbers(directory.get(258, 1))
        kinds = _numbers(directory.get(339, 1))
    except Exception:
        return "it is a damaged TIFF"
    depth = "/".join(map(str, sorted(set(bits))))
    kind = "/".join(_SAMPLE_FORMATS.get(value, "values of an unknown type") for value in sorted(set(kinds)))
    order = ", big-endian" if head.startswith(b"MM") else ""
    layout = f"{plural(bands, 'band')} of {depth}-bit {kind}{order}"
    return f"it is a TIFF of {layout}; {_TIFF_ACCEPTED}"


def _numbers(value: object) -> tuple[int, ...]:
    return tuple(map(int, value)) if isinstance(value, tuple) else (int(value),)  # type: ignore[call-overload]


def _without_texts(content: bytes) -> bytes:
    """Return a PNG without its texts, other than those that say how it is turned."""
    kept, place = [content[:8]], 8
    while place + 12 <= len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        kind, end = content[place + 4 : place + 8], place + 12 + length
        if kind not in _TEXT_CHUNKS or content[place + 8 : end].startswith(_ORIENTATION_TEXTS):
            kept.append(content[place:end])
        place = end
    return b"".join(kept)
