"""The demo's data: scikit-learn's 1,797 handwritten digits, cut long-tailed. Nothing is downloaded."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lpt.data.longtail import long_tailed_indices
from lpt.errors import ConfigError

IMBALANCE = 50.0
LARGEST_CLASS = 100


class DigitSplit(NamedTuple):
    """Images uint8 [n, 8, 8] (0 to 255, ink is light), labels int64 [n], and the ten class names."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    names: list[str]


def load_digits() -> DigitSplit:
    """All handwritten digits in scikit-learn's order, its 17 grey levels spread over 0 to 255."""
    try:
        from sklearn.datasets import load_digits as load
    except ImportError as error:
        raise ConfigError(
            "The demo needs scikit-learn, which brings the handwritten digits, and it is not installed. "
            "Install it with: pip install '.[demo]' in the folder of LPT"
        ) from error
    bunch = load()
    images = np.rint(np.asarray(bunch.images) * (255.0 / 16.0)).astype(np.uint8)
    labels = np.asarray(bunch.target).astype(np.int64)
    return DigitSplit(images, labels, [str(name) for name in bunch.target_names])


def long_tailed_digits(
    seed: int = 0, imbalance: float = IMBALANCE, largest_class: int = LARGEST_CLASS
) -> tuple[DigitSplit, DigitSplit]:
    """Training and test digits.

    Class c of C, in label order, keeps floor(largest_class * imbalance ** (-c / (C - 1))) training images (100
    zeros down to 2 nines), drawn by `seed`; every other image is a test image.
    """
    digits = load_digits()
    keep = long_tailed_indices(digits.labels, imbalance, n_max=largest_class, seed=seed)
    rest = np.setdiff1d(np.arange(len(digits.labels)), keep)
    return (
        DigitSplit(digits.images[keep], digits.labels[keep], digits.names),
        DigitSplit(digits.images[rest], digits.labels[rest], digits.names),
    )
