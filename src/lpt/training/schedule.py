"""Optimisers and learning rates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from lpt.config.schema import PhaseConfig

REFERENCE_BATCH = 256
MOMENTUM = 0.9
BACKBONE = "weights."
"""Prefix of the names of the backbone's own weights in a model."""


def build_optimizer(
    parameters: Mapping[str, nn.Parameter], settings: PhaseConfig, blocks: int = 0
) -> torch.optim.Optimizer:
    """Build the optimiser of a phase; training sets the rate of each group before every step.

    Args:
        parameters: the trained tensors, by their names in the model.
        settings: of the phase.
        blocks: number of blocks L of the backbone, for the layer decay of its own weights.
    """
    groups = _groups(parameters, settings, blocks)
    if settings.optimizer == "sgd":
        return torch.optim.SGD(
            groups, lr=settings.lr, momentum=MOMENTUM, weight_decay=settings.weight_decay, foreach=False
        )
    return torch.optim.AdamW(groups, lr=settings.lr, weight_decay=settings.weight_decay, foreach=False)


def _groups(parameters: Mapping[str, nn.Parameter], settings: PhaseConfig, blocks: int) -> list[dict[str, Any]]:
    """Group parameters by rate factor and weight decay; biases and norms of the backbone have no decay."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        factor, decay = 1.0, settings.weight_decay
        if name.startswith("head.") and settings.head_lr is not None:
            factor = settings.head_lr / settings.lr
        if name.startswith(BACKBONE):
            factor = settings.layer_decay ** (blocks + 1 - _layer(name, blocks))
            decay = 0.0 if parameter.ndim <= 1 or name.endswith(("pos_embed", "cls_token", "reg_token")) else decay
        groups.setdefault((factor, decay), []).append(parameter)
    return [{"params": members, "factor": factor, "weight_decay": decay} for (factor, decay), members in groups.items()]


def _layer(name: str, blocks: int) -> int:
    """Return the layer of a backbone tensor: 0 for the embedding, 1..L for the blocks, L + 1 for the final norm."""
    parts = name.removeprefix(BACKBONE).split("/")
    if parts[0] == "blocks":
        return int(parts[1]) + 1
    return blocks + 1 if parts[0] == "norm" else 0


def learning_rate(settings: PhaseConfig, step: int, epoch_steps: int, batch_size: int) -> float:
    """Return the rate of a step: linear warm-up from `min_lr`, then half a cosine to 0.

    Under schedule `epoch` the rate is constant within an epoch (the published form: epoch 0 runs at `min_lr`). Under
    `step` it changes with every step. A warm-up as long as the phase is cut to half of the epochs. The peak is
    `lr * batch_size / 256` for SGD and `lr` for AdamW.
    """
    peak = settings.lr * (batch_size / REFERENCE_BATCH if settings.optimizer == "sgd" else 1)
    passed = step // epoch_steps if settings.schedule == "epoch" else step / epoch_steps
    warmup = settings.warmup_epochs if settings.warmup_epochs < settings.epochs else settings.epochs / 2
    if passed < warmup:
        return settings.min_lr + (peak - settings.min_lr) * passed / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (passed - warmup) / (settings.epochs - warmup)))
