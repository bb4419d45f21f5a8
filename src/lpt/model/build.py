"""A model by its sizes."""

from __future__ import annotations

from typing import Any

import torch

from lpt.config.architecture import Architecture
from lpt.model.adapters import Adapters
from lpt.model.backbone import FrozenViT
from lpt.model.lpt import LPT
from lpt.model.tuned import TunedViT

Classifier = LPT | TunedViT


def build_model(architecture: Architecture, backbone: FrozenViT, num_classes: int) -> Classifier:
    """An untrained model on a backbone; its first values come from torch's global generator.

    Raises:
        ConfigError: a size is out of range for this backbone.
    """
    a = architecture
    adapters = None
    if a.adapter_size:
        adapters = Adapters(
            backbone.depth, backbone.width, a.adapter_size, norm=a.adapter_norm, scale=a.adapter_scale
        )  # fmt: skip
    if a.prompts == "grouped":
        return LPT(backbone, num_classes, a.prompt_length, a.shared_blocks, a.pool_size, a.top_k, a.query, adapters)
    return TunedViT(
        backbone,
        num_classes,
        prompts=a.prompts,
        prompt_length=a.prompt_length,
        adapters=adapters,
        lora_rank=a.lora_rank,
        weights=a.weights,
        last_blocks=a.last_blocks,
        head=a.head,
    )


def to_bfloat16(model: Classifier) -> None:
    """Let a model's blocks compute in bfloat16; weights of the backbone that train stay in float32, under autocast."""
    if not isinstance(model, TunedViT) or not model.changes_backbone:
        model.backbone.to(torch.bfloat16)
        return
    model.low_precision = True
    trained = {id(tensor) for tensor in model.parameters()}
    for tensor in model.backbone.parameters():
        if id(tensor) not in trained and tensor.ndim > 1:
            tensor.data = tensor.data.to(torch.bfloat16)


def sizes_of(model: Classifier) -> dict[str, Any]:
    """What an architecture's `None` became in a model: its number of shared-only blocks."""
    return {"shared_blocks": model.shared_blocks} if isinstance(model, LPT) else {}
