"""When a run fits a temperature, and when it says that it cannot."""

from __future__ import annotations

import numpy as np
import pytest

from lpt.data.manifest import Float32Array, IntArray
from lpt.packs.temperature import LEAST_FOR_TEMPERATURE, fitted_probabilities


def predictions(count: int, mistakes: int) -> tuple[Float32Array, IntArray]:
    """Cosines of `count` images of two classes, the first `mistakes` of them taken for the other class."""
    labels = np.arange(count) % 2
    text = np.where(np.arange(count) < mistakes, 1 - labels, labels)
    cosines = np.where(np.arange(2) == text[:, None], 0.4, 0.1).astype(np.float32)
    return cosines, labels


@pytest.mark.parametrize(("count", "mistakes"), [(LEAST_FOR_TEMPERATURE - 1, 5), (200, 0)])
def test_images_that_cannot_tell_fit_no_temperature(count: int, mistakes: int) -> None:
    """Few images, or images that are all recognised, would drive the temperature to its lower bound."""
    setting = fitted_probabilities(*predictions(count, mistakes), scale=20)
    assert setting.temperature == 1
    assert setting.fitted_on.startswith(f"nothing ({count} validation images, {mistakes} mistakes")


def test_a_temperature_makes_confidence_match_accuracy() -> None:
    """With one margin for all images the best confidence is the share that is right: sigmoid(20 * 0.3 / T) = 0.8."""
    setting = fitted_probabilities(*predictions(200, 40), scale=20)
    assert 20 * 0.3 / setting.temperature == pytest.approx(np.log(0.8 / 0.2), rel=1e-3)
    assert setting.fitted_on == "200 validation images"
