"""Measure what an image costs a pack, as a multiple of the plain backbone's forward pass."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, TypeAlias

import torch
from pydantic import BaseModel

from lpt.config.schema import BackboneConfig, RuntimeConfig
from lpt.config.stored import read_fields
from lpt.model import FrozenViT
from lpt.model.pretrained import load_backbone
from lpt.packs.pack import TENSORS_NAME, load_pack, read_info
from lpt.packs.predictor import Predictor
from lpt.system.files import write_json
from lpt.system.hardware import reproducible

BATCH = 32
ROUNDS = 7


class InferenceCost(NamedTuple):
    """Milliseconds per image through a pack and through its backbone alone, and the ratio of the two."""

    milliseconds: float
    backbone_milliseconds: float
    ratio: float


class _KeptCost(BaseModel):
    pack: str
    milliseconds: float
    backbone_milliseconds: float
    ratio: float


_Kept: TypeAlias = dict[str, _KeptCost]


def inference_seconds(image_seconds: float) -> float:
    """Estimate how long `inference_cost` takes, from the seconds per image."""
    return 2 * (ROUNDS + 1) * BATCH * image_seconds


def kept_inference_cost(
    file: Path, method: str, packs: Sequence[Path], backbone: BackboneConfig, runtime: RuntimeConfig
) -> InferenceCost | None:
    """Measure what an image costs a method, on any of its packs; the result is kept in a file and read back from it.

    Args:
        file: JSON file of what is kept, by method.
        method: its name.
        packs: folders of its packs.
        backbone: the backbone they were trained on, as the user gives it.
        runtime: device, precision and threads to measure with.

    Returns:
        None where nothing is kept of these packs and none of them has its weights.
    """
    kept = _kept(file)
    folders = {read_info(pack).tensors_sha256: pack for pack in packs}
    if kept.get(method, {}).get("pack") not in folders:
        measurable = [sha256 for sha256, pack in folders.items() if (pack / TENSORS_NAME).is_file()]
        if not measurable:
            return None
        pack = load_pack(folders[measurable[0]])
        predictor = Predictor(
            backbone.name,
            pack,
            checkpoint=backbone.checkpoint,
            device=str(runtime.device),
            precision=str(runtime.precision),
        )
        plain = load_backbone(backbone.name, checkpoint=backbone.checkpoint, image_size=pack.info.preprocessing.size)
        cost = inference_cost(predictor, plain, threads=int(runtime.threads))
        kept[method] = {"pack": measurable[0], **cost._asdict()}
        write_json(file, kept)
    return InferenceCost(**{name: kept[method][name] for name in InferenceCost._fields})


def _kept(file: Path) -> dict[str, Any]:
    """Return what is kept, by method; nothing where the file is missing or damaged: it is measured anew."""
    try:
        return read_fields(file, _Kept)
    except (OSError, ValueError):
        return {}


@torch.inference_mode()
def inference_cost(predictor: Predictor, plain: FrozenViT, *, threads: int) -> InferenceCost:
    """Time a batch through a pack and through its backbone alone; return medians over several rounds.

    The two take turns, in the same precision, so that a busy machine slows both.

    Args:
        predictor: a predictor with one pack.
        plain: a second instance of its backbone, at the pack's input size.
        threads: CPU threads.
    """
    info, model = predictor.pack().info, predictor.model()
    device = torch.device(predictor.engine.device)
    plain.to(device=device, dtype=getattr(torch, predictor.engine.precision))
    views = info.preprocessing.test_views
    images = torch.randn(BATCH, 3, *info.preprocessing.size, device=device)
    inputs = images if views == 1 else images[:, None].expand(-1, views, -1, -1, -1)
    with reproducible(threads):
        rounds = [
            (
                _seconds(lambda: model.scores(inputs), device),
                _seconds(lambda: plain.vit(images.to(plain.dtype)), device),
            )
            for _ in range(ROUNDS + 1)
        ][1:]
    with_pack, alone = (1000 * median(times) / BATCH for times in zip(*rounds, strict=True))
    return InferenceCost(round(with_pack, 3), round(alone, 3), round(median(a / b for a, b in rounds), 3))


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """Time some work in seconds, on a card until it is really done."""
    begun = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun
