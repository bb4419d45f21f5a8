"""The training loop, its schedule and its checkpoints."""

from __future__ import annotations

import argparse
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from timm.layers import PatchDropout
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from scripts.demo_backbone.augment import augment
from scripts.demo_backbone.classes import Glyphs
from scripts.demo_backbone.model import accuracy, logits

CHECKPOINT_SECONDS = 120.0
# Until the last third, training sees a random 60 % of an image's patches: nearly twice the images in the same time.
PATCH_DROPOUT, WHOLE = PatchDropout(0.4), nn.Identity()


class Sampler:
    """Draws a class, then one of its renders, both uniformly, so that no script dominates."""

    def __init__(self, labels: np.ndarray, classes: int) -> None:
        order = np.argsort(labels, kind="stable")
        counts = np.bincount(labels, minlength=classes)
        self.order = torch.from_numpy(order)
        self.counts = torch.from_numpy(counts)
        self.starts = self.counts.cumsum(0) - self.counts
        self.classes = classes

    def draw(self, size: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Indices of renders and their labels."""
        labels = torch.randint(self.classes, (size,), generator=rng)
        offset = (torch.rand(size, generator=rng) * self.counts[labels]).long()
        return self.order[self.starts[labels] + offset], labels


@dataclass
class State:
    """Everything a training run carries from step to step."""

    model: VisionTransformer
    average: dict[str, Tensor]
    optimizers: list[torch.optim.Optimizer]
    rng: torch.Generator
    step: int = 0
    images: int = 0
    seconds: float = 0.0

    def save(self, path: Path) -> None:
        """Write the checkpoint beside its place, then move it there."""
        content = {
            "model": self.model.state_dict(),
            "average": self.average,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "rng": self.rng.get_state(),
            "counters": (self.step, self.images, self.seconds),
        }
        partial = path.with_suffix(".partial")
        torch.save(content, partial)
        os.replace(partial, path)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint."""
        content = torch.load(path, weights_only=True)
        self.model.load_state_dict(content["model"])
        self.average = content["average"]
        for optimizer, saved in zip(self.optimizers, content["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.rng.set_state(content["rng"])
        self.step, self.images, self.seconds = content["counters"]


def schedule(progress: float, step: int, warmup: int) -> float:
    """The share of the peak learning rate: linear warm-up, then a cosine to nearly nothing at progress 1."""
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return min(1.0, (step + 1) / warmup) * (0.005 + 0.995 * cosine)


def train(state: State, glyphs: Glyphs, held: np.ndarray, args: argparse.Namespace, checkpoint: Path) -> None:
    """Train until the steps or the minutes are used up, whichever comes first."""
    images, labels = torch.from_numpy(glyphs.images[~held]), glyphs.labels[~held]
    tests, truths = torch.from_numpy(glyphs.images[held]), torch.from_numpy(glyphs.labels[held])
    sampler = Sampler(labels, len(glyphs.names))
    clock, saved, before = time.monotonic(), time.monotonic(), state.seconds
    running = 0.0
    while (progress := max(state.step / args.steps, state.seconds / (60 * args.minutes))) < 1:
        index, target = sampler.draw(args.batch, state.rng)
        rate = schedule(progress, state.step, args.warmup)
        strength = min(1.0, 0.2 + 0.8 * progress / 0.3)  # mild deformations first: they are learned sooner
        x = augment(images[index], state.rng, strength)
        state.model.patch_drop = WHOLE if progress > 0.7 else PATCH_DROPOUT
        loss = F.cross_entropy(logits(state.model, x), target, label_smoothing=0.1)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(state.model.parameters(), 1.0)
        for optimizer in state.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * group["peak"]
            optimizer.step()
            optimizer.zero_grad()
        keep = min(args.ema, (1 + state.step) / (10 + state.step))
        with torch.no_grad():
            for name, value in state.model.state_dict().items():
                state.average[name].lerp_(value, 1 - keep)
        state.step += 1
        state.images += args.batch
        state.seconds = before + time.monotonic() - clock
        running = loss.item() if running == 0 else 0.98 * running + 0.02 * loss.item()
        if state.step % 50 == 0:
            print(
                f"step {state.step} progress {progress:.3f} loss {running:.3f} lr {rate:.3f} of peak "
                f"{state.images / state.seconds:.0f} images/s {state.seconds:.0f} s",
                flush=True,
            )
        if time.monotonic() - saved > CHECKPOINT_SECONDS:
            saved = time.monotonic()
            state.save(checkpoint)
            score = accuracy(state.model, tests, truths, torch.Generator().manual_seed(args.seed))
            print(f"step {state.step} held-out, augmented: top-1 {score:.2f} %", flush=True)
    state.save(checkpoint)
