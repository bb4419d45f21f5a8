"""Images per second and memory of LPT and of the textbook model, in the same precision on one device.

Backbones have random weights: rates do not depend on them.
"""

from __future__ import annotations

from statistics import median
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer

from benchmarks.gpu.stages import TINY_MODEL, Given
from benchmarks.speed.speed import DTYPES, Times, ratio, rounded, run_in_turns
from benchmarks.speed.speed_cases import QUICK_SIZE, RATIOS, Contest, Key, Sizes, agreement, build_vit

SIZE = 224


def measure_rates(model: str, precision: str, given: Given) -> dict[str, Any]:
    """Time every case with as many images as fit, in turns."""
    size = QUICK_SIZE if model == TINY_MODEL else SIZE
    batch, (agreed, times) = _as_many_as_fit(build_vit(model, size, seed=0), DTYPES[precision], given)
    return {
        "size": size,
        "batch": batch,
        "repeats": given.repeats,
        "weights": "random",
        "agreement": agreed,
        "rows": [_row(key, measured, batch) for key, measured in times.items()],
        "ratios": {
            name: ratio(times[first].seconds, times[second].seconds) for name, (first, second) in RATIOS.items()
        },
    }


def _as_many_as_fit(
    vit: VisionTransformer, dtype: torch.dtype, given: Given
) -> tuple[int, tuple[dict[str, Any], dict[Any, Times]]]:
    """Time a batch, halved until it fits into the memory of the card; return its size and what was measured."""
    batch = given.batch
    while True:
        try:
            return batch, _timed(vit, batch, dtype, given)
        except torch.cuda.OutOfMemoryError:
            if batch == 1:
                raise
        torch.cuda.empty_cache()  # outside of the handler, whose traceback holds the tensors
        batch //= 2


def _timed(
    vit: VisionTransformer, batch: int, dtype: torch.dtype, given: Given
) -> tuple[dict[str, Any], dict[Any, Times]]:
    contest = Contest(vit, Sizes(batch), dtype=dtype, device=given.device)
    agreed = agreement(contest, dtype)
    return agreed, run_in_turns(dict(contest.cases()), given.repeats, given.device == "cuda")


def _row(key: Key, measured: Times, batch: int) -> dict[str, Any]:
    seconds = median(measured.seconds)
    memory = {}
    if measured.peak_bytes:
        memory = {"peak_memory_bytes": measured.peak_bytes, "working_memory_bytes": measured.working_bytes}
    return {**key._asdict(), "images_per_second": rounded(batch / seconds), "seconds": rounded(seconds), **memory}
