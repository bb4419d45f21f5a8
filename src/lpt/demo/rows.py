"""The three rows of the demo's table: how each method is trained on one seed's digits, through `lpt.fit`.

Settings are the same for all seeds. They were chosen as the docstring of `lpt.demo.run` says.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpt.commands.fit.fit import fit
from lpt.data.longtail import ShotGroups
from lpt.data.manifest import Splits
from lpt.evaluation.metrics import Metrics

PROBE, TUNING, LPT = "linear probe", "full fine-tuning", "LPT (both phases)"
METHOD = {PROBE: "linear-probe-la", TUNING: "fine-tuning-la", LPT: "lpt"}
GROUPS = ShotGroups(few_below=10, many_above=50)


@dataclass(frozen=True)
class DemoBudget:
    """What each trained row may draw: LPT two batches of `batch_size` a step, fine-tuning one of twice that.

    Args:
        batch_size: images of each of LPT's two streams in a step.
        epoch_steps: steps of an epoch.
        phase1_epochs, phase2_epochs: epochs of LPT's phases.
    """

    batch_size: int = 16
    epoch_steps: int = 10
    phase1_epochs: int = 10
    phase2_epochs: int = 5

    @property
    def steps(self) -> int:
        """Steps of both phases together, and of fine-tuning."""
        return self.epoch_steps * (self.phase1_epochs + self.phase2_epochs)

    @property
    def image_draws(self) -> int:
        """Images drawn by each trained row."""
        return 2 * self.batch_size * self.steps


@dataclass(frozen=True)
class Outcome:
    """One method on one seed.

    Args:
        metrics: on the test digits.
        parameters: numbers that were trained.
        stored_bytes: what has to be stored beside the frozen backbone, or, for fine-tuning, instead of it.
        image_draws: augmented training images drawn.
        seconds: training and testing.
        run_folder: where the run lies.
    """

    metrics: Metrics
    parameters: int
    stored_bytes: int
    image_draws: int
    seconds: float
    run_folder: str


COMMON: dict[str, Any] = {
    "data.few_below": GROUPS.few_below,
    "data.many_above": GROUPS.many_above,
    "image.size": "auto",
    "image.crop_area": [0.6, 1.0],
    "image.test_crop": 1.0,
    "image.flip": False,
    "runtime.precision": "fp32",
    "runtime.checkpoint_seconds": 3600,
}
SETTINGS: dict[str, dict[str, Any]] = {
    PROBE: {},
    TUNING: {
        "train.phase1.lr": 3e-4,
        "train.phase1.head_lr": 1e-3,
        "train.phase1.layer_decay": 1.0,
        "train.phase1.weight_decay": 0.05,
    },
    LPT: {
        "model.prompt_length": 4,
        "model.pool_size": 8,
        "model.head_init": "class_means",
        "model.prompt_init": "random",
        "model.group_init": "random",
        "model.key_init": "kmeans",
        "train.phase1.lr": 2e-3,
        "train.phase2.lr": 2e-3,
    },
}


def demo_row(
    row: str, splits: Splits, output: Path, budget: DemoBudget, seed: int, backbone: dict[str, Any]
) -> Outcome:
    """One row on one seed's digits, as a user would run it.

    Args:
        row: which.
        splits: the digits.
        output: run folder to make.
        budget: image draws of a trained row.
        seed: of every random draw.
        backbone: name and checkpoint.
    """
    started = time.monotonic()
    result = fit(
        splits,
        output,
        preset="laptop",
        method=METHOD[row],
        settings={
            **{f"backbone.{key}": value for key, value in backbone.items()},
            **COMMON,
            **SETTINGS[row],
            **_draws(row, budget),
            "runtime.seed": seed,
        },
    )
    return Outcome(
        result.metrics["test"],
        result.pack.info.method.trainable_parameters,
        result.pack.stored_bytes,
        0 if row == PROBE else budget.image_draws,
        time.monotonic() - started,
        str(output),
    )


def _draws(row: str, budget: DemoBudget) -> dict[str, Any]:
    both = {"train.epoch_steps": budget.epoch_steps}
    if row == LPT:
        epochs = {"train.phase1.epochs": budget.phase1_epochs, "train.phase2.epochs": budget.phase2_epochs}
        return {**both, **epochs, "train.batch_size": budget.batch_size}
    if row == TUNING:
        epochs = {"train.phase1.epochs": budget.phase1_epochs + budget.phase2_epochs}
        return {**both, **epochs, "train.batch_size": 2 * budget.batch_size}
    return both
