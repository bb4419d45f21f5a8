"""Shapes of the trained tensors of a method, computed from its sizes; no tensor is made and torch is not needed."""

from __future__ import annotations

from collections.abc import Mapping

from lpt.config.architecture import Architecture

Shape = tuple[int, ...]


def trained_shapes(
    architecture: Architecture,
    depth: int,
    width: int,
    num_classes: int,
    backbone_shapes: Mapping[str, Shape],
    *,
    added: int = 0,
) -> dict[str, Shape]:
    """Return names and shapes of the `state_dict()` of `build_model`.

    Args:
        architecture: the method and its sizes.
        depth, width: blocks L and token width D of the backbone.
        num_classes: classes C.
        backbone_shapes: shapes of the trained tensors that belong to layers of the backbone.
        added: number of last classes whose cosines have a scale, in a cosine head.
    """
    a = architecture
    shapes = {"head.weight": (num_classes, width), **backbone_shapes}
    if a.head == "linear":
        shapes["head.bias"] = (num_classes,)
    elif added:
        shapes["head.scale"] = (added,)
    if a.prompts != "none":
        shapes["shared.tokens"] = (1 if a.prompts == "shallow" else depth, a.prompt_length, width)
    if a.grouped:
        later = depth - (depth // 2 if a.shared_blocks is None else a.shared_blocks)
        shapes["groups.prompts"] = (a.pool_size, later, a.prompt_length, width)
        shapes["groups.keys"] = (a.pool_size, width)
    return shapes | _adapter_shapes(a, depth, width)


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


def shape_faults(shapes: Mapping[str, Shape], expected: Mapping[str, Shape], most: int = 3) -> str:
    """Describe how shapes by name differ from those expected, at most the first few; empty if they agree."""
    differing = sorted(name for name in shapes.keys() | expected.keys() if shapes.get(name) != expected.get(name))
    shown = [_difference(name, shapes.get(name), expected.get(name)) for name in differing[:most]]
    return "; ".join([*shown, f"and {len(differing) - most} more"] if len(differing) > most else shown)


def _difference(name: str, shape: Shape | None, expected: Shape | None) -> str:
    shown = ascii(name[:80])[1:-1]
    if shape is None:
        return f"{shown} is missing"
    if expected is None:
        return f"{shown} does not belong to it"
    return f"{shown} is {' x '.join(map(str, shape))} and should be {' x '.join(map(str, expected))}"
