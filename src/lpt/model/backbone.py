"""The frozen Vision Transformer: the only file that knows timm's insides.

A prompt in a block acts on the image tokens only through attention, as extra keys and values: its own output is
dropped, so it needs no query, no projection and no MLP (exact; equal to concatenating prompts as tokens and dropping
their outputs, Dong et al., ICLR 2023, section 3). `FrozenViT.block` is that form.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
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
from torch import Tensor, nn

from lpt.errors import ConfigError
from lpt.model.record import BackboneRecord, weight_hash

WORKING_NAMES = (
    "vit_base_patch16_224.augreg_in21k",
    "vit_tiny_patch16_224.augreg_in21k_ft_in1k",
    "vit_base_patch14_dinov2.lvd142m",
    "deit3_base_patch16_224.fb_in22k_ft_in1k",
    "vit_base_patch16_clip_224.openai",
    "vit_base_patch16_224.mae",
)

MOST_ENLARGED = 16
"""How many times the side of the images that the backbone was trained at an input may have."""

# Layers that treat every token alone: only then may a block be run for the class token alone.
_TOKEN_NORMS: tuple[type[nn.Module], ...] = (nn.LayerNorm, LayerNorm, LayerNormFp32, RmsNorm, nn.RMSNorm)
_TOKEN_MLPS: tuple[type[nn.Module], ...] = (Mlp, GluMlp, SwiGLU)


class KeyValue(NamedTuple):
    """Keys and values of prompts in one block, each [H, P, d] or [B, H, P, d]."""

    key: Tensor
    value: Tensor


class QueryKeyValue(NamedTuple):
    """Queries, keys and values of image tokens in one block, each [B, H, N, d]; queries [B, H, 1, d] for one token."""

    query: Tensor
    key: Tensor
    value: Tensor


class FrozenViT(nn.Module):
    """A timm Vision Transformer that never trains.

    It stays in evaluation mode under `train()`, and none of its parameters asks for a gradient. Its precision is the
    dtype of its weights: `FrozenViT(vit).to(torch.bfloat16)` computes its blocks in bfloat16.

    Args:
        vit: a `timm.models.vision_transformer.VisionTransformer` with plain blocks, a class token, `token` pooling
            and a final norm.
        record: what identifies its weights; None for a model that was not loaded by `lpt.load_backbone`.

    Raises:
        ConfigError: the model differs from that in a way LPT would get wrong; the difference is named.
    """

    def __init__(self, vit: VisionTransformer, record: BackboneRecord | None = None) -> None:
        super().__init__()
        faults = unsupported(vit)
        if faults:
            raise ConfigError(
                f"LPT cannot use this {type(vit).__name__} as a backbone: "
                + "; ".join(faults)
                + ".\nAccepted: a plain timm VisionTransformer with a class token, token pooling and a final norm, "
                "such as " + ", ".join(WORKING_NAMES)
            )
        self.vit = vit
        self._record = record
        self._origin = (self,)  # a tuple, so that it is no submodule
        self.width: int = vit.embed_dim
        self.depth: int = len(vit.blocks)
        super().requires_grad_(False)
        super().train(False)

    def train(self, mode: bool = True) -> FrozenViT:
        """Stays in evaluation mode."""
        del mode
        return self

    def requires_grad_(self, requires_grad: bool = True) -> FrozenViT:
        """Stays frozen."""
        del requires_grad
        return self

    @property
    def name(self) -> str:
        """Name in its record; without one, the class of its model."""
        return type(self.vit).__name__ if self._record is None else self._record.name

    @property
    def weight_hash(self) -> str:
        """sha256 over its weights, from its record where it has one."""
        return weight_hash(self.vit) if self._record is None else self._record.weight_hash

    @property
    def record(self) -> BackboneRecord:
        """What identifies its weights.

        Raises:
            ConfigError: it was built from a model whose origin is not known.
        """
        if self._record is None:
            raise ConfigError(
                f"this {type(self.vit).__name__} has no record of where its weights come from, which a run and a pack "
                "need. Load it with lpt.load_backbone(name), or give FrozenViT a record."
            )
        return self._record

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of its input, pixels."""
        height, width = self.vit.patch_embed.img_size
        return int(height), int(width)

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the blocks."""
        return self.vit.blocks[0].attn.qkv.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.vit.blocks[0].attn.qkv.weight.device

    @property
    def tokens(self) -> int:
        """Image tokens N of a block, the class token and other prefix tokens counted in."""
        rows, columns = self.vit.patch_embed.grid_size
        return int(rows * columns + self.vit.num_prefix_tokens)

    def training_bytes(self, image_size: tuple[int, int], number_bytes: int) -> int:
        """Estimated memory that one image takes while prompts are trained, bytes.

        Kept for the backward of a block, per token: inputs of the two norms (2 D), queries, keys and values before and
        after joining the prompts' (6 D), the MLP's hidden layer twice (8 D) and the attention weights.
        """
        height, width = patch_pixels(self.vit)
        tokens = (image_size[0] // height) * (image_size[1] // width) + self.vit.num_prefix_tokens
        heads = self.vit.blocks[0].attn.num_heads
        return self.depth * tokens * (16 * self.width + 2 * heads * tokens) * number_bytes

    def at_size(self, image_size: tuple[int, int]) -> FrozenViT:
        """The same backbone for another input size, height and width in pixels.

        Position embeddings are resampled as timm does, always from those that were loaded; all other weights are
        shared with this one.

        Raises:
            ConfigError: the size is not a multiple of the patch; the nearest sizes that fit are named.
        """
        if image_size == self.image_size:
            return self
        origin = self._origin[0]
        _check_size(origin.vit, image_size)
        own = {id(origin.vit.pos_embed)}
        shared = {id(tensor): tensor for tensor in origin.vit.state_dict(keep_vars=True).values()}
        vit = copy.deepcopy(origin.vit, {key: tensor for key, tensor in shared.items() if key not in own})
        vit.to(device=self.device, dtype=self.dtype)  # what is not shared did not follow when this one was moved
        vit.set_input_size(img_size=image_size)
        resized = FrozenViT(vit, origin._record)
        resized._origin = (origin,)
        return resized

    def with_own(self, names: Collection[str]) -> FrozenViT:
        """A backbone whose tensors of these names (of `vit`) are copies; all others are shared with this one.

        What a method trains of the backbone itself lies there, so that the backbone stays as it is.
        """
        shared = {id(t): t for name, t in self.vit.state_dict(keep_vars=True).items() if name not in names}
        return FrozenViT(copy.deepcopy(self.vit, shared), self._record)

    def embed(self, images: Tensor) -> Tensor:
        """Image tokens before the first block: [B, 3, height, width] -> [B, N, D], class token first."""
        vit = self.vit
        return vit.norm_pre(vit._pos_embed(vit.patch_embed(images.to(self.dtype))))

    def norm(self, tokens: Tensor) -> Tensor:
        """The final norm, [..., D] -> [..., D]."""
        return self.vit.norm(tokens)

    def features(self, images: Tensor) -> Tensor:
        """Class-token features with no prompt at all: [B, 3, height, width] -> [B, D]."""
        tokens = self.embed(images)
        for layer in range(self.depth):
            tokens = self.block(layer, tokens, (), class_token_only=layer == self.depth - 1)
        return self.norm(tokens)[:, 0]

    def prompt_key_value(self, layer: int, prompts: Tensor) -> KeyValue:
        """What a block's attention sees of prompts: [..., P, D] -> two of [..., H, P, d].

        qk-norm, where the backbone has it, acts on the prompts' keys as on the image tokens'.
        """
        block = self.vit.blocks[layer]
        attention = block.attn
        hidden = block.norm1(prompts.to(self.dtype))
        key, value = _project(attention, hidden, first=1).unflatten(-1, (2, attention.num_heads, -1)).unbind(-3)
        return KeyValue(attention.k_norm(key.transpose(-3, -2)), value.transpose(-3, -2))

    def project(self, layer: int, tokens: Tensor, *, class_token_only: bool = False) -> QueryKeyValue:
        """Queries, keys and values of image tokens [B, N, D] in a block; queries of the class token alone if asked."""
        block = self.vit.blocks[layer]
        attention = block.attn
        heads = attention.num_heads
        hidden = block.norm1(tokens)
        if class_token_only:
            query = _project(attention, hidden[:, :1], first=0, last=1).unflatten(-1, (heads, -1)).transpose(1, 2)
            key, value = _project(attention, hidden, first=1).unflatten(-1, (2, heads, -1)).permute(2, 0, 3, 1, 4)
        else:
            query, key, value = attention.qkv(hidden).unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
        return QueryKeyValue(attention.q_norm(query), attention.k_norm(key), value)

    def block(
        self,
        layer: int,
        tokens: Tensor,
        prompts: Sequence[KeyValue],
        *,
        class_token_only: bool = False,
        projected: QueryKeyValue | None = None,
        adapters: Callable[[int, Tensor], Tensor] | None = None,
    ) -> Tensor:
        """One block on image tokens that also attend to prompts.

        Args:
            layer: index of the block, 0-based.
            tokens: image tokens [B, N, D].
            prompts: keys and values of any number of prompts, shared by the batch [H, P, d] or per image
                [B, H, P, d].
            class_token_only: compute the output of the class token alone (all tokens still serve as keys and values).
            projected: `project` of the same tokens, when the caller has it already.
            adapters: gives what is added to the output, of the block's index and of what enters its MLP.

        Returns:
            [B, N, D], or [B, 1, D] for the class token alone.
        """
        block = self.vit.blocks[layer]
        if projected is None:
            projected = self.project(layer, tokens, class_token_only=class_token_only)
        key = _with_prompts(projected.key, [prompt.key for prompt in prompts])
        value = _with_prompts(projected.value, [prompt.value for prompt in prompts])
        mixed = _attend(projected.query, key, value, block.attn.scale)
        if class_token_only:
            tokens = tokens[:, :1]
        tokens = tokens + block.ls1(block.attn.proj(mixed.transpose(1, 2).flatten(2)))
        changed = tokens + block.ls2(block.mlp(block.norm2(tokens)))
        return changed if adapters is None else changed + adapters(layer, tokens)


def _project(attention: Attention, hidden: Tensor, *, first: int, last: int = 3) -> Tensor:
    """A slice of the fused query-key-value projection: parts `first` to `last` of (query, key, value)."""
    size = attention.num_heads * attention.head_dim
    rows = slice(first * size, last * size)
    if type(attention.qkv) is not nn.Linear:  # LoRA is on it: its parts cannot be had one by one
        return attention.qkv(hidden)[..., rows]
    bias = attention.qkv.bias
    return F.linear(hidden, attention.qkv.weight[rows], None if bias is None else bias[rows])


def _attend(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """softmax(query key^T * scale) value, each [B, H, tokens, d]."""
    if _plain_is_faster(query, key, value):
        return ((query * scale) @ key.transpose(-2, -1)).softmax(dim=-1) @ value
    return F.scaled_dot_product_attention(query, key, value, scale=scale)


def _plain_is_faster(*tensors: Tensor) -> bool:
    """Whether attention is better computed without torch's fused kernel.

    On the CPU the kernel's backward in bfloat16 is slow (by a factor of eight where there are AMX instructions). In
    float32 the two forms take the same time in a ViT-Ti and the kernel is up to 1.8 times as fast in a ViT-B, and it
    keeps no attention weights. `python -m benchmarks.speed` measures both.
    """
    low = tensors[0].dtype in (torch.bfloat16, torch.float16)
    return low and tensors[0].device.type == "cpu" and any(tensor.requires_grad for tensor in tensors)


def _with_prompts(tokens: Tensor, prompts: Sequence[Tensor]) -> Tensor:
    """[B, H, N, d] and prompts, each [H, P, d] or [B, H, P, d] -> [B, H, N + sum(P), d]."""
    present = [prompt for prompt in prompts if prompt.shape[-2]]
    if not present:
        return tokens
    return torch.cat([tokens, *(prompt.expand(len(tokens), -1, -1, -1) for prompt in present)], dim=2)


def _check_size(vit: VisionTransformer, image_size: tuple[int, int]) -> None:
    unit = patch_pixels(vit)
    native = vit.patch_embed.img_size
    if any(side > MOST_ENLARGED * own for side, own in zip(image_size, native, strict=True)):
        raise ConfigError(
            f"image.size: {image_size[0]}x{image_size[1]} is more than {MOST_ENLARGED} times the "
            f"{native[0]}x{native[1]} pixels that the backbone was trained at. Choose a smaller size"
        )
    fits = [side >= step and side % step == 0 for side, step in zip(image_size, unit, strict=True)]
    if all(fits):
        return
    below = [max(side // step, 1) * step for side, step in zip(image_size, unit, strict=True)]
    above = [-(-side // step) * step for side, step in zip(image_size, unit, strict=True)]
    raise ConfigError(
        f"image.size: {image_size[0]}x{image_size[1]} is not a multiple of the backbone's patch {unit[0]}x{unit[1]}. "
        f"Nearest that fit: {below[0]}x{below[1]} and {above[0]}x{above[1]}"
    )


def patch_pixels(vit: VisionTransformer) -> tuple[int, int]:
    """Height and width in pixels that one image token stands for; a hybrid's convolutions are counted in."""
    height, width = vit.patch_embed.feat_ratio(as_scalar=False)
    return int(height), int(width)


def unsupported(vit: Any) -> list[str]:
    """What keeps a model from being a backbone of LPT, one phrase each; empty when nothing does."""
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
        found = _unsupported_block(block)
        if found:
            return faults + [f"block {index}: {phrase}" for phrase in found]
    return faults


def _patched(name: str, module: nn.Module) -> list[str]:
    """Hooks and replaced methods, which calling the parts of a block one by one would pass by."""
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
