"""What `FrozenViT` accepts and refuses, that it stays frozen, and what an `LPT` around it owns."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from timm.layers import Attention, AttentionRope, GatedMlp, HybridEmbed, LayerScale, Mlp, SimpleNorm
from timm.layers.diff_attention import DiffAttention
from timm.layers.mlp import GlobalResponseNormMlp
from timm.layers.norm import GroupNorm1
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva
from timm.models.naflexvit import NaFlexVit
from timm.models.vision_transformer import (
    Block,
    DiffParallelScalingBlock,
    ParallelScalingBlock,
    ParallelThingsBlock,
    ResPostBlock,
    VisionTransformer,
)
from timm.models.vision_transformer_relpos import VisionTransformerRelPos
from torch import Tensor, nn

from lpt.errors import ConfigError, LptError
from lpt.model import LPT, FrozenViT
from oracle import PARAMETERS, Textbook, load_into, random_images, randomise, relative_error, small_vit

TINY: dict[str, Any] = dict(img_size=24, patch_size=8, embed_dim=24, depth=3, num_heads=3, num_classes=0)


def refuse(model: Any, *named: str) -> None:
    """FrozenViT refuses the model, and its message matches every pattern of what differs."""
    with pytest.raises(ConfigError) as caught:
        FrozenViT(model)
    for pattern in named:
        assert re.search(pattern, str(caught.value), re.IGNORECASE), f"/{pattern}/ not in: {caught.value}"


# --- refusals: other models ------------------------------------------------------------------------------------------


class Subclass(VisionTransformer):
    """Could override anything."""


def test_refuses_a_subclass() -> None:
    """A subclass may override any method FrozenViT does by itself."""
    refuse(Subclass(**TINY), "Subclass")


def test_refuses_distilled() -> None:
    """DeiT's distilled model pools two tokens."""
    refuse(VisionTransformerDistilled(**TINY), "Distilled")


def test_refuses_other_vits() -> None:
    """Rotary and relative positions act inside attention, where prompts have no position."""
    sizes = {k: v for k, v in TINY.items() if k != "img_size"}
    refuse(Eva(img_size=24, **sizes), "Eva")
    refuse(Eva(img_size=24, use_rot_pos_emb=True, **sizes), "Eva")
    refuse(VisionTransformerRelPos(img_size=24, **sizes), "RelPos")
    refuse(timm.create_model("naflexvit_base_patch16_gap", embed_dim=24, depth=2, num_heads=3), NaFlexVit.__name__)


@pytest.mark.parametrize("model", [nn.Linear(3, 3), nn.Identity(), None, "vit_tiny_patch16_224"], ids=str)
def test_refuses_what_is_no_vit(model: Any) -> None:
    """Anything that is no VisionTransformer is refused by name, not by an AttributeError."""
    refuse(model, "VisionTransformer", type(model).__name__)


def test_refuses_itself_and_wrappers() -> None:
    """A wrapper's forward is not the one that would be run."""
    vit = small_vit(depth=1)
    refuse(nn.DataParallel(vit), "DataParallel")
    refuse(torch.compile(vit), "OptimizedModule")
    refuse(FrozenViT(vit), "FrozenViT")


# --- refusals: blocks and attention ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "block",
    [ParallelScalingBlock, ParallelThingsBlock, ResPostBlock, DiffParallelScalingBlock],
    ids=lambda b: b.__name__,
)
def test_refuses_other_blocks(block: type[nn.Module]) -> None:
    """What is computed is x + attn(norm1(x)), then x + mlp(norm2(x)), and only Block is that."""
    refuse(VisionTransformer(block_fn=block, **TINY), block.__name__)


def test_refuses_one_other_block_among_many() -> None:
    """Every block is looked at, not the first."""
    vit = small_vit()
    vit.blocks[-1] = ResPostBlock(24, 3)
    refuse(vit, "ResPostBlock")


def test_refuses_a_subclass_of_block() -> None:
    """As a subclass of the whole model."""

    class OtherBlock(Block):
        def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
            return 2 * super().forward(x)

    refuse(VisionTransformer(block_fn=OtherBlock, **TINY), "OtherBlock")


def test_refuses_differential_attention() -> None:
    """Two softmaxes subtracted are not one."""
    refuse(VisionTransformer(attn_layer="diff", **{**TINY, "num_heads": 2}), DiffAttention.__name__)


def test_refuses_a_subclass_of_attention() -> None:
    """As a subclass of the block."""

    class OtherAttention(Attention):
        pass

    refuse(VisionTransformer(attn_layer=OtherAttention, **TINY), "OtherAttention")


def test_refuses_rotary_attention() -> None:
    """A rotary layer put into a plain block."""
    vit = small_vit()
    vit.blocks[1].attn = AttentionRope(24, 3)
    refuse(vit, "AttentionRope")


def test_refuses_gated_attention() -> None:
    """The gate multiplies what attention gives before the projection."""
    vit = small_vit()
    vit.blocks[2].attn = Attention(24, 3, gated=True)
    refuse(vit, "gate")


def test_refuses_attention_norm() -> None:
    """A norm between attention and projection."""
    refuse(VisionTransformer(scale_attn_norm=True, **TINY), "norm")


# --- refusals: pooling, tokens, norms --------------------------------------------------------------------------------


@pytest.mark.parametrize("pool", ["avg", "avgmax", "max", "map", "prr", ""])
def test_refuses_other_pooling(pool: str) -> None:
    """Only the class token leaves the last block: no other pooling can be had."""
    refuse(VisionTransformer(global_pool=pool, **TINY), "pool", re.escape(repr(pool)))


def test_refuses_without_class_token() -> None:
    """Token 0 would be the first patch, or a register."""
    for registers in (0, 2):
        vit = VisionTransformer(class_token=False, global_pool="", reg_tokens=registers, **TINY)
        vit.global_pool = "token"
        refuse(vit, "class.token|cls_token")


def test_refuses_fc_norm() -> None:
    """The final norm moved behind the pooling leaves `norm` without effect."""
    refuse(VisionTransformer(fc_norm=True, **TINY), "norm")


def test_refuses_without_final_norm() -> None:
    """Query and features are defined as norm(x)[class token]."""
    refuse(VisionTransformer(final_norm=False, **TINY), "norm")


def test_refuses_pruned() -> None:
    """The pruning of timm for feature extraction takes pooling and final norm away."""
    vit = small_vit()
    vit.prune_intermediate_layers([0, 1], prune_norm=True)
    refuse(vit, "pool|norm")


class MixingMlp(Mlp):
    """Every token's output depends on all tokens."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x - x.mean(dim=1, keepdim=True))


class MixingNorm(nn.LayerNorm):
    """Every token's output depends on all tokens."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x - 0.5 * x.mean(dim=1, keepdim=True))


def replace(path: str, module: nn.Module) -> Callable[[VisionTransformer], None]:
    def change(vit: VisionTransformer) -> None:
        parent, _, name = path.rpartition(".")
        setattr(vit.get_submodule(parent), name, module)

    change.__name__ = f"{path}={type(module).__name__}"
    return change


@pytest.mark.parametrize(
    "change",
    [
        replace("blocks.3.mlp", GlobalResponseNormMlp(24, 48)),  # norms over tokens
        replace("blocks.0.mlp", GlobalResponseNormMlp(24, 48)),
        replace("blocks.3.mlp", MixingMlp(24, 48)),
        replace("blocks.1.mlp", MixingMlp(24, 48)),
        replace("blocks.3.norm2", MixingNorm(24)),
        replace("blocks.3.norm1", MixingNorm(24)),
        replace("blocks.2.norm1", MixingNorm(24)),
        replace("norm", MixingNorm(24)),
        replace("norm", nn.BatchNorm1d(10)),
        replace("blocks.3.norm1", nn.BatchNorm1d(10)),
        replace("norm", GroupNorm1(10)),
        replace("blocks.0.norm1", GroupNorm1(10)),
        replace("blocks.3.norm2", nn.InstanceNorm1d(10)),
    ],
    ids=lambda change: change.__name__,
)
def test_refuses_parts_that_mix_tokens(change: Callable[[VisionTransformer], None]) -> None:
    """Running the last block for one token is right only where nothing but attention mixes tokens."""
    vit = small_vit()
    change(vit)
    refuse(vit, change.__name__.split("=")[1])


def test_refuses_batch_norm_layers() -> None:
    """With as many tokens as channels timm runs this without complaint, and it normalises the wrong axis."""
    sizes = {**TINY, "embed_dim": 10, "num_heads": 2}
    vit = VisionTransformer(norm_layer=nn.BatchNorm1d, **sizes)
    assert vit.eval()(random_images(dtype=torch.float32)).shape == (3, 10)
    refuse(vit, "BatchNorm1d")


def test_the_refusal_is_one_for_users() -> None:
    """The command line prints LptErrors without a traceback."""
    assert issubclass(ConfigError, LptError)


# --- refused or right ------------------------------------------------------------------------------------------------


class Doubling(nn.Linear):
    """A linear layer in name and weights, another in what it does (as LoRA or quantised layers are)."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Shift(nn.Module):
    """A layer scale that is none."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(24))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.shift


def hook_qkv(vit: VisionTransformer) -> None:
    vit.blocks[1].attn.qkv.register_forward_hook(lambda module, inputs, output: 2 * output)


def hook_attention(vit: VisionTransformer) -> None:
    vit.blocks[1].attn.register_forward_hook(lambda module, inputs, output: 2 * output)


def hook_last_attention(vit: VisionTransformer) -> None:
    vit.blocks[3].attn.register_forward_pre_hook(lambda module, inputs: (2 * inputs[0],))


def hook_block(vit: VisionTransformer) -> None:
    vit.blocks[1].register_forward_hook(lambda module, inputs, output: 2 * output)


def hook_mlp(vit: VisionTransformer) -> None:
    vit.blocks[3].mlp.register_forward_hook(lambda module, inputs, output: 2 * output)


def hook_model_norm(vit: VisionTransformer) -> None:
    vit.norm.register_forward_hook(lambda module, inputs, output: output + 1)


def hook_mixing_norm(vit: VisionTransformer) -> None:
    vit.norm.register_forward_hook(lambda module, inputs, output: output - output.mean(dim=1, keepdim=True))


def other_temperature(vit: VisionTransformer) -> None:
    for block in vit.blocks:
        block.attn.scale, block.attn.fused_attn = 0.7, False


def other_temperature_fused(vit: VisionTransformer) -> None:
    for block in vit.blocks:
        block.attn.scale = 0.7  # timm's fused path does not read it


def parametrised(vit: VisionTransformer) -> None:
    nn.utils.parametrizations.weight_norm(vit.blocks[3].attn.qkv)


def instance_forward(vit: VisionTransformer) -> None:
    block = vit.blocks[2]
    block.forward = lambda x: 2 * Block.forward(block, x)


def own_embedding(vit: VisionTransformer) -> None:
    original = vit._pos_embed
    vit._pos_embed = lambda x: 2 * original(x)


def tied_blocks(vit: VisionTransformer) -> None:
    vit.blocks[2] = vit.blocks[1]


ODD: dict[str, tuple[dict[str, Any], Callable[[VisionTransformer], None]]] = {
    "qkv_other_linear": ({}, replace("blocks.1.attn.qkv", Doubling(24, 72))),
    "last_qkv_other_linear": ({}, replace("blocks.3.attn.qkv", Doubling(24, 72))),
    "proj_other_linear": ({}, replace("blocks.3.attn.proj", Doubling(24, 24))),
    "narrow_heads": ({}, replace("blocks.1.attn", Attention(24, 3, attn_head_dim=4, qkv_bias=True))),
    "more_heads_in_one_block": ({}, replace("blocks.3.attn", Attention(24, 6, qkv_bias=True))),
    "only_key_norm": ({}, replace("blocks.1.attn.k_norm", nn.LayerNorm(8))),
    "only_query_norm": ({}, replace("blocks.3.attn.q_norm", nn.LayerNorm(8))),
    "mixing_key_norm": ({}, replace("blocks.1.attn.k_norm", MixingNorm(8))),
    "attention_dropout_module": ({}, replace("blocks.1.attn.attn_drop", nn.Identity())),
    "projection_drop_is_a_layer": ({}, replace("blocks.1.attn.proj_drop", Shift())),
    "layer_scale_in_place": ({}, replace("blocks.1.ls1", LayerScale(24, inplace=True))),
    "last_layer_scale_in_place": ({}, replace("blocks.3.ls2", LayerScale(24, inplace=True))),
    "layer_scale_once": ({}, replace("blocks.3.ls1", LayerScale(24))),
    "shift_for_layer_scale": ({}, replace("blocks.2.ls1", Shift())),
    "shift_for_drop_path": ({}, replace("blocks.2.drop_path2", Shift())),
    "gated_mlp": (dict(mlp_layer=GatedMlp), lambda vit: None),
    "mlp_norm": (dict(scale_mlp_norm=True), lambda vit: None),
    "simple_norm": (dict(norm_layer=SimpleNorm), lambda vit: None),
    "no_norm1": ({}, replace("blocks.1.norm1", nn.Identity())),
    "norm_without_weights": ({}, replace("norm", nn.LayerNorm(24, elementwise_affine=False))),
    "hook_qkv": ({}, hook_qkv),
    "hook_attention": ({}, hook_attention),
    "hook_last_attention": ({}, hook_last_attention),
    "hook_block": ({}, hook_block),
    "hook_mlp": ({}, hook_mlp),
    "hook_model_norm": ({}, hook_model_norm),
    "hook_mixing_norm": ({}, hook_mixing_norm),
    "other_temperature": ({}, other_temperature),
    "other_temperature_fused": ({}, other_temperature_fused),
    "parametrised": ({}, parametrised),
    "instance_forward": ({}, instance_forward),
    "own_embedding": ({}, own_embedding),
    "tied_blocks": ({}, tied_blocks),
    "pool_include_prefix": (dict(pool_include_prefix=True), lambda vit: None),
    "class_head_left_on": (dict(num_classes=7), lambda vit: None),
    "norm_before_blocks": ({}, replace("norm_pre", MixingNorm(24))),
    "patch_norm": (dict(embed_norm_layer=nn.LayerNorm), lambda vit: None),
}


def textbook_and_lpt(vit: VisionTransformer, dtype: torch.dtype = torch.float64, **kwargs: Any) -> tuple[Textbook, LPT]:
    sizes: dict[str, Any] = {"prompt_length": 3, "shared_blocks": 2, "pool_size": 5, "top_k": 2, **kwargs}
    textbook = Textbook.random(vit, dtype=dtype, **sizes)
    lpt = LPT(FrozenViT(vit), num_classes=len(textbook.head), **sizes).to(dtype)
    load_into(lpt, textbook)
    return textbook, lpt


@pytest.mark.parametrize("name", list(ODD))
def test_refused_or_right(name: str) -> None:
    """A backbone unlike any released one is either refused, or gives what its own blocks give: never a third thing."""
    kwargs, change = ODD[name]
    vit = small_vit(**kwargs)
    change(vit)
    vit = vit.double()
    randomise(vit, seed=4)
    for module in vit.modules():  # the changed part as well
        module.eval()
    try:
        textbook, lpt = textbook_and_lpt(vit)
    except ConfigError:
        return
    images = random_images()
    with torch.no_grad():
        assert relative_error(lpt.query(images), textbook.query(images)) < 1e-9
        assert relative_error(lpt(images).cosines, textbook(images).cosines) < 1e-9


# --- frozen ----------------------------------------------------------------------------------------------------------


def assert_eval(module: nn.Module) -> None:
    training = [name for name, part in module.named_modules() if part.training]
    assert not training, f"in training mode: {training[:5]}"


def test_always_in_eval() -> None:
    """train() on the backbone, or on a model or a container that holds it, leaves it in eval."""
    vit = small_vit().train()
    frozen = FrozenViT(vit)
    assert_eval(frozen)
    frozen.train()
    assert_eval(frozen)
    lpt = LPT(frozen, num_classes=3, prompt_length=2, shared_blocks=1, pool_size=4)
    assert lpt.train() is lpt
    assert lpt.training
    assert_eval(frozen)
    nn.ModuleList([lpt, frozen]).train()
    assert_eval(frozen)
    lpt.eval()
    assert not lpt.training


def test_never_trainable() -> None:
    """No parameter requires a gradient, also when somebody turns everything on."""
    frozen = FrozenViT(small_vit())
    parameters = list(frozen.parameters())
    assert len(parameters) > 10, "the backbone's parameters are there to be moved and hashed"
    lpt = LPT(frozen, num_classes=3, prompt_length=2, shared_blocks=1, pool_size=4)
    attempts: dict[str, Callable[[], Any]] = {
        "as built": lambda: None,
        "lpt.train()": lpt.train,
        "lpt.requires_grad_()": lambda: lpt.requires_grad_(True),
        "frozen.requires_grad_()": lambda: frozen.requires_grad_(True),
    }
    for attempt, turn_on in attempts.items():
        turn_on()
        assert not any(parameter.requires_grad for parameter in frozen.parameters()), attempt


def test_four_trainable_tensors() -> None:
    """What an optimiser is given is the four tensors, whatever else parameters() may list."""
    lpt = LPT(FrozenViT(small_vit()), num_classes=3, prompt_length=2, shared_blocks=1, pool_size=4)
    trainable = {name for name, parameter in lpt.named_parameters() if parameter.requires_grad}
    assert trainable == set(PARAMETERS)
    assert len([p for p in lpt.parameters() if p.requires_grad]) == 4


def test_dropout_of_the_backbone_has_no_effect() -> None:
    """Rates set in the backbone act in training mode only, and it never is in training mode."""
    rates: dict[str, Any] = dict(
        drop_rate=0.5, pos_drop_rate=0.5, patch_drop_rate=0.5, proj_drop_rate=0.5, attn_drop_rate=0.5
    )
    plain, dropping = small_vit(), small_vit(drop_path_rate=0.5, **rates)
    dropping.load_state_dict(plain.state_dict())
    _, one = textbook_and_lpt(plain)
    _, two = textbook_and_lpt(dropping.train())
    images = random_images()
    for model in (one, two):
        model.train()
    assert torch.equal(one.query(images), two.query(images))
    assert torch.equal(one(images).cosines, two(images).cosines)
    assert torch.equal(two.forward_shared(images), two.forward_shared(images))


def test_batch_statistics_of_a_hybrid_stay() -> None:
    """A convolutional patch embedding's running means are part of the frozen backbone."""

    def embed(**kwargs: Any) -> HybridEmbed:
        stem = nn.Sequential(nn.Conv2d(3, 6, 2, stride=2), nn.BatchNorm2d(6))
        return HybridEmbed(stem, **{**kwargs, "patch_size": 4})

    _, lpt = textbook_and_lpt(small_vit(embed_layer=embed))
    lpt.train()
    first = lpt(random_images(seed=1)).cosines
    lpt(random_images(seed=2) * 5)
    assert torch.equal(lpt(random_images(seed=1)).cosines, first)


# --- what an LPT owns ------------------------------------------------------------------------------------------------


def test_state_dict_is_four_tensors() -> None:
    """Names and shapes are what packs are made of; the backbone is not among them."""
    lpt = LPT(FrozenViT(small_vit()), num_classes=7, prompt_length=3, shared_blocks=1, pool_size=5, top_k=2)
    shapes = {name: tuple(tensor.shape) for name, tensor in lpt.state_dict().items()}
    assert shapes == {
        "shared.tokens": (4, 3, 24),
        "groups.prompts": (5, 3, 3, 24),
        "groups.keys": (5, 24),
        "head.weight": (7, 24),
    }


def test_defaults() -> None:
    """Published sizes: P 10, K half the blocks, M 20, k 2."""
    lpt = LPT(FrozenViT(small_vit(depth=4)), num_classes=3).double()
    shapes = {name: tuple(tensor.shape) for name, tensor in lpt.state_dict().items()}
    assert shapes["shared.tokens"] == (4, 10, 24)
    assert shapes["groups.prompts"] == (20, 2, 10, 24)
    assert shapes["groups.keys"] == (20, 24)
    assert lpt(random_images()).groups.shape == (3, 2)


def test_initial_values() -> None:
    """Prompts and keys truncated-normal 0.02; the head's rows scaled to unit length (DESIGN section 2)."""
    torch.manual_seed(0)
    lpt = LPT(FrozenViT(small_vit(depth=2)), num_classes=50, prompt_length=50, shared_blocks=1, pool_size=40)
    state = lpt.state_dict()
    for name in ("shared.tokens", "groups.prompts", "groups.keys"):
        assert abs(float(state[name].mean())) < 2e-3
        assert 0.017 < float(state[name].std()) < 0.022, name
    assert torch.allclose(state["head.weight"].norm(dim=1), torch.ones(50, dtype=state["head.weight"].dtype))
    assert all(tensor.dtype == torch.float32 for tensor in state.values()), "not the backbone's dtype"


def test_initial_values_follow_the_seed() -> None:
    """The same seed gives the same model, another seed another."""
    frozen = FrozenViT(small_vit())

    def draw(seed: int) -> dict[str, Tensor]:
        torch.manual_seed(seed)
        return LPT(frozen, num_classes=3, prompt_length=2, shared_blocks=1, pool_size=4).state_dict()

    one, same, other = draw(0), draw(0), draw(1)
    for name in PARAMETERS:
        assert torch.equal(one[name], same[name])
        assert not torch.equal(one[name], other[name])


def test_load_is_strict_and_round_trips() -> None:
    """Four tensors in, the same four out; one too few, one too many or one of another shape is an error."""
    textbook, lpt = textbook_and_lpt(small_vit())
    state = textbook.state_dict()
    other = LPT(FrozenViT(small_vit(seed=9)), num_classes=6, prompt_length=3, shared_blocks=2, pool_size=5).double()
    result = other.load_state_dict(state, strict=True)
    assert not result.missing_keys
    assert not result.unexpected_keys
    for name, tensor in other.state_dict().items():
        assert torch.equal(tensor, state[name])
    for broken in (
        {name: tensor for name, tensor in state.items() if name != "groups.keys"},
        {**state, "backbone.cls_token": torch.zeros(1, 1, 24)},
        {**state, "head.weight": torch.zeros(5, 24)},
    ):
        with pytest.raises((RuntimeError, LptError)):
            lpt.load_state_dict(broken, strict=True)


def test_to_moves_the_backbone() -> None:
    """LPT.to(dtype) is enough: no second call on the backbone is needed."""
    vit = small_vit(dtype=torch.float32)
    frozen = FrozenViT(vit)
    lpt = LPT(frozen, num_classes=6, prompt_length=3, shared_blocks=2, pool_size=5)
    assert lpt.to(torch.float64) is lpt
    assert {tensor.dtype for tensor in frozen.parameters()} == {torch.float64}
    assert {tensor.dtype for tensor in lpt.state_dict().values()} == {torch.float64}
    assert lpt(random_images()).cosines.dtype == torch.float64
    lpt.float()
    assert {tensor.dtype for tensor in frozen.parameters()} == {torch.float32}
    lpt.to("meta")
    assert {tensor.device.type for tensor in frozen.parameters()} == {"meta"}


def test_two_models_share_a_backbone() -> None:
    """Sizes and parameters are each model's own; training one leaves the other and the backbone as they were."""
    vit = small_vit()
    one_text = Textbook.random(vit, seed=1)
    two_text = Textbook.random(vit, num_classes=4, prompt_length=5, shared_blocks=3, pool_size=4, top_k=1, seed=2)
    frozen = FrozenViT(vit)
    one = LPT(frozen, num_classes=6, prompt_length=3, shared_blocks=2, pool_size=5, top_k=2).double()
    two = LPT(frozen, num_classes=4, prompt_length=5, shared_blocks=3, pool_size=4, top_k=1).double()
    load_into(one, one_text)
    load_into(two, two_text)
    images = random_images()
    weights_before = {name: tensor.clone() for name, tensor in frozen.state_dict().items()}
    before = two(images).cosines.detach()
    assert relative_error(before, two_text(images).cosines) < 1e-9

    optimiser = torch.optim.SGD([p for p in one.parameters() if p.requires_grad], lr=1.0, weight_decay=0.1)
    output = one(images)
    (output.cosines.pow(2).sum() - output.similarity).backward()
    optimiser.step()
    assert relative_error(one(images).cosines, one_text(images).cosines) > 1e-6, "the step did something"
    assert torch.equal(two(images).cosines, before)
    for name, tensor in frozen.state_dict().items():
        assert torch.equal(tensor, weights_before[name]), name


def test_nothing_is_remembered_between_calls() -> None:
    """No constant of a prompt survives a call: parameters changed in eval mode count at once."""
    textbook, lpt = textbook_and_lpt(small_vit())
    lpt.eval()
    images = random_images()
    with torch.inference_mode():
        lpt(images)
        lpt.forward_shared(images)
    with torch.no_grad():
        for parameter in lpt.parameters():
            if parameter.requires_grad:
                parameter.mul_(-0.5).add_(0.1)
    with torch.no_grad():
        for _, tensor in textbook.named():
            tensor.mul_(-0.5).add_(0.1)
    assert relative_error(lpt(images).cosines, textbook(images).cosines) < 1e-9
    assert relative_error(lpt.forward_shared(images), textbook.forward_shared(images)) < 1e-9
    lpt(images).cosines.sum().backward()  # what was run in inference mode does not stand in the way of training


def test_deepcopy_is_independent() -> None:
    """A copy (an average of weights, a best epoch) has tensors of its own."""
    _, lpt = textbook_and_lpt(small_vit())
    other = copy.deepcopy(lpt)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert all(tensor.abs().sum() > 0 for tensor in lpt.state_dict().values())


# --- refusals of sizes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (dict(pool_size=1, top_k=2), "top_k"),
        (dict(pool_size=0, top_k=1), "pool_size|top_k"),
        (dict(pool_size=-3), "pool_size|top_k"),
        (dict(top_k=0), "top_k"),
        (dict(top_k=-1), "top_k"),
        (dict(shared_blocks=-1), "shared_blocks"),
        (dict(shared_blocks=4), "shared_blocks"),
        (dict(shared_blocks=5), "shared_blocks"),
        (dict(prompt_length=-1), "prompt_length"),
        (dict(num_classes=1), "num_classes"),
        (dict(num_classes=0), "num_classes"),
        (dict(num_classes=-2), "num_classes"),
    ],
    ids=str,
)
def test_refuses_sizes(changes: dict[str, int], named: str) -> None:
    """A size that cannot be meant is refused with its name and the value given (L = 4: group prompts need a block)."""
    sizes = {"num_classes": 3, "prompt_length": 2, "shared_blocks": 2, "pool_size": 4, "top_k": 2, **changes}
    with pytest.raises(ConfigError, match=named) as caught:
        LPT(FrozenViT(small_vit()), **sizes)
    assert any(str(value) in str(caught.value) for value in changes.values()), "the value received is said"


def test_accepts_the_limits() -> None:
    """The smallest and largest sizes that make sense do work."""
    frozen = FrozenViT(small_vit())
    for sizes in (
        dict(num_classes=2, prompt_length=0, shared_blocks=0, pool_size=1, top_k=1),
        dict(num_classes=2, prompt_length=1, shared_blocks=3, pool_size=2, top_k=2),
    ):
        output = LPT(frozen, **sizes).double()(random_images())
        assert output.cosines.shape == (3, 2)
        assert output.groups.shape == (3, sizes["top_k"])


def test_refuses_a_bare_vit() -> None:
    """LPT takes a FrozenViT: a bare backbone has not been looked at and would be trained along."""
    with pytest.raises(ConfigError, match="FrozenViT"):
        LPT(small_vit(), num_classes=3)


# --- other input sizes -----------------------------------------------------------------------------------------------


def small_hybrid(**kwargs: Any) -> HybridEmbed:
    """A stem without `feature_info`, as timm's own hybrids of the smallest size have; a token is 8x8 pixels."""
    stem = nn.Sequential(nn.Conv2d(3, 6, 2, stride=2), nn.BatchNorm2d(6))
    return HybridEmbed(stem, **{**kwargs, "patch_size": 4})


@pytest.mark.parametrize(
    "kwargs",
    [{}, dict(reg_tokens=2, no_embed_class=True), dict(embed_layer=small_hybrid)],
    ids=["plain", "registers", "hybrid"],
)
def test_at_size_is_timm_resized(kwargs: dict[str, Any]) -> None:
    """Another input size is what timm's set_input_size gives, and leaves the backbone it was made from as it was."""
    vit, resized = small_vit(**kwargs), small_vit(**kwargs)
    resized.set_input_size(img_size=(16, 40))
    frozen = FrozenViT(vit)
    images = random_images(size=(16, 40))
    with torch.no_grad():
        before = frozen.features(random_images())
        other = frozen.at_size((16, 40))
        assert relative_error(other.features(images), resized.forward_features(images)[:, 0]) < 1e-9
        assert torch.equal(frozen.features(random_images()), before)
        assert relative_error(other.at_size((24, 24)).features(random_images()), before) < 1e-12


@pytest.mark.parametrize("kwargs", [{}, dict(embed_layer=small_hybrid)], ids=["plain", "hybrid"])
def test_at_size_after_a_move(kwargs: dict[str, Any]) -> None:
    """A resized backbone that was moved (or an LPT around it) can be resized again: no tensor stays behind."""
    frozen = FrozenViT(small_vit(dtype=torch.float32, **kwargs))
    moved = frozen.at_size((16, 40))
    LPT(moved, num_classes=3, prompt_length=2, shared_blocks=1, pool_size=4).to(torch.bfloat16)
    again = moved.at_size((40, 16))
    floating = [tensor for tensor in again.state_dict().values() if tensor.is_floating_point()]
    assert {tensor.dtype for tensor in floating} == {torch.bfloat16}
    with torch.no_grad():
        assert again.features(random_images(size=(40, 16), dtype=torch.float32)).isfinite().all()
