"""Build a model from its sizes."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from lpt.config.architecture import Architecture
from lpt.model.adapters import Adapters
from lpt.model.backbone import FrozenViT
from lpt.model.head import CosineHead
from lpt.model.lpt import LPT
from lpt.model.shapes import Shape
from lpt.model.tuned import TunedViT, chosen_weights, lora_targets

Classifier = LPT | TunedViT


def build_model(architecture: Architecture, backbone: FrozenViT, num_classes: int, *, added: int = 0) -> Classifier:
    """Build an untrained model on a backbone; torch's global generator draws its first values.

    Args:
        architecture: the method and its sizes.
        backbone: the backbone.
        num_classes: classes C.
        added: number of last classes whose cosines have a scale, in a cosine head.

    Raises:
        ConfigError: a size is out of range for this backbone.
    """
    model = _unscaled(architecture, backbone, num_classes)
    if added and isinstance(model.head, CosineHead):
        model.head.scale_last(added)
    return model


def _unscaled(a: Architecture, backbone: FrozenViT, num_classes: int) -> Classifier:
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
    """Make the blocks compute in bfloat16, in place; backbone weights that train stay in float32, under autocast."""
    if not isinstance(model, TunedViT) or not model.changes_backbone:
        model.backbone.to(torch.bfloat16)
        return
    model.low_precision = True
    trained = {id(tensor) for tensor in model.parameters()}
    for tensor in model.backbone.parameters():
        if id(tensor) not in trained and tensor.ndim > 1:
            tensor.data = tensor.data.to(torch.bfloat16)


def share_bfloat16(model: TunedViT, low: FrozenViT) -> None:
    """Make a model that trains backbone weights compute in bfloat16, with the frozen tensors of a bfloat16 backbone.

    Trained weights, norms and biases stay in float32, under autocast. The float32 backbone that it was built on is not
    changed.

    Args:
        model: the model.
        low: the backbone that it was built on, in bfloat16 and at the same input size.
    """
    model.low_precision = True
    trained = {id(tensor) for tensor in model.parameters()}
    shared = dict(low.vit.named_parameters())
    for name, tensor in list(model.backbone.vit.named_parameters()):
        if id(tensor) not in trained and tensor.ndim > 1:
            owner, _, attribute = name.rpartition(".")
            setattr(model.backbone.vit.get_submodule(owner), attribute, shared[name.replace(".base_layer.", ".")])


def sizes_of(model: Classifier) -> dict[str, Any]:
    """Return the sizes that an architecture may leave as `None`: the number of shared-only blocks."""
    return {"shared_blocks": model.shared_blocks} if isinstance(model, LPT) else {}


def backbone_shapes(architecture: Architecture, backbone: FrozenViT) -> dict[str, Shape]:
    """Return shapes of the trained tensors that belong to layers of the backbone: its own weights and LoRA."""
    if architecture.weights == "none" and not architecture.lora_rank:
        return {}
    names = chosen_weights(backbone, architecture.weights, architecture.last_blocks)
    trained = {name: tuple(t.shape) for name, t in backbone.vit.named_parameters() if name in names}
    shapes = {f"weights.{name.replace('.', '/')}": shape for name, shape in trained.items()}
    if architecture.lora_rank:
        for name, layer in lora_targets(backbone).items():
            start = f"lora.{name.replace('.', '/')}/lora_"
            shapes |= _lora_shapes(start, layer, architecture.lora_rank)
    return shapes


def _lora_shapes(start: str, layer: nn.Linear, rank: int) -> dict[str, Shape]:
    return {
        f"{start}A/default/weight": (rank, layer.in_features),
        f"{start}B/default/weight": (layer.out_features, rank),
    }
