"""What a split's predictions say about the group prompts."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

import lpt
from lpt.data.longtail import ShotGroups
from lpt.data.manifest import IntArray
from lpt.evaluation.measured import Measured, measure_predictions
from lpt.evaluation.predictions import Predictions


def measured(labels: list[int], groups: IntArray | None, classes: int) -> Measured:
    scores = np.eye(classes, dtype=np.float32)[labels]
    predictions = Predictions(scores, np.array(labels), groups)
    return measure_predictions(predictions, np.full(classes, 9), ShotGroups(), scale=1.0, temperature=1.0)


def test_most_used_groups_by_hand() -> None:
    """The most picked come first, ties by index; one image of six is too few, one of five is enough."""
    picks = [[4, 1], [4, 1], [1, 4], [4, 1], [4, 0], [4, 2], [0, 3], [3, 2], [3, 1], [3, 5], [3, 4]]
    result = measured([0] * 6 + [2] * 5, np.array(picks), classes=3)
    assert result.most_used_groups(6) == [[4, 1], [], [3, 0, 1, 2]]  # 4 and 5 tie with 0, 1, 2: at most top_k + 2


def test_without_group_prompts_there_are_none() -> None:
    assert measured([0, 1], None, classes=2).most_used_groups(6) is None


def test_a_fitted_pack_says_which_groups_its_classes_pick(
    fitted_run: Path, photo_folder: Path, tiny_backbone: Path
) -> None:
    """They are those that the images of the test split pick when they are predicted."""
    predictor = lpt.load_predictor(fitted_run, checkpoint=tiny_backbone, device="cpu", precision="fp32")
    info = predictor.pack().info
    assert info.group_use is not None
    assert info.group_use.split == "test"
    for name, groups in zip(info.class_names, info.group_use.classes, strict=True):
        pictures = sorted((photo_folder / "test" / name).iterdir())
        picks = Counter(group for prediction in predictor.predict(pictures) for group in prediction.groups)
        assert groups == sorted(picks, key=lambda group: (-picks[group], group))  # one of two images is enough
