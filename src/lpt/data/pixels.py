"""From decoded pixels of any depth to 8 bits, a strip of rows at a time, so that little memory is taken beside them.

A **deep** picture has more than 8 bits: greyscale of 16 or 32 bits or floats, and RGB of 16 bits. Pillow halves the
bits of deep RGB as it decodes. `wide_rgb` decodes the upper and the lower bytes apart, so that nothing is lost.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

_STRIP_PIXELS = 2**18
_LITTLE = sys.byteorder == "little"
_BITS_PER_SAMPLE, _SAMPLE_FORMAT = 258, 339
_OTHER_BYTE = {"B": "L", "L": "B", "N": "B" if _LITTLE else "L"}
_UPPER_BYTE = {"B": "B", "L": "L", "N": "L" if _LITTLE else "B"}

Values = npt.NDArray[Any]


class DeepRange(NamedTuple):
    """The values of a deep picture: the smallest and largest, and the values that become black and white."""

    low: float
    high: float
    black: float
    white: float

    @property
    def levels(self) -> int:
        """Grey levels that are left in 8 bits."""
        used = min(self.high, self.white) - min(self.low, self.white)
        return round(255 * used / max(self.white - self.black, 1e-12)) + 1


def is_deep_grey(image: Image.Image) -> bool:
    """Return whether a picture is greyscale of more than 8 bits."""
    return image.mode.startswith("I") or image.mode == "F"


def is_wide_rgb(image: Image.Image) -> bool:
    """Return whether an opened picture that is not loaded yet is stored as RGB of 16 bits."""
    return bool(_wide_rawmodes(image))


def scale_to_8bit(values: Values, white: float | None = None) -> npt.NDArray[np.uint8]:
    """Scale greyscale values of any depth to 0..255, [H, W].

    Args:
        values: integers or floats, [H, W]; a value that is not finite counts as the smallest.
        white: the value of white. None: the smallest of 1 (floats only), 255 and 65535 that no value exceeds; when
            some value is negative or above 65535, the image's own minimum and maximum become 0 and 255. With a white,
            black is 0, or the image's own minimum where that is negative.
    """
    low, high = range_of(iter([values]))
    return _scaled(values, low, *_ends(low, high, np.issubdtype(values.dtype, np.floating), white))


def range_of(strips: Iterator[Values]) -> tuple[float, float]:
    """Return the smallest and the largest finite value; 0 and 0 if there is none."""
    lows, highs = [], []
    for values in strips:
        finite = values[np.isfinite(values)] if np.issubdtype(values.dtype, np.floating) else values
        if finite.size:
            lows.append(float(finite.min()))
            highs.append(float(finite.max()))
    return (min(lows), max(highs)) if lows else (0.0, 0.0)


def grey_range(image: Image.Image, white: float | None) -> DeepRange:
    """Return the range of a loaded deep greyscale picture; `white` as for `to_8bit`."""
    low, high = range_of(_strips(image))
    return DeepRange(low, high, *_ends(low, high, image.mode == "F", white or _white_of(image)))


def to_8bit(image: Image.Image, white: float | None = None) -> Image.Image:
    """Return a loaded picture in 8 bits, as L or RGB, transparent ones on white paper.

    Args:
        image: the picture; it stays as it is.
        white: the value of white in deep greyscale. None: as the file says, else as for `scale_to_8bit`.
    """
    if is_deep_grey(image):
        white = white or _white_of(image)
        low, high = range_of(_strips(image))
        ends = _ends(low, high, image.mode == "F", white)
        return _joined("L", image.size, (Image.fromarray(_scaled(rows, low, *ends)) for rows in _strips(image)))
    if image.has_transparency_data:
        return _joined("RGB", image.size, (_on_white(strip) for strip in _cut(image)))
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def wide_rgb(image: Image.Image, reopened: Image.Image, white: float | None) -> tuple[Image.Image | None, DeepRange]:
    """Decode RGB of 16 bits and return it in 8 bits, and its range. Without a white only the range is returned.

    Args:
        image, reopened: the same file, opened twice and not loaded yet.
        white: the value of white.
    """
    for opened, byte in ((image, _UPPER_BYTE), (reopened, _OTHER_BYTE)):
        opened.tile = [  # type: ignore[attr-defined]
            tile._replace(args=_with_rawmode(tile.args, byte))
            for tile in opened.tile  # type: ignore[attr-defined]
        ]
        opened.load()

    def strips() -> Iterator[Values]:
        for upper, lower in zip(_cut(image), _cut(reopened), strict=True):
            high, low = (np.asarray(strip)[..., :3].astype(np.uint16) for strip in (upper, lower))
            yield high * np.uint16(256) + low

    low, high = range_of(strips())
    spread = DeepRange(low, high, 0.0, white or 65535.0)
    if white is None:
        return None, spread
    flat = (Image.fromarray(_scaled(values, 0.0, 0.0, white)) for values in strips())
    if image.mode != "RGBA":
        return _joined("RGB", image.size, flat), spread
    with_alpha = (_on_white(_merged(rgb, strip)) for rgb, strip in zip(flat, _cut(image), strict=True))
    return _joined("RGB", image.size, with_alpha), spread


def _merged(rgb: Image.Image, alpha_from: Image.Image) -> Image.Image:
    rgb.putalpha(alpha_from.getchannel("A"))
    return rgb


def _wide_rawmodes(image: Image.Image) -> list[str]:
    """Return the layouts of the tiles of a picture if all are RGB of 16 bits; else none."""
    tiles = getattr(image, "tile", [])
    modes = [tile.args if isinstance(tile.args, str) else tile.args[0] for tile in tiles if tile.args]
    wide = [mode for mode in modes if isinstance(mode, str) and mode[:-1] in ("RGB;16", "RGBA;16", "RGBX;16")]
    return wide if len(wide) == len(tiles) else []


def _with_rawmode(args: Any, byte: dict[str, str]) -> Any:
    mode = args if isinstance(args, str) else args[0]
    changed = mode[:-1] + byte[mode[-1]]
    return changed if isinstance(args, str) else (changed, *args[1:])


def _ends(low: float, high: float, floats: bool, white: float | None) -> tuple[float, float]:
    """Return the values that become black and white."""
    if white is not None:
        return min(low, 0.0), white
    fitting = [value for value in ((1.0, 255.0, 65535.0) if floats else (255.0, 65535.0)) if low >= 0 and high <= value]
    return (0.0, fitting[0]) if fitting else (low, high)


def _scaled(values: Values, low: float, black: float, white: float) -> npt.NDArray[np.uint8]:
    grey = values.astype(np.float64)
    grey[~np.isfinite(grey)] = low
    if black or white > 65535:
        grey -= black
        grey *= 255.0 / max(white - black, 1e-12)
        return np.round(np.clip(grey, 0.0, 255.0)).astype(np.uint8)
    grey /= white
    return np.round(np.clip(grey, 0.0, 1.0) * 255.0).astype(np.uint8)


def _white_of(image: Image.Image) -> float | None:
    """Return the value of white in a deep greyscale image, or None where the file does not say it."""
    if image.mode.startswith("I;16"):
        tags = getattr(image, "tag_v2", {})
        return 4095.0 if tags.get(_BITS_PER_SAMPLE) == (12,) else 65535.0
    if image.mode == "I" and image.format in ("PNG", "PPM"):
        return 65535.0
    return None


def _cut(image: Image.Image) -> Iterator[Image.Image]:
    """Yield strips of rows of a loaded picture."""
    rows = max(1, _STRIP_PIXELS // max(image.width, 1))
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(top + rows, image.height)))


def _strips(image: Image.Image) -> Iterator[Values]:
    tags = getattr(image, "tag_v2", {})
    unsigned = image.mode == "I" and tags.get(_BITS_PER_SAMPLE) == (32,) and tags.get(_SAMPLE_FORMAT, (1,)) == (1,)
    for strip in _cut(image):
        values = np.asarray(strip)
        yield values.view(np.uint32) if unsigned else values  # Pillow holds them as signed ones


def _joined(mode: str, size: tuple[int, int], strips: Iterator[Image.Image]) -> Image.Image:
    whole, top = Image.new(mode, size), 0
    for strip in strips:
        whole.paste(strip, (0, top))
        top += strip.height
    return whole


def _on_white(image: Image.Image) -> Image.Image:
    with_alpha = image.convert("RGBA")
    paper = Image.new("RGBA", with_alpha.size, (255, 255, 255, 255))
    return Image.alpha_composite(paper, with_alpha).convert("RGB")
