"""Packs of random tensors, of any method and on any small backbone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer

from lpt.config.architecture import Architecture
from lpt.data.longtail import ShotGroups
from lpt.data.transforms import Preprocessing
from lpt.model import FrozenViT
from lpt.model.build import build_model
from lpt.packs.info import PackInfo, Probabilities
from lpt.packs.pack import encode_tensors, write_pack
from lpt.packs.reference import make_reference
from oracle import randomise


def new_checkpoint(file: Path, architecture: dict[str, Any]) -> Path:
    """Write random weights of a small ViT, their architecture beside them."""
    vit = VisionTransformer(**architecture, num_classes=0)
    randomise(vit)
    save_file(vit.state_dict(), file)
    facts = {"name": file.stem, "architecture": architecture, "mean": [0.4, 0.5, 0.6], "std": [0.3, 0.2, 0.25]}
    file.with_suffix(".json").write_text(json.dumps(facts))
    return file


def new_pack(
    path: Path, backbone: FrozenViT, seed: int, sizes: dict[str, Any], phases: list[int], input_changes: dict[str, Any]
) -> Path:
    architecture = Architecture(**sizes)
    record, classes = backbone.record, 3 + seed
    inputs: dict[str, Any] = {"size": (32, 32), "test_views": 1, **input_changes}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build_model(architecture, backbone.at_size(inputs["size"]), classes)
        for name, tensor in model.named_parameters():
            if not name.startswith("weights"):
                tensor.data.normal_(0, 0.7)
    content = encode_tensors(model.requires_grad_(False).state_dict())
    info = PackInfo.of(
        backbone=record,
        preprocessing=Preprocessing(
            **inputs,
            mean=record.mean,
            std=record.std,
            interpolation="bicubic",
            test_crop=0.875,
            crop_area=(0.3, 1.0),
            crop_aspect=(0.75, 1.25),
            flip=False,
        ),
        class_names=[f"class {number}" for number in range(classes)],
        class_counts=list(range(1, classes + 1)),
        shot_groups=ShotGroups(20, 100),
        method="lpt" if architecture.grouped else "linear-probe",
        architecture=architecture,
        phases=phases,
        probabilities=Probabilities(scale=20 if architecture.head == "cosine" else 1, temperature=1, fitted_on="none"),
        reference=make_reference(model, group_prompts=2 in phases),
        tensors=content,
    )
    return write_pack(path, info, content, "# card\n")
