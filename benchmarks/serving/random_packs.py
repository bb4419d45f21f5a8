"""Packs of random tensors, with the description and the reference output of a trained one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from lpt.config.architecture import Architecture
from lpt.data.longtail import ShotGroups
from lpt.data.transforms import Preprocessing
from lpt.model import Classifier, FrozenViT, build_model
from lpt.packs.info import REFERENCE_CLASSES, PackInfo, Probabilities, Reference
from lpt.packs.pack import Pack, encode_tensors, load_pack, write_pack
from lpt.packs.reference import reference_output

SPREAD = 0.3
"""Standard deviation of the tensors: wide enough that prompts and adapters change the output."""


def random_model(backbone: FrozenViT, architecture: Architecture, classes: int, seed: int) -> Classifier:
    """Build a model whose trained tensors are random; weights of the backbone move a little."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        model = build_model(architecture, backbone, classes).requires_grad_(False)
    for name, tensor in model.named_parameters():
        noise = torch.randn(tensor.shape, generator=generator)
        if name.startswith("weights."):
            tensor.add_(0.02 * noise)
        elif name == "adapters.norm":
            tensor.copy_(torch.stack([1 + SPREAD * noise[0], SPREAD * noise[1]]))
        else:
            tensor.copy_(SPREAD * noise)
    return model


def write_random_pack(
    path: Path,
    backbone: FrozenViT,
    architecture: Architecture,
    *,
    classes: int,
    phases: Sequence[int],
    seed: int,
    preprocessing: dict[str, Any] | None = None,
) -> Pack:
    """Write a pack, and read it.

    Args:
        path: its folder.
        backbone: the backbone, in float32 and with a record.
        architecture: method and sizes.
        classes: number of classes C.
        phases: trained phases; with 2 the pack uses its group prompts.
        seed: of its tensors.
        preprocessing: fields that differ from those of the backbone.
    """
    record = backbone.record
    usual = {"mean": record.mean, "std": record.std, "interpolation": "bicubic", "test_crop": 0.875}
    training = {"crop_area": (0.3, 1.0), "crop_aspect": (0.75, 1.25), "flip": False}
    described = Preprocessing.model_validate(
        {"size": backbone.image_size, **usual, **training, **(preprocessing or {})}
    )
    grouped = 2 in phases
    model = random_model(backbone.at_size(described.size), architecture, classes, seed)
    shown = torch.linspace(0, classes - 1, min(REFERENCE_CLASSES, classes)).long().tolist()
    output = reference_output(model, 0, shown, group_prompts=grouped)
    content = encode_tensors(model.state_dict())
    info = PackInfo.of(
        backbone=record,
        preprocessing=described,
        class_names=[f"class {number}" for number in range(classes)],
        class_counts=[1 + 500 // (1 + number) for number in range(classes)],
        shot_groups=ShotGroups(20, 100),
        method="lpt" if architecture.grouped else "tuned",
        architecture=architecture,
        phases=phases,
        probabilities=Probabilities(scale=20, temperature=1, fitted_on="nothing"),
        reference=Reference(variant=0, classes=shown, **output._asdict()),
        tensors=content,
    )
    return load_pack(write_pack(path, info, content, "# random tensors\n"))


def write_default_pack(
    path: Path, backbone: FrozenViT, *, classes: int = 100, seed: int = 0, preprocessing: dict[str, Any] | None = None
) -> Pack:
    """Write a pack of LPT's default sizes; speed does not depend on its tensors."""
    return write_random_pack(
        path, backbone, Architecture(), classes=classes, phases=[1, 2], seed=seed, preprocessing=preprocessing
    )  # fmt: skip
