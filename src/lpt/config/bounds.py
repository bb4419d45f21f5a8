"""Types of values that configurations, packs and backbones share, each with its limits."""

from __future__ import annotations

import unicodedata
from numbers import Integral
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from lpt.errors import ConfigError

MOST_PIXELS = 4096
"""Longest side of an input, pixels."""
MAX_PIXELS = 178_956_970
"""Most pixels of an image file, unless the settings say otherwise: where Pillow sees a decompression bomb."""
LEAST_CROP = 0.25
"""Smallest central crop, as a share of the side: the side of the resized image is at most four times that."""
_LAYOUT = "\t\n\r"
_DIRECTIONS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def escaped(text: str) -> str:
    r"""Return the text with lone surrogates and control characters escaped, as `\udcXX` and `\x1b`."""
    kept = text.encode("utf-8", "backslashreplace").decode("utf-8")
    if kept.isprintable():
        return kept
    return "".join(c.encode("unicode_escape").decode() if _is_control(c) else c for c in kept)


def one_line(text: str) -> str:
    r"""Return the text as one line that a terminal shows as it is: `\n`, control and direction characters escaped."""
    kept = text.encode("utf-8", "backslashreplace").decode("utf-8")
    if kept.isprintable():
        return kept
    hidden = (c in _DIRECTIONS or unicodedata.category(c) in ("Cc", "Zl", "Zp") for c in kept)
    return "".join(c.encode("unicode_escape").decode() if hide else c for c, hide in zip(kept, hidden, strict=True))


def check_positive(**numbers: object) -> None:
    """Raise `ConfigError` unless all these arguments are whole numbers of at least 1."""
    for argument, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, Integral) or int(number) < 1:
            raise ConfigError(f"{argument}: a whole number of at least 1 is accepted, not {number!r}")


def _is_control(character: str) -> bool:
    return unicodedata.category(character) == "Cc" and character not in _LAYOUT


def _plain(text: str) -> str:
    if escaped(text) != text:
        raise ValueError("text without control characters and lone surrogates is accepted")
    return text


def _ordered(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError("(low, high) with low <= high is accepted")
    return pair


Text = Annotated[str, Field(min_length=1, max_length=10_000), AfterValidator(_plain)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Scale = Annotated[float, Field(ge=1e-6, le=1e6)]
Side = Annotated[int, Field(ge=1, le=MOST_PIXELS)]
White = Annotated[float, Field(gt=0, le=1e12, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=10**12)]
Size = Annotated[int, Field(ge=1, le=10**12)]
Interpolation = Literal["bilinear", "bicubic"]
CentralCrop = Annotated[float, Field(ge=LEAST_CROP, le=1)]
Area = Annotated[float, Field(gt=0, le=1)]
Aspect = Annotated[float, Field(ge=0.01, le=100)]
Areas = Annotated[tuple[Area, Area], AfterValidator(_ordered)]
Aspects = Annotated[tuple[Aspect, Aspect], AfterValidator(_ordered)]
Mean = Annotated[float, Field(ge=-1e4, le=1e4)]
Deviation = Annotated[float, Field(ge=1e-4, le=1e4)]
Means = tuple[Mean, Mean, Mean]
Deviations = tuple[Deviation, Deviation, Deviation]


def share_or_source(value: object) -> object:
    """Return a share that is written as text, such as 0.1, 0,1 or 10%, as a number; anything else as it is.

    A file or folder of that name is meant where there is one.
    """
    if not isinstance(value, str):
        return value
    text = value.strip()
    try:
        number = float(text.removesuffix("%").strip().replace(",", "."))
    except ValueError:
        return value
    if Path(value).exists():
        return value
    return number / 100 if text.endswith("%") else number


def not_a_share(name: str, number: float) -> str:
    """Return the message for a number that is not between 0 and 1."""
    percent = f" For {number:g} percent write {number:g}% or {number / 100:g}." if 1 <= number < 100 else ""
    return (
        f"{name}: {number:g} is not a share of each class, which lies between 0 and 1, such as 0.1 or 10%.{percent} "
        "A number of images cannot be given; images of their own are given as a file or folder."
    )
