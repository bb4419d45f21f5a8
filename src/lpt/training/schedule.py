"""Optimisers and learning rates."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from lpt.config import PhaseConfig

REFERENCE_BATCH = 256
MOMENTUM = 0.9


def build_optimizer(parameters: Iterable[nn.Parameter], settings: PhaseConfig) -> torch.optim.Optimizer:
    """The optimiser of a phase; its learning rate is set before every step."""
    if settings.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, lr=settings.lr, momentum=MOMENTUM, weight_decay=settings.weight_decay, foreach=False
        )
    return torch.optim.AdamW(parameters, lr=settings.lr, weight_decay=settings.weight_decay, foreach=False)


def learning_rate(settings: PhaseConfig, step: int, epoch_steps: int, batch_size: int) -> float:
    """The rate of a step: linear warm-up from `min_lr`, then half a cosine to 0.

    Under schedule `epoch` it is constant within an epoch (the published form: epoch 0 runs at `min_lr`), under `step`
    it changes with every step. SGD's peak is `lr * batch_size / 256`, AdamW's is `lr`.
    """
    peak = settings.lr * (batch_size / REFERENCE_BATCH if settings.optimizer == "sgd" else 1)
    passed = step // epoch_steps if settings.schedule == "epoch" else step / epoch_steps
    warmup = min(settings.warmup_epochs, settings.epochs)
    if passed < warmup:
        return settings.min_lr + (peak - settings.min_lr) * passed / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (passed - warmup) / max(settings.epochs - warmup, 1)))
