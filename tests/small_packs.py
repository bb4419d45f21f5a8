"""Small packs of random tensors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

import lpt
from lpt.config.architecture import Architecture
from lpt.data.longtail import ShotGroups
from lpt.data.transforms import Preprocessing
from lpt.model import LPT
from lpt.packs.files import sha256
from lpt.packs.info import PackInfo, Probabilities
from lpt.packs.pack import (
    JSON_NAME,
    TENSORS_NAME,
    Pack,
    encode_tensors,
    load_pack,
    write_pack,
)
from lpt.packs.reference import make_reference

NAMES = ["adder", "björn", "crane"]
GROUPS = ShotGroups(20, 100)
SIZES = dict(prompt_length=2, shared_blocks=1, pool_size=4, top_k=2)


def new_model(
    checkpoint: Path,
    size: tuple[int, int] = (32, 32),
    seed: int = 0,
    name: str = "tiny",
    shared_blocks: int = SIZES["shared_blocks"],
) -> LPT:
    backbone = lpt.load_backbone(name, checkpoint=checkpoint, image_size=size)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LPT(backbone, len(NAMES), **{**SIZES, "shared_blocks": shared_blocks})
        with torch.no_grad():
            for tensor in model.parameters():
                tensor.normal_()
    return model.requires_grad_(False)


def describe(model: LPT, content: bytes, phases: list[int]) -> PackInfo:
    record = model.backbone.record
    return PackInfo.of(
        backbone=record,
        preprocessing=Preprocessing(
            size=model.backbone.image_size,
            mean=record.mean,
            std=record.std,
            interpolation="bicubic",
            test_crop=0.875,
            crop_area=(0.3, 1.0),
            crop_aspect=(0.75, 1.25),
            flip=False,
        ),
        class_names=NAMES,
        class_counts=[120, 40, 1],
        shot_groups=GROUPS,
        method="lpt",
        architecture=Architecture(**{**SIZES, "shared_blocks": model.shared_blocks}),
        phases=phases,
        probabilities=Probabilities(scale=20, temperature=1.5, fitted_on="20 validation images"),
        reference=make_reference(model, group_prompts=2 in phases),
        tensors=content,
        training={"preset": "laptop"},
    )


def write(path: Path, model: LPT, phases: list[int] | None = None, card: str = "# card\n") -> Path:
    content = encode_tensors(model.state_dict())
    return write_pack(path, describe(model, content, [1, 2] if phases is None else phases), content, card)


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change pack.json in place."""
    values = json.loads((folder / JSON_NAME).read_text(encoding="utf-8"))
    change(values)
    (folder / JSON_NAME).write_text(json.dumps(values), encoding="utf-8")


def give_threshold(folder: Path, threshold: float) -> None:
    """Give a pack a threshold for images of none of its classes, as one that was trained with validation has it."""
    kept = {"overall": 0.95, "mean_per_class": 0.9, "many": 0.9, "medium": None, "few": 0.9}
    rejection = {"keep": 0.95, "threshold": threshold, "images": 60, "fitted_on": "60 validation images", "kept": kept}
    edit(folder, lambda values: values.update(rejection=rejection))


def rewritten(folder: Path, change: Callable[[dict[str, Tensor]], Any]) -> Pack:
    """Load a pack after a change of its tensors, with a matching sha256."""
    tensors = load_file(folder / TENSORS_NAME)
    change(tensors)
    content = save(tensors)
    (folder / TENSORS_NAME).write_bytes(content)
    edit(folder, lambda values: values.update(tensors_sha256=sha256(content)))
    return load_pack(folder)
