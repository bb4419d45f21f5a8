"""The three rows of the demo's table: how each method is trained on one seed's digits.

Settings are the same for all seeds. They were chosen as the docstring of `lpt.demo.run` says.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lpt.data.longtail import ShotGroups
from lpt.data.manifest import Splits
from lpt.data.transforms import Preprocessing
from lpt.evaluation.calibration import probabilities
from lpt.evaluation.metrics import Metrics, measure_probabilities
from lpt.hardware import reproducible
from lpt.methods.fine_tuning import fine_tune
from lpt.methods.linear_probe import LinearProbe, linear_probe
from lpt.methods.training import Budget
from lpt.model import FrozenViT
from lpt.run.fit import fit
from lpt.training.initial import FloatArray, split_features

PROBE, TUNING, LPT = "linear probe", "full fine-tuning", "LPT (both phases)"
GROUPS = ShotGroups(few_below=10, many_above=50)
CROP_AREA = (0.6, 1.0)
FLOAT_BYTES = 4


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
        notes: what else was found, such as the weight decay that was chosen.
    """

    metrics: Metrics
    parameters: int
    stored_bytes: int
    image_draws: int
    seconds: float
    notes: dict[str, Any] = field(default_factory=dict)


LPT_SETTINGS: dict[str, Any] = {
    "data.few_below": GROUPS.few_below,
    "data.many_above": GROUPS.many_above,
    "image.crop_area": list(CROP_AREA),
    "image.test_crop": 1.0,
    "image.flip": False,
    "model.prompt_length": 4,
    "model.pool_size": 8,
    "model.head_init": "class_means",
    "model.key_init": "kmeans",
    "train.phase1.lr": 2e-3,
    "train.phase2.lr": 2e-3,
    "runtime.precision": "fp32",
    "runtime.checkpoint_seconds": 3600,
}
TUNING_SETTINGS: dict[str, Any] = {
    "lr": 3e-4,
    "head_lr": 1e-3,
    "layer_decay": 1.0,
    "weight_decay": 0.05,
    "tau": 1.0,
    "from_probe": False,
    "warmup": 0.1,
}
PROBE_SETTINGS: dict[str, Any] = {"tau": 1.0, "scaling": "standardise"}
SETTINGS = {PROBE: PROBE_SETTINGS, TUNING: TUNING_SETTINGS, LPT: LPT_SETTINGS}


def preprocessing_of(backbone: FrozenViT) -> Preprocessing:
    """The same pictures for every row."""
    assert backbone.record is not None
    return Preprocessing(
        size=backbone.image_size,
        mean=backbone.record.mean,
        std=backbone.record.std,
        interpolation="bicubic",
        test_crop=1.0,
        crop_area=CROP_AREA,
        crop_aspect=(3 / 4, 4 / 3),
        flip=False,
    )


def probe_row(splits: Splits, backbone: FrozenViT, seed: int, threads: int) -> tuple[Outcome, LinearProbe]:
    """The linear probe with logit adjustment, its weight decay chosen on cuts of the training split."""
    started = time.monotonic()
    assert splits.test is not None
    with reproducible(threads):
        features = [
            split_features(backbone.features, backbone, images, preprocessing_of(backbone), batch_size=64)
            for images in (splits.train, splits.test)
        ]
        classes = len(splits.class_names)
        probe = linear_probe(features[0], splits.train.labels, classes, seed=seed, **PROBE_SETTINGS)
        metrics = measure_logits(splits, probe.logits(features[1]))
    size = probe.parameters
    notes = {"weight_decay": probe.weight_decay}
    return Outcome(metrics, size, FLOAT_BYTES * size, 0, time.monotonic() - started, notes), probe


def tuning_row(
    splits: Splits,
    backbone: FrozenViT,
    budget: DemoBudget,
    seed: int,
    threads: int,
    probe: LinearProbe,
    progress: Callable[[int], None] = lambda done: None,
    **settings: Any,
) -> Outcome:
    """Full fine-tuning with logit adjustment."""
    started = time.monotonic()
    assert splits.test is not None
    chosen = {**TUNING_SETTINGS, **settings}
    warmup = round(chosen.pop("warmup") * budget.steps)
    head = probe.plain_head() if chosen.pop("from_probe") else None
    with reproducible(threads):
        tuned = fine_tune(
            backbone,
            splits.train,
            preprocessing_of(backbone),
            Budget(budget.steps, 2 * budget.batch_size, warmup, "instance", seed),
            head=head,
            progress=progress,
            **chosen,
        )
        metrics = measure_logits(splits, tuned.logits(splits.test))
    return Outcome(metrics, tuned.parameters, tuned.stored_bytes, budget.image_draws, time.monotonic() - started)


def lpt_row(
    splits: Splits,
    output: Path,
    budget: DemoBudget,
    seed: int,
    backbone: dict[str, Any],
    **settings: Any,
) -> Outcome:
    """Long-tailed prompt tuning through `lpt.fit`, as a user would run it."""
    started = time.monotonic()
    result = fit(
        splits,
        output,
        preset="laptop",
        settings={
            **{f"backbone.{key}": value for key, value in backbone.items()},
            **LPT_SETTINGS,
            "image.size": "auto",
            "train.batch_size": budget.batch_size,
            "train.epoch_steps": budget.epoch_steps,
            "train.phase1.epochs": budget.phase1_epochs,
            "train.phase2.epochs": budget.phase2_epochs,
            "runtime.seed": seed,
            **settings,
        },
    )
    method = result.pack.info.method
    return Outcome(
        result.metrics["test"],
        method.trainable_parameters,
        result.pack.stored_bytes,
        budget.image_draws,
        time.monotonic() - started,
        {"run_folder": str(output)},
    )


def measure_logits(splits: Splits, logits: FloatArray) -> Metrics:
    """Metrics of logits on the test split, with probabilities softmax(logits)."""
    assert splits.test is not None
    table = probabilities(logits, 1.0, 1.0)
    return measure_probabilities(splits.test.labels, table, splits.counts_before_cut, GROUPS)
