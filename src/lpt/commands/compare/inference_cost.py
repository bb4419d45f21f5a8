"""What an image costs a pack, as a multiple of the plain backbone's forward pass."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch

from lpt.config.schema import BackboneConfig, RuntimeConfig
from lpt.model import FrozenViT
from lpt.model.pretrained import load_backbone
from lpt.packs.pack import TENSORS_NAME, load_pack, read_info
from lpt.packs.predictor import Predictor
from lpt.system.files import write_json
from lpt.system.hardware import reproducible

BATCH = 32
ROUNDS = 7


class InferenceCost(NamedTuple):
    """Milliseconds for an image through a pack and through its backbone alone, and the ratio of the two."""

    milliseconds: float
    backbone_milliseconds: float
    ratio: float


def inference_seconds(image_seconds: float) -> float:
    """About how long `inference_cost` takes, of the seconds for an image."""
    return 2 * (ROUNDS + 1) * BATCH * image_seconds


def kept_inference_cost(
    file: Path, method: str, packs: Sequence[Path], backbone: BackboneConfig, runtime: RuntimeConfig
) -> InferenceCost | None:
    """What an image costs a method, of any of its packs; measured once and kept in a file.

    Args:
        file: JSON of what is kept, by method.
        method: its name.
        packs: those it has trained.
        backbone: what they were trained on, as the user gives it.
        runtime: device, precision and threads to measure with.

    Returns:
        None where nothing is kept of these packs and none of them is there with its weights.
    """
    kept = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    known = {read_info(pack).tensors_sha256: pack for pack in packs}
    if kept.get(method, {}).get("pack") not in known:
        there = [name for name, pack in known.items() if (pack / TENSORS_NAME).is_file()]
        if not there:
            return None
        pack = load_pack(known[there[0]])
        how = {"device": str(runtime.device), "precision": str(runtime.precision)}
        predictor = Predictor(backbone.name, pack, checkpoint=backbone.checkpoint, **how)
        plain = load_backbone(backbone.name, checkpoint=backbone.checkpoint, image_size=pack.info.preprocessing.size)
        cost = inference_cost(predictor, plain, threads=int(runtime.threads))
        kept[method] = {"pack": there[0], **cost._asdict()}
        write_json(file, kept)
    return InferenceCost(**{name: kept[method][name] for name in InferenceCost._fields})


@torch.inference_mode()
def inference_cost(predictor: Predictor, plain: FrozenViT, *, threads: int) -> InferenceCost:
    """Medians over several rounds of a batch through the pack, through its backbone alone, and of their ratio.

    Both are timed in turns, in the same precision, so that a busy machine slows both.

    Args:
        predictor: with one pack.
        plain: its backbone once more, of the pack's input size, which nothing was built on.
        threads: CPU threads.
    """
    info = predictor.pack().info
    plain.to(device=predictor.device, dtype=predictor.dtype)
    views = info.preprocessing.test_views
    images = torch.randn(BATCH, 3, *info.preprocessing.size, device=predictor.device)
    given = images if views == 1 else images[:, None].expand(-1, views, -1, -1, -1)
    with reproducible(threads):
        rounds = [
            (
                _seconds(lambda: predictor.scores(given), predictor.device),
                _seconds(lambda: plain.vit(images.to(plain.dtype)), predictor.device),
            )
            for _ in range(ROUNDS + 1)
        ][1:]
    own, alone = (1000 * median(times) / BATCH for times in zip(*rounds, strict=True))
    return InferenceCost(round(own, 3), round(alone, 3), round(median(a / b for a, b in rounds), 3))


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    begun = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun
