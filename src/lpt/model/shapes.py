"""The trained tensors of a method by its sizes, without making any of them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from lpt.config.architecture import Architecture
from lpt.model.backbone import FrozenViT
from lpt.model.tuned import chosen_weights, lora_targets

Shape = tuple[int, ...]


def trained_shapes(
    architecture: Architecture, depth: int, width: int, num_classes: int, of_backbone: Mapping[str, Shape]
) -> dict[str, Shape]:
    """Names and shapes in the `state_dict()` of `build_model`.

    Args:
        architecture: what is trained, and its sizes.
        depth, width: blocks L and token width D of the backbone.
        num_classes: classes C.
        of_backbone: `backbone_shapes`.
    """
    a = architecture
    shapes = {"head.weight": (num_classes, width), **of_backbone}
    if a.head == "linear":
        shapes["head.bias"] = (num_classes,)
    if a.prompts != "none":
        shapes["shared.tokens"] = (1 if a.prompts == "shallow" else depth, a.prompt_length, width)
    if a.grouped:
        later = depth - (depth // 2 if a.shared_blocks is None else a.shared_blocks)
        shapes["groups.prompts"] = (a.pool_size, later, a.prompt_length, width)
        shapes["groups.keys"] = (a.pool_size, width)
    return shapes | _adapter_shapes(a, depth, width)


def backbone_shapes(architecture: Architecture, backbone: FrozenViT) -> dict[str, Shape]:
    """What of the trained tensors belongs to layers of the backbone: weights of its own, and LoRA on them."""
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


def _adapter_shapes(a: Architecture, depth: int, width: int) -> dict[str, Shape]:
    if not a.adapter_size:
        return {}
    shapes: dict[str, Shape] = {
        "adapters.down": (depth, a.adapter_size, width),
        "adapters.down_bias": (depth, a.adapter_size),
        "adapters.up": (depth, width, a.adapter_size),
        "adapters.up_bias": (depth, width),
    }
    if a.adapter_norm:
        shapes["adapters.norm"] = (2, depth, width)
    if a.adapter_scale is None:
        shapes["adapters.scale"] = (depth,)
    return shapes


def shape_faults(found: Mapping[str, Shape], expected: Mapping[str, Shape], most: int = 3) -> str:
    """How tensors differ from what is expected, the first few in words; empty if they do not."""
    differing = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
    shown = [_difference(name, found.get(name), expected.get(name)) for name in differing[:most]]
    return "; ".join([*shown, f"and {len(differing) - most} more"] if len(differing) > most else shown)


def _difference(name: str, found: Shape | None, expected: Shape | None) -> str:
    shown = ascii(name[:80])[1:-1]
    if found is None:
        return f"{shown} is not there"
    if expected is None:
        return f"{shown} is there and should not be"
    return f"{shown} is {' x '.join(map(str, found))} and should be {' x '.join(map(str, expected))}"
