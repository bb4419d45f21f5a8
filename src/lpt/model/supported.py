"""Check that a timm model is one that LPT computes right."""

from __future__ import annotations

from typing import Any

from timm.layers import (
    DropPath,
    GluMlp,
    LayerNorm,
    LayerNormFp32,
    LayerScale,
    Mlp,
    RmsNorm,
    SwiGLU,
)
from timm.models.vision_transformer import Attention, Block, VisionTransformer
from torch import nn

WORKING_NAMES = (
    "vit_base_patch16_224.augreg_in21k",
    "vit_tiny_patch16_224.augreg_in21k_ft_in1k",
    "vit_base_patch14_dinov2.lvd142m",
    "deit3_base_patch16_224.fb_in22k_ft_in1k",
    "vit_base_patch16_clip_224.openai",
    "vit_base_patch16_224.mae",
)
"""Examples for messages."""

# These layers treat every token alone. Only then may a block run for the class token alone.
_TOKEN_NORMS: tuple[type[nn.Module], ...] = (nn.LayerNorm, LayerNorm, LayerNormFp32, RmsNorm, nn.RMSNorm)
_TOKEN_MLPS: tuple[type[nn.Module], ...] = (Mlp, GluMlp, SwiGLU)


def unsupported(vit: Any) -> list[str]:
    """Return what makes a model unusable as a backbone of LPT, one phrase for each fault; empty if nothing does."""
    if type(vit) is not VisionTransformer:
        return [f"its class is {type(vit).__name__}, not timm's VisionTransformer (no subclass of it either)"]
    faults = []
    if not vit.has_class_token:
        faults.append("it has no class token")
    if vit.global_pool != "token":
        faults.append(f"its pooling is {vit.global_pool!r}, not 'token'")
    if vit.attn_pool is not None:
        faults.append("it has an attention pooling head")
    if not isinstance(vit.fc_norm, nn.Identity):
        faults.append("it normalises after pooling (fc_norm)")
    if type(vit.norm) not in _TOKEN_NORMS:
        faults.append(f"its final norm is {type(vit.norm).__name__}, not a norm over each token")
    if type(vit.norm_pre) not in (*_TOKEN_NORMS, nn.Identity):
        faults.append(f"its norm before the blocks is {type(vit.norm_pre).__name__}")
    if not len(vit.blocks):
        faults.append("it has no blocks")
    faults += _patched("its final norm", vit.norm)
    for index, block in enumerate(vit.blocks):
        block_faults = _unsupported_block(block)
        if block_faults:
            return faults + [f"block {index}: {phrase}" for phrase in block_faults]
    return faults


def _patched(name: str, module: nn.Module) -> list[str]:
    """Name hooks and replaced methods: LPT calls the parts of a block one by one and would skip them."""
    hooks = module._forward_hooks or module._forward_pre_hooks
    return [f"{name} carries forward hooks or a replaced forward"] if hooks or "forward" in vars(module) else []


def _unsupported_block(block: Any) -> list[str]:
    if type(block) is not Block:
        return [f"it is a {type(block).__name__}, not a plain Block"]
    attention = block.attn
    if type(attention) is not Attention:
        return [f"its attention is {type(attention).__name__}, not plain Attention"]
    faults = [fault for name, part in block.named_modules() for fault in _patched(name or "it", part)]
    for name in ("qkv", "proj"):
        if type(getattr(attention, name)) is not nn.Linear:
            faults.append(f"its attention's {name} is {type(getattr(attention, name)).__name__}, not Linear")
    if attention.scale != attention.head_dim**-0.5:
        faults.append(f"its attention scales by {attention.scale}, not 1 / sqrt({attention.head_dim})")
    for names, kinds in (
        (("attn.attn_drop", "attn.proj_drop"), (nn.Dropout, nn.Identity)),
        (("ls1", "ls2"), (LayerScale, nn.Identity)),
        (("drop_path1", "drop_path2"), (DropPath, nn.Identity)),
    ):
        for name in names:
            part = block.get_submodule(name)
            if type(part) not in kinds:
                faults.append(f"its {name} is {type(part).__name__}, not {kinds[0].__name__}")
    if getattr(attention, "gate", None) is not None:
        faults.append("its attention is gated")
    if not isinstance(getattr(attention, "norm", nn.Identity()), nn.Identity):
        faults.append("its attention normalises its output (scale_attn_norm)")
    for name, norm in (("norm1", block.norm1), ("norm2", block.norm2)):
        if type(norm) not in _TOKEN_NORMS:
            faults.append(f"its {name} is {type(norm).__name__}, not a norm over each token")
    for name, norm in (("q_norm", attention.q_norm), ("k_norm", attention.k_norm)):
        if type(norm) not in (*_TOKEN_NORMS, nn.Identity):
            faults.append(f"its {name} is {type(norm).__name__}, not a norm over each head")
    if type(block.mlp) not in _TOKEN_MLPS:
        faults.append(f"its MLP is {type(block.mlp).__name__}, which may mix tokens")
    return faults
