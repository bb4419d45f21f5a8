"""Models that FrozenViT accepts and refuses."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import psutil
import pytest
import timm
import torch
from timm.layers import Attention, AttentionRope, GatedMlp, LayerScale, Mlp, SimpleNorm
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
from lpt.model import FrozenViT
from lpt.model.pretrained import load_backbone
from lpt.system.hardware import PeakMemory
from oracle import random_images, randomise, relative_error, small_vit
from pairs import textbook_and_lpt

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


def test_a_huge_model_is_refused_before_it_takes_memory() -> None:
    """A pack may name any model of timm: a billion parameters of a kind that LPT cannot use are never allocated."""
    before = psutil.Process().memory_info().rss
    with PeakMemory() as peak, pytest.raises(ConfigError, match="its class is Eva"):
        load_backbone("eva_giant_patch14_224")  # 1.0 billion parameters: 4 GB
    assert peak.bytes - before < 500e6
