"""Scores and labels for the tests of the losses."""

from __future__ import annotations

import torch
from torch import Tensor

from lpt.losses import LongTailedLoss

COUNTS = [500, 120, 60, 20, 5, 1]


def random_cosines(batch: int, classes: int, seed: int = 0, width: float = 1.0) -> Tensor:
    """[B, C] in float64, uniform in [-width, width]."""
    generator = torch.Generator().manual_seed(seed)
    return width * (2 * torch.rand(batch, classes, generator=generator, dtype=torch.float64) - 1)


def random_labels(batch: int, classes: int, seed: int = 0) -> Tensor:
    return torch.randint(classes, (batch,), generator=torch.Generator().manual_seed(seed))


def loss_and_gradient(
    loss: LongTailedLoss, cosines: Tensor, labels: Tensor, noise: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    cosines = cosines.detach().clone().requires_grad_(True)
    value = loss(cosines, labels, noise=noise)
    (gradient,) = torch.autograd.grad(value, cosines)
    return value.detach(), gradient
