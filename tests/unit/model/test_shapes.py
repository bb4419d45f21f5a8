"""The shapes computed from a method's sizes are those of its model."""

from __future__ import annotations

from typing import Any

import pytest

from lpt.config.architecture import Architecture
from lpt.config.recipes import METHODS
from lpt.config.schema import RunConfig
from lpt.model import FrozenViT, build_model
from lpt.model.build import backbone_shapes
from lpt.model.shapes import shape_faults, trained_shapes
from oracle import small_vit

CLASSES = 5
LPT_SIZES: list[dict[str, Any]] = [
    {},
    {"shared_blocks": 1, "pool_size": 7, "prompt_length": 3},
    {"prompt_length": 0, "query": "prefix"},
    {"adapter_size": 3, "adapter_norm": True, "adapter_scale": None},
    {"prompts": "none", "lora_rank": 3, "weights": "all", "head": "linear", "adapter_size": 2},
    {"prompts": "shallow", "weights": "last_blocks", "last_blocks": 1},
]


def of_method(name: str) -> dict[str, Any]:
    model = dict(METHODS[name].values(RunConfig()).get("model", {}))
    if model.get("adapter_size") == "auto":
        model["adapter_size"] = 4
    return {key: value for key, value in model.items() if key in Architecture.model_fields}


@pytest.mark.parametrize("sizes", [*map(of_method, METHODS), *LPT_SIZES], ids=[*METHODS, *map(str, LPT_SIZES)])
def test_shapes_are_those_of_the_model(sizes: dict[str, Any]) -> None:
    """Of every method, names and shapes are exactly those of its state_dict: a pack is compared with them."""
    architecture, backbone = Architecture(**sizes), FrozenViT(small_vit())
    expected = {name: tuple(t.shape) for name, t in build_model(architecture, backbone, CLASSES).state_dict().items()}
    layer_shapes = backbone_shapes(architecture, backbone)
    assert trained_shapes(architecture, backbone.depth, backbone.width, CLASSES, layer_shapes) == expected


def test_classes_that_were_added_have_a_scale_in_a_cosine_head() -> None:
    for head, scale in (("cosine", {"head.scale": (2,)}), ("linear", {"head.bias": (CLASSES,)})):
        architecture, backbone = Architecture(prompts="none", head=head), FrozenViT(small_vit())  # type: ignore[arg-type]
        model = build_model(architecture, backbone, CLASSES, added=2)
        expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        assert trained_shapes(architecture, 4, backbone.width, CLASSES, {}, added=2) == expected
        assert expected == {"head.weight": (CLASSES, backbone.width), **scale}


def test_differences_are_named() -> None:
    """What is missing, too much or of another shape."""
    text = shape_faults({"a": (1, 2), "b": (3,)}, {"a": (2, 2), "c": (1,)})
    assert text == "a is 1 x 2 and should be 2 x 2; b does not belong to it; c is missing"
    assert not shape_faults({"a": (1,)}, {"a": (1,)})
