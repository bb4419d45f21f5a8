"""The training loop that all baselines trained on images share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from lpt.data.loading import train_batches
from lpt.data.manifest import LabelledImages
from lpt.data.sampling import ClassBalanced, InstanceBalanced, Sampler
from lpt.data.transforms import Preprocessing
from lpt.errors import RunError

IMAGES_PER_CLASS = 4


@dataclass(frozen=True)
class Budget:
    """How long a baseline is trained, and on what draws.

    Args:
        steps: optimiser steps.
        batch_size: images in a step. LPT draws two batches of B a step: 2 B here is the same number of draws.
        warmup_steps: steps of linear warm-up; then half a cosine to 0.
        sampling: `instance` draws every image equally often, `balanced` every class (4 images of one at a time).
        seed: what draws, augmentation and the first values are a function of.
        workers: processes that read images.
    """

    steps: int
    batch_size: int
    warmup_steps: int
    sampling: Literal["instance", "balanced"] = "instance"
    seed: int = 0
    workers: int = 0

    @property
    def image_draws(self) -> int:
        """Images drawn in all."""
        return self.steps * self.batch_size

    def rate(self, step: int) -> float:
        """The learning rate of a step as a share of its peak."""
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        passed = (step - self.warmup_steps) / max(self.steps - self.warmup_steps, 1)
        return 0.5 * (1 + math.cos(math.pi * passed))


def train_on_images(
    method: str,
    loss_of: Callable[[Tensor, Tensor], Tensor],
    parameter_groups: Iterable[dict[str, Any]],
    images: LabelledImages,
    preprocessing: Preprocessing,
    budget: Budget,
    device: torch.device,
    *,
    progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Minimise a loss over augmented training images with AdamW, warm-up and a cosine.

    Args:
        method: name of the baseline; its random draws are its own.
        loss_of: the loss of normalised images [B, 3, height, width] with labels [B].
        parameter_groups: of AdamW, each with its `lr`, the peak.
        images: the training split.
        preprocessing: as for every other method.
        budget: steps and draws.
        device: where the parameters are.
        progress: called with the number of steps done.

    Raises:
        RunError: a loss is not finite.
    """
    optimizer = torch.optim.AdamW(list(parameter_groups), foreach=False)
    peaks = [group["lr"] for group in optimizer.param_groups]
    sampler: Sampler = (
        InstanceBalanced(len(images), budget.seed, method, budget.sampling)
        if budget.sampling == "instance"
        else ClassBalanced(images.labels, IMAGES_PER_CLASS, budget.seed, method, budget.sampling)
    )
    batches = train_batches(
        images,
        {budget.sampling: sampler},
        batch_size=budget.batch_size,
        preprocessing=preprocessing,
        seed=(budget.seed, method),
        first_step=0,
        last_step=budget.steps,
        workers=budget.workers,
    )
    for step, batch in enumerate(batches):
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * budget.rate(step)
        pixels, labels, _ = batch[budget.sampling]
        loss = loss_of(preprocessing.normalize(pixels.to(device)), labels.to(device))
        if not torch.isfinite(loss.detach()):
            raise RunError(f"{method}, step {step}: the loss is not finite; a lower learning rate may help")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        progress(step + 1)
