"""Find corruptions by name, and read images through one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import index

import numpy as np
from PIL import Image

from lpt.data.manifest import ImageSource
from lpt.errors import ConfigError
from lpt.evaluation.corruptions import blur, colour, digital, noise, weather
from lpt.evaluation.corruptions.fields import Pixels
from lpt.system.randomness import seed_of

FAMILIES = ("noise", "blur", "weather", "digital", "colour")
SEVERITIES = (1, 2, 3, 4, 5)
VERSION = 1
"""Raise it with every change of a corruption: results of different versions are not mixed."""


@dataclass(frozen=True)
class Corruption:
    """One kind of corruption.

    Args:
        family: noise, blur, weather, digital or colour.
        apply: (pixels [H, W, 3] in 0..1, strength, random numbers) -> pixels, clipped afterwards.
        strengths: strength of severity 1 to 5, ascending; the function's docstring says what it means.
    """

    family: str
    apply: Callable[[Pixels, float, np.random.Generator], Pixels]
    strengths: tuple[float, float, float, float, float]


CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": Corruption("noise", noise.gaussian_noise, (0.08, 0.12, 0.18, 0.26, 0.38)),
    "shot_noise": Corruption("noise", noise.shot_noise, (1 / 60, 1 / 25, 1 / 12, 1 / 5, 1 / 3)),
    "impulse_noise": Corruption("noise", noise.impulse_noise, (0.03, 0.06, 0.1, 0.17, 0.27)),
    "speckle_noise": Corruption("noise", noise.speckle_noise, (0.15, 0.22, 0.33, 0.45, 0.6)),
    "defocus_blur": Corruption("blur", blur.defocus_blur, (2.0, 3.2, 4.6, 6.2, 8.0)),
    "motion_blur": Corruption("blur", blur.motion_blur, (6.0, 10.0, 15.0, 21.0, 28.0)),
    "zoom_blur": Corruption("blur", blur.zoom_blur, (0.06, 0.11, 0.17, 0.24, 0.33)),
    "gaussian_blur": Corruption("blur", blur.gaussian_blur, (1.4, 2.2, 3.2, 4.4, 6.0)),
    "fog": Corruption("weather", weather.fog, (0.6, 1.0, 1.5, 2.1, 3.0)),
    "snow": Corruption("weather", weather.snow, (0.05, 0.09, 0.14, 0.2, 0.28)),
    "rain": Corruption("weather", weather.rain, (0.12, 0.22, 0.34, 0.48, 0.64)),
    "brightness": Corruption("weather", weather.brightness, (0.15, 0.28, 0.41, 0.54, 0.66)),
    "pixelate": Corruption("digital", digital.pixelate, (1.8, 2.4, 3.1, 4.0, 5.2)),
    "jpeg": Corruption("digital", digital.jpeg, (3.0, 4.5, 7.0, 10.0, 15.0)),
    "elastic": Corruption("digital", digital.elastic, (1.5, 2.8, 4.4, 6.4, 9.0)),
    "posterize": Corruption("digital", digital.posterize, (2.0, 3.2, 4.0, 5.4, 8.0)),
    "contrast": Corruption("colour", colour.contrast, (0.4, 0.55, 0.68, 0.8, 0.88)),
    "saturation": Corruption("colour", colour.saturation, (0.6, 1.2, 2.0, 3.5, 6.0)),
    "colour_cast": Corruption("colour", colour.colour_cast, (0.15, 0.28, 0.43, 0.6, 0.8)),
    "greyscale": Corruption("colour", colour.greyscale, (0.3, 0.5, 0.7, 0.85, 1.0)),
}
"""After Hendrycks and Dietterich, ICLR 2019, written anew from their descriptions, with strengths of our own."""


def corrupt(image: Image.Image, kind: str, severity: int, *, seed: int, position: int) -> Image.Image:
    """Return a corrupted copy of an RGB picture, of the same size.

    Args:
        image: the picture, before any preprocessing.
        kind: a name of `CORRUPTIONS`.
        severity: 1 to 5.
        seed, position: the random numbers depend on these, kind and severity, on nothing else.

    Raises:
        ConfigError: there is no such kind or severity.
    """
    (kind,) = find_kinds([kind])
    (severity,) = find_severities([severity])
    corruption = CORRUPTIONS[kind]
    # The type of a part counts: numpy's integers become Python's, so that equal numbers draw the same.
    parts = ("corruption", index(seed), kind, severity, index(position))
    rng = np.random.Generator(np.random.PCG64(seed_of(*parts)))
    pixels = np.asarray(image.convert("RGB"), dtype=np.float32) / np.float32(255)
    changed = corruption.apply(pixels, corruption.strengths[severity - 1], rng)
    return Image.fromarray((np.clip(changed, 0, 1) * 255).round().astype(np.uint8))


def find_kinds(names: Iterable[str]) -> tuple[str, ...]:
    """Return the corruptions of these names or families, each once, in the order of `CORRUPTIONS`; without names all.

    Raises:
        ConfigError: a name is neither a kind nor a family.
    """
    wanted = [name.strip().lower().replace("-", "_").replace(" ", "_") for name in names]
    unknown = [name for name in wanted if name not in CORRUPTIONS and name not in FAMILIES]
    if unknown:
        raise ConfigError(
            f"corruptions: {', '.join(map(repr, unknown))} is not known. Kinds: {', '.join(CORRUPTIONS)}. "
            f"Families, each for all of its kinds: {', '.join(FAMILIES)}. Leave the names out for all kinds."
        )
    return tuple(
        kind for kind, corruption in CORRUPTIONS.items() if not wanted or kind in wanted or corruption.family in wanted
    )


def find_severities(values: Iterable[int]) -> tuple[int, ...]:
    """Return severities in ascending order, each once.

    Raises:
        ConfigError: there is none, or one is no whole number from 1 to 5.
    """
    wanted = list(values)
    wrong = [value for value in wanted if not hasattr(value, "__index__") or value not in SEVERITIES]
    if wrong or not wanted:
        given = ", ".join(map(str, wrong)) or "none"
        raise ConfigError(f"severities: whole numbers from 1 (mild) to 5 (severe) are accepted, got {given}")
    return tuple(sorted({index(value) for value in wanted}))


class CorruptedImages:
    """An image source seen through a corruption. The random numbers of an image depend on its row.

    Args:
        source: the images. If the position in a split is to count, give the split itself and choose rows afterwards:
            `LabelledImages` is a source whose rows are its positions.
        kind: a name of `CORRUPTIONS`.
        severity: 1 to 5.
        seed: seed of the random numbers.

    Raises:
        ConfigError: there is no such kind or severity.
    """

    def __init__(self, source: ImageSource, kind: str, severity: int, seed: int) -> None:
        (self.kind,) = find_kinds([kind])
        (self.severity,) = find_severities([severity])
        self.source, self._seed = source, seed

    def __len__(self) -> int:
        return len(self.source)

    def name(self, row: int) -> str:
        """Return the name that the source gives it."""
        return self.source.name(row)

    def read(self, row: int) -> Image.Image:
        """Return the corrupted picture."""
        return corrupt(self.source.read(row), self.kind, self.severity, seed=self._seed, position=row)


class ReducedImages:
    """An image source whose large pictures are reduced, so that later steps take less time.

    Args:
        source: the images.
        shorter_side: pictures whose shorter side is longer than this are reduced to it, pixels.
    """

    def __init__(self, source: ImageSource, shorter_side: int) -> None:
        self._source, self._shorter_side = source, shorter_side

    def __len__(self) -> int:
        return len(self._source)

    def name(self, row: int) -> str:
        """Return the name that the source gives it."""
        return self._source.name(row)

    def read(self, row: int) -> Image.Image:
        """Return the picture, reduced if it is large."""
        image = self._source.read(row)
        ratio = self._shorter_side / min(image.size)
        if ratio >= 1:
            return image
        return image.resize((round(image.width * ratio), round(image.height * ratio)), Image.Resampling.BICUBIC)
