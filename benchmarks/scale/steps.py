"""Time a training step of phase 2 against its sizes: M group prompts, P tokens each, C classes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lpt.losses import AsymmetricGCL
from lpt.model import LPT, FrozenViT
from lpt.model.pretrained import load_backbone

DEFAULT = {"pool_size": 20, "prompt_length": 10, "classes": 100}
Sizes = dict[str, int]


def step_seconds(
    sizes: list[Sizes],
    backbone_name: str,
    checkpoint: str | None,
    pixels: int,
    batch_size: int,
    repeats: int,
    alone: bool,
) -> list[dict[str, Any]]:
    """Return the median seconds of a step for each choice of sizes, over two batches as in training.

    The choices take turns, so that a machine that slows down slows them all. `alone`: CPU time on one thread, to
    compare sizes with each other; otherwise by the clock on all cores.
    """
    clock = time.process_time if alone else time.perf_counter
    if alone:
        torch.set_num_threads(1)
    size = None if checkpoint is not None else (pixels, pixels)
    backbone = load_backbone(
        backbone_name, checkpoint=None if checkpoint is None else Path(checkpoint), image_size=size
    )
    steps = [_training_step(backbone, choice, batch_size) for choice in sizes]
    seconds: list[list[float]] = [[] for _ in sizes]
    for repeat in range(repeats + 1):
        for step, times in zip(steps, seconds, strict=True):
            start = clock()
            step()
            if repeat:  # the first one warms up
                times.append(clock() - start)
    return [
        {
            **choice,
            "seconds": round(float(np.median(times)), 5),
            "quartiles": np.percentile(times, [25, 75]).round(5).tolist(),
        }
        for choice, times in zip(sizes, seconds, strict=True)
    ]


def grid(pools: list[int], lengths: list[int], classes: list[int]) -> dict[str, list[Sizes]]:
    """Return for each size the choices in which it alone differs from the default."""
    return {
        "pool_size": [DEFAULT | {"pool_size": value} for value in pools],
        "prompt_length": [DEFAULT | {"prompt_length": value} for value in lengths],
        "classes": [DEFAULT | {"classes": value} for value in classes],
    }


def fitted_line(places: list[float], values: list[float]) -> dict[str, float]:
    """Fit a line by least squares; return it, how far off it is, and the exponent of a power law.

    Returns:
        `intercept` and `slope`; `worst_deviation` of a point from the line, as a share of the largest value;
        `exponent` e of value ~ place^e (places of 0 left out): 0 where the cost is flat, 1 where it is proportional.
    """
    x, y = np.array(places, dtype=np.float64), np.array(values, dtype=np.float64)
    slope, intercept = np.polyfit(x, y, 1)
    positive = x > 0
    exponent = np.polyfit(np.log(x[positive]), np.log(y[positive]), 1)[0] if (y[positive] > 0).all() else np.nan
    return {
        "intercept": float(intercept),
        "slope": float(slope),
        "worst_deviation": round(float(np.abs(intercept + slope * x - y).max() / y.max()), 4),
        "exponent": round(float(exponent), 3),
    }


def _training_step(backbone: FrozenViT, sizes: Sizes, batch_size: int) -> Callable[[], None]:
    """Return a step of phase 2: losses of both streams, gradients, and an update."""
    torch.manual_seed(0)
    classes = sizes["classes"]
    model = LPT(backbone, classes, prompt_length=sizes["prompt_length"], pool_size=sizes["pool_size"])
    model.shared.requires_grad_(False)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.01, momentum=0.9)
    counts = torch.arange(classes) + 1
    losses = AsymmetricGCL(counts, 0, 4), AsymmetricGCL(counts, 0.5, 8)
    images = torch.randn(2, batch_size, 3, *backbone.image_size)
    labels = torch.randint(0, classes, (2, batch_size))

    def step() -> None:
        optimizer.zero_grad()
        for loss, batch, targets in zip(losses, images, labels, strict=True):
            output = model(batch)
            (loss(output.cosines, targets) - 0.5 * output.similarity).backward()
        optimizer.step()

    return step
