"""What an image costs a pack, as a multiple of the plain backbone's forward pass."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

from lpt.hardware import reproducible
from lpt.model.pretrained import load_backbone
from lpt.predictor import Predictor

BATCH = 32
ROUNDS = 7


@torch.inference_mode()
def inference_ratio(predictor: Predictor, *, threads: int) -> float:
    """Median over several rounds of the time of a batch through the pack over that through its backbone alone.

    Both are timed in turns, in the same precision, so that a busy machine slows both.

    Args:
        predictor: with one pack.
        threads: CPU threads.
    """
    info = predictor.pack().info
    checkpoint = None if info.backbone.checkpoint is None else Path(info.backbone.checkpoint)
    plain = load_backbone(info.backbone.name, checkpoint=checkpoint, image_size=info.preprocessing.size)
    plain.to(device=predictor.device, dtype=predictor.dtype)
    views = info.preprocessing.test_views
    images = torch.randn(BATCH, 3, *info.preprocessing.size, device=predictor.device)
    given = images if views == 1 else images[:, None].expand(-1, views, -1, -1, -1)
    with reproducible(threads):
        ratios = [
            _seconds(lambda: predictor.scores(given), predictor.device)
            / _seconds(lambda: plain.vit(images.to(plain.dtype)), predictor.device)
            for _ in range(ROUNDS + 1)
        ]
    return round(median(ratios[1:]), 3)


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    begun = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun
