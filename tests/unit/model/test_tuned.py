"""The methods beside LPT share its blocks: each against a textbook form of it, and what it may touch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lpt.config.architecture import Architecture
from lpt.config.schema import PhaseConfig
from lpt.errors import ConfigError
from lpt.model import LPT, FrozenViT, TunedViT, build_model, to_bfloat16
from lpt.model.adapters import Adapters
from lpt.model.record import weight_hash
from lpt.training.schedule import build_optimizer
from oracle import randomise, small_vit

IMAGES = torch.randn(3, 3, 24, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
CLASSES = 5


def built(backbone: FrozenViT, **parts: Any) -> TunedViT:
    model = build_model(Architecture(**{"prompts": "none", "head": "linear", **parts}), backbone, CLASSES)
    assert isinstance(model, TunedViT)
    return model


def tuned(**parts: Any) -> TunedViT:
    torch.manual_seed(0)
    model = built(FrozenViT(small_vit()), **parts).double()
    with torch.no_grad():
        for parameter in [*model.lora.parameters(), *(model.adapters.parameters() if model.adapters else ())]:
            parameter.add_(0.1 * torch.randn_like(parameter))  # those that start at zero would hide themselves
    return model


def plain_features(vit: Any, images: Tensor) -> Tensor:
    """Class token of timm's own forward pass."""
    return vit.forward_features(images)[:, 0]


# --- against the textbook ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", ["all", "last_blocks", "biases"])
def test_own_weights_have_timms_features_and_gradients(weights: Any) -> None:
    """They agree although the last block runs for the class token alone."""
    model = tuned(weights=weights, last_blocks=2)
    model.requires_grad_(True)
    model.features(IMAGES).square().sum().backward()
    got = {name: tensor.grad for name, tensor in model.weights.named_parameters()}

    vit = small_vit()
    assert torch.allclose(model.features(IMAGES), plain_features(vit, IMAGES), atol=1e-10)
    vit.requires_grad_(True)
    plain_features(vit, IMAGES).square().sum().backward()
    for name, parameter in vit.named_parameters():
        if name.replace(".", "/") in got:
            assert torch.allclose(got.pop(name.replace(".", "/")), parameter.grad, atol=1e-9), name  # type: ignore[arg-type]
    assert not got


def test_deep_prompts_are_lpts_shared_prompt() -> None:
    model = tuned(prompts="deep", prompt_length=3, head="cosine")
    lpt = LPT(FrozenViT(small_vit()), CLASSES, prompt_length=3).double()
    lpt.load_state_dict({**lpt.state_dict(), **model.state_dict()})
    assert torch.allclose(model.forward_shared(IMAGES), lpt.forward_shared(IMAGES), atol=1e-12)


def test_shallow_prompts_are_tokens_that_go_through_all_blocks() -> None:
    model = tuned(prompts="shallow", prompt_length=3)
    assert model.shared is not None
    vit = small_vit()
    tokens = vit.norm_pre(vit._pos_embed(vit.patch_embed(IMAGES)))
    tokens = torch.cat([tokens, model.shared.tokens.expand(3, -1, -1)], dim=1)
    expected = vit.norm(vit.blocks(tokens))[:, 0]
    assert torch.allclose(model.features(IMAGES), expected, atol=1e-10)


@pytest.mark.parametrize(("norm", "scale"), [(False, 0.1), (True, None)])
def test_adapters_stand_beside_the_mlp(norm: bool, scale: float | None) -> None:
    model = tuned(adapter_size=4, adapter_norm=norm, adapter_scale=scale)
    adapters, vit = model.adapters, small_vit()
    assert adapters is not None
    tokens = vit.norm_pre(vit._pos_embed(vit.patch_embed(IMAGES)))
    for layer, block in enumerate(vit.blocks):
        tokens = tokens + block.ls1(block.attn(block.norm1(tokens)))
        hidden = tokens
        if adapters.norm is not None:
            hidden = F.layer_norm(tokens, (24,), adapters.norm[0, layer], adapters.norm[1, layer])
        hidden = (hidden @ adapters.down[layer].T + adapters.down_bias[layer]).clamp_min(0)
        factor = scale if adapters.scale is None else adapters.scale[layer]
        added = factor * (hidden @ adapters.up[layer].T + adapters.up_bias[layer])
        tokens = tokens + block.ls2(block.mlp(block.norm2(tokens))) + added
    assert torch.allclose(model.features(IMAGES), vit.norm(tokens)[:, 0], atol=1e-10)


def test_lora_adds_its_product_to_the_attention() -> None:
    pytest.importorskip("peft")
    model = tuned(lora_rank=2)
    vit = small_vit()
    state = {name.replace("/", "."): tensor for name, tensor in model.lora.named_parameters()}
    assert len(state) == 4 * 2 * 2
    with torch.no_grad():
        for layer, block in enumerate(vit.blocks):
            for name in ("qkv", "proj"):
                a, b = (state[f"blocks.{layer}.attn.{name}.lora_{part}.default.weight"] for part in "AB")
                getattr(block.attn, name).weight.add_(b @ a)
    assert torch.allclose(model.features(IMAGES), plain_features(vit, IMAGES), atol=1e-10)


@pytest.mark.parametrize("parts", [{"adapter_size": 4}, {"lora_rank": 2}, {"weights": "all"}, {"prompts": "none"}])
def test_training_starts_at_the_plain_backbone(parts: dict[str, Any]) -> None:
    if "lora_rank" in parts:
        pytest.importorskip("peft")
    model = built(FrozenViT(small_vit()), **parts).double()
    assert torch.allclose(model.features(IMAGES), plain_features(small_vit(), IMAGES), atol=1e-10)


# --- what a model may touch -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [{"weights": "all"}, {"weights": "biases"}, {"lora_rank": 2}, {"adapter_size": 4}])
def test_the_backbone_given_stays_as_it_is(parts: dict[str, Any]) -> None:
    """One backbone serves any number of models, also those that train its weights; large frozen tensors are shared."""
    if "lora_rank" in parts:
        pytest.importorskip("peft")
    backbone = FrozenViT(small_vit())
    before = weight_hash(backbone.vit)
    model = built(backbone, **parts).double()
    model.requires_grad_(True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):  # LoRA's first factor has no gradient at first
        optimizer.zero_grad()
        model.forward_shared(IMAGES).square().sum().backward()
        optimizer.step()
    assert weight_hash(backbone.vit) == before
    assert not any(parameter.requires_grad for parameter in backbone.vit.parameters())
    tensors = {id(tensor) for tensor in model.backbone.parameters()}
    shared = [name for name, tensor in backbone.vit.named_parameters() if id(tensor) in tensors]
    assert ("blocks.0.mlp.fc1.weight" in shared) == (parts != {"weights": "all"})


@pytest.mark.parametrize(
    "parts",
    [{"prompts": "deep"}, {"weights": "last_blocks"}, {"weights": "all"}, {"lora_rank": 2}, {"adapter_size": 4}],
)
def test_the_state_is_all_there_is_to_keep(parts: dict[str, Any]) -> None:
    """Loaded into another model on the same backbone it gives the same outputs."""
    if "lora_rank" in parts:
        pytest.importorskip("peft")
    model = tuned(**parts)
    randomise(model, seed=3)
    other = built(FrozenViT(small_vit()), **parts).double()
    assert not torch.allclose(other.forward_shared(IMAGES), model.forward_shared(IMAGES))
    other.load_state_dict(model.state_dict())
    assert torch.allclose(other.forward_shared(IMAGES), model.forward_shared(IMAGES), atol=1e-12)
    assert set(model.state_dict()) == set(dict(model.named_parameters()))


@pytest.mark.parametrize("parts", [{"prompts": "deep"}, {"weights": "all"}, {"weights": "biases"}, {"lora_rank": 2}])
def test_bfloat16_is_near_float32_and_trained_weights_stay_wide(parts: dict[str, Any]) -> None:
    if "lora_rank" in parts:
        pytest.importorskip("peft")
    torch.manual_seed(0)
    model = built(FrozenViT(small_vit(dtype=torch.float32)), **parts)
    images = IMAGES.float()
    exact = model.forward_shared(images).detach()
    to_bfloat16(model)
    near = model.forward_shared(images)
    assert 0 < float((near - exact).detach().abs().max()) < 0.1 * float(exact.abs().max())
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    model.requires_grad_(True)
    near.sum().backward() if near.requires_grad else model.forward_shared(images).sum().backward()
    assert all(parameter.grad is not None for parameter in model.head.parameters())


@pytest.mark.parametrize("parts", [{"weights": "last_blocks"}, {"lora_rank": 2}, {"weights": "biases"}])
def test_a_head_can_start_from_features_in_bfloat16(parts: dict[str, Any]) -> None:
    if "lora_rank" in parts:
        pytest.importorskip("peft")
    torch.manual_seed(0)
    model = built(FrozenViT(small_vit(dtype=torch.float32)), **parts)
    exact = plain_features(small_vit(dtype=torch.float32), IMAGES.float())
    to_bfloat16(model)
    near = model.plain_features(IMAGES.float())
    assert float((near - exact).detach().abs().max()) < 0.1 * float(exact.detach().abs().max())


def test_sizes_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"1\.\.4"):
        built(FrozenViT(small_vit()), weights="last_blocks", last_blocks=5)
    with pytest.raises(ConfigError, match="at least 1"):
        Adapters(depth=2, width=8, size=0)


# --- rates of single tensors ------------------------------------------------------------------------------------------


def test_rates_fall_from_the_last_block_to_the_first() -> None:
    """Layer decay d: the final norm has d^0, block i of L (from 1) d^(L + 1 - i), the embedding d^(L + 1)."""
    model = tuned(weights="all")
    settings = PhaseConfig(optimizer="adamw", lr=0.1, head_lr=1.0, layer_decay=0.5, weight_decay=0.05)
    parameters = dict(model.named_parameters())
    optimizer = build_optimizer(parameters, settings, blocks=4)
    rates = {
        id(p): (group["factor"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]
    }
    by_name = {name: rates[id(parameter)] for name, parameter in parameters.items()}
    assert by_name["head.weight"] == (10.0, 0.05)
    assert by_name["weights.norm/weight"] == (1.0, 0.0)
    assert by_name["weights.blocks/3/attn/qkv/weight"] == (0.5, 0.05)
    assert by_name["weights.blocks/0/mlp/fc1/weight"] == (0.5**4, 0.05)
    assert by_name["weights.blocks/0/mlp/fc1/bias"] == (0.5**4, 0.0)
    assert by_name["weights.patch_embed/proj/weight"] == (0.5**5, 0.05)
    assert by_name["weights.pos_embed"] == (0.5**5, 0.0)
    assert len(rates) == len(parameters)


def test_the_head_has_a_rate_of_its_own() -> None:
    """Without one it has the rate of the phase."""
    parameters = dict(tuned(prompts="deep", adapter_size=2).named_parameters())
    for settings, expected in (
        (PhaseConfig(lr=0.1, head_lr=0.3), {"shared": 1.0, "head": 3.0, "adapters": 1.0}),
        (PhaseConfig(lr=0.1), {"shared": 1.0, "head": 1.0, "adapters": 1.0}),
    ):
        groups = build_optimizer(parameters, settings).param_groups
        factors = {id(parameter): group["factor"] for group in groups for parameter in group["params"]}
        by_part = {name.split(".")[0]: factors[id(parameter)] for name, parameter in parameters.items()}
        assert by_part == pytest.approx(expected)
