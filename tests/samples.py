"""Small inputs that several tests share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lpt.data.transforms import Preprocessing

PREPROCESSING = Preprocessing(
    size=(24, 24),
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    interpolation="bicubic",
    test_crop=0.875,
    crop_area=(0.2, 1.0),
    crop_aspect=(0.75, 1.33),
    flip=True,
)
"""What small backbones of `oracle.small_vit` take: 24x24 pixels."""


def tiny_settings(
    checkpoint: Path | None = None, *, batch_size: int = 8, epoch_steps: int = 4, epochs: tuple[int, int] = (2, 1)
) -> dict[str, Any]:
    """Return the settings of a run that takes seconds on a CPU, by dotted path.

    Args:
        checkpoint: of the backbone; None: not set.
        batch_size: images of each stream in a step.
        epoch_steps: steps of an epoch.
        epochs: of phase 1 and of phase 2.
    """
    backbone = {} if checkpoint is None else {"backbone.checkpoint": str(checkpoint)}
    return backbone | {
        "image.size": 32,
        "model.prompt_length": 2,
        "model.pool_size": 4,
        "train.batch_size": batch_size,
        "train.epoch_steps": epoch_steps,
        "train.phase1.epochs": epochs[0],
        "train.phase2.epochs": epochs[1],
        "runtime.threads": 1,
        "runtime.precision": "fp32",
        "runtime.device": "cpu",
    }


def as_assignments(settings: Mapping[str, Any]) -> list[str]:
    """Return settings as `--set` takes them."""
    return [f"{path}={value}" for path, value in settings.items()]
