"""The simulation of `lpt label-next`: what each strategy may choose, and which classes it is measured on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from benchmarks.accuracy.label_next import STRATEGIES, choose, measure
from benchmarks.accuracy.label_next_data import Pictures

from lpt.commands.label_next.look import Looks
from lpt.data.images import ArrayImages
from lpt.data.manifest import LabelledImages
from lpt.evaluation.acquisition import Guesses


@pytest.fixture
def pictures() -> Pictures:
    """Forty pictures of two classes, of which every eighth is labelled."""
    source = ArrayImages(np.zeros((40, 2, 2, 3), dtype=np.uint8))
    images = LabelledImages(source, np.arange(40), np.repeat([0, 1], [32, 8]), ("cat", "okapi"))
    return Pictures(images, images, np.arange(0, 40, 8), 6)


def test_strategies_choose_from_the_pool_only(pictures: Pictures) -> None:
    shares = np.stack([np.linspace(0.5, 1, 35), np.linspace(0.5, 0, 35)], axis=1).astype(np.float32)
    guesses = Guesses(np.tile(np.array([0, 1]), (35, 1)), shares)
    looks = Looks([Path()] * 35, guesses, np.eye(35, dtype=np.float32))
    assert pictures.start_counts.tolist() == [4, 1]
    for strategy in STRATEGIES:
        rows = choose(strategy, looks, pictures, seed=0)
        chosen = pictures.pool[rows]
        assert len({*chosen.tolist()}) == 6
        assert not {*chosen.tolist()} & {*pictures.labelled.tolist()}
    assert choose("margin", looks, pictures, seed=0).tolist() == [0, 1, 2, 3, 4, 5]
    assert choose("random", looks, pictures, seed=0).tolist() != choose("random", looks, pictures, seed=1).tolist()


def test_groups_go_by_the_counts_of_the_start(tmp_path: Path) -> None:
    """Whatever group a class is in after the labels were added; a class without test images does not count."""
    (tmp_path / "per_class.csv").write_text(
        "class,train_images,group,test_images,accuracy,confused_with,confused_images\n"
        "cat,300,many,80,0.9000,okapi,8\nokapi,25,medium,10,0.5000,cat,5\ngnu,2,few,10,0.3000,cat,7\nyak,9,few,0,,,0\n",
        encoding="utf-8",
    )
    row = measure(tmp_path, np.array([30, 4, 2, 1]), np.array([1, 1, 0, 2]))
    assert (row["few"], row["medium"], row["mean_per_class"], row["overall"]) == (40.0, 90.0, 56.667, 80.0)
    assert (row["chosen"], row["chosen_few"], row["chosen_classes"]) == (4, 3, 3)
