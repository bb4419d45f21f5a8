"""The demo's data: scikit-learn's 1,797 handwritten digits, cut long-tailed. Nothing is downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lpt.data.images import ArrayImages
from lpt.data.longtail import long_tailed_indices
from lpt.data.manifest import LabelledImages, Splits
from lpt.errors import ConfigError, RunError

IMBALANCE = 50.0
LARGEST_CLASS = 100
EXAMPLES_PER_CLASS = 2


class Digits(NamedTuple):
    """Images uint8 [n, 8, 8] (0 to 255, ink is light), labels int64 [n], and the ten class names."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    names: list[str]


def load_digits() -> Digits:
    """Return all digits in scikit-learn's order, their 17 grey levels spread over 0 to 255.

    Raises:
        ConfigError: scikit-learn is not installed.
    """
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
    return Digits(images, labels, [str(name) for name in bunch.target_names])


def digit_splits(seed: int) -> Splits:
    """Return the training and test digits of a seed.

    Class c of C, in label order, keeps floor(LARGEST_CLASS * IMBALANCE ** (-c / (C - 1))) training images (100 zeros
    down to 2 nines), which the seed chooses. Every other image is a test image.
    """
    digits = load_digits()
    kept = long_tailed_indices(digits.labels, IMBALANCE, n_max=LARGEST_CLASS, seed=seed)
    others = np.setdiff1d(np.arange(len(digits.labels)), kept)
    train = _labelled(digits, kept, "train")
    return Splits(train, None, _labelled(digits, others, "test"), counts_before_cut=train.class_counts)


def write_examples(folder: Path, images: LabelledImages) -> None:
    """Make a folder and write the first images of each class into it as PNG files.

    Raises:
        RunError: a file cannot be written.
    """
    try:
        folder.mkdir()
        for label, name in enumerate(images.class_names):
            for index in np.flatnonzero(images.labels == label)[:EXAMPLES_PER_CLASS]:
                images.read(int(index)).save(folder / f"digit-{name}-test{index:04d}.png")
    except OSError as error:
        raise RunError(f"cannot write the example images in {folder}: {error.strerror}") from None


def _labelled(digits: Digits, chosen: NDArray[np.int64], split: str) -> LabelledImages:
    """Return the chosen digits as labelled images, named by their split and number."""
    rows = np.arange(len(chosen), dtype=np.int64)
    images = ArrayImages(digits.images[chosen], [f"{split} digit {row}" for row in rows])
    return LabelledImages(images, rows, digits.labels[chosen], tuple(digits.names))
