"""The frozen Vision Transformer: this file runs the parts of timm's model.

A prompt in a block acts on the image tokens only through attention, as extra keys and values. Its own output is
dropped, so it needs no query, no projection and no MLP. This is exact: it equals concatenating prompts as tokens and
dropping their outputs (Dong et al., ICLR 2023, section 3). `FrozenViT.block` computes that form.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Attention, VisionTransformer
from torch import Tensor, nn

from lpt.errors import ConfigError
from lpt.model.record import BackboneRecord, weight_hash
from lpt.model.supported import WORKING_NAMES, unsupported

MOST_ENLARGED = 16
"""Largest side of an input, as a multiple of the side that the backbone was trained at."""


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

    It stays in evaluation mode under `train()`, and none of its parameters requires a gradient. It computes in the
    dtype of its weights: `FrozenViT(vit).to(torch.bfloat16)` computes its blocks in bfloat16.

    Args:
        vit: a `timm.models.vision_transformer.VisionTransformer` with plain blocks, a class token, `token` pooling
            and a final norm.
        record: name, hash and licence of its weights; None if `lpt.load_backbone` did not load it.

    Raises:
        ConfigError: LPT would compute this model wrong; the message names the difference.
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
        self._origin = (self,)  # in a tuple: not a submodule
        self.width: int = vit.embed_dim
        self.depth: int = len(vit.blocks)
        super().requires_grad_(False)
        super().train(False)

    def train(self, mode: bool = True) -> FrozenViT:
        """Stay in evaluation mode."""
        del mode
        return self

    def requires_grad_(self, requires_grad: bool = True) -> FrozenViT:
        """Stay frozen."""
        del requires_grad
        return self

    @property
    def name(self) -> str:
        """Name from the record; without a record, the class of the model."""
        return type(self.vit).__name__ if self._record is None else self._record.name

    @property
    def weight_hash(self) -> str:
        """sha256 over the weights, from the record if there is one."""
        return weight_hash(self.vit) if self._record is None else self._record.weight_hash

    @property
    def record(self) -> BackboneRecord:
        """Name, hash and licence of the weights.

        Raises:
            ConfigError: it was built without a record.
        """
        if self._record is None:
            raise ConfigError(
                f"this {type(self.vit).__name__} has no record of where its weights come from. A run and a pack need "
                "one. Load it with lpt.load_backbone(name), or give FrozenViT a record."
            )
        return self._record

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the input, pixels."""
        height, width = self.vit.patch_embed.img_size
        return int(height), int(width)

    @property
    def dtype(self) -> torch.dtype:
        """Data type that the blocks compute in."""
        return self.vit.blocks[0].attn.qkv.weight.dtype

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.vit.blocks[0].attn.qkv.weight.device

    @property
    def tokens(self) -> int:
        """Image tokens N of a block, including the class token and other prefix tokens."""
        rows, columns = self.vit.patch_embed.grid_size
        return int(rows * columns + self.vit.num_prefix_tokens)

    def training_bytes(self, image_size: tuple[int, int], number_bytes: int) -> int:
        """Estimate the memory that one image takes while prompts train, bytes.

        A block keeps for its backward pass, per token: the inputs of the two norms (2 D), queries, keys and values
        before and after the prompts join (6 D), the hidden layer of the MLP twice (8 D) and the attention weights.
        """
        height, width = patch_pixels(self.vit)
        tokens = (image_size[0] // height) * (image_size[1] // width) + self.vit.num_prefix_tokens
        heads = self.vit.blocks[0].attn.num_heads
        return self.depth * tokens * (16 * self.width + 2 * heads * tokens) * number_bytes

    def at_size(self, image_size: tuple[int, int]) -> FrozenViT:
        """Return this backbone for another input size, height and width in pixels.

        Position embeddings are resampled as timm does, always from the loaded ones. All other weights are shared.

        Raises:
            ConfigError: the size is not a multiple of the patch; the message names the nearest sizes that fit.
        """
        if image_size == self.image_size:
            return self
        origin = self._origin[0]
        _check_size(origin.vit, image_size)
        tensors = origin.vit.state_dict(keep_vars=True).values()
        shared = {id(tensor): tensor for tensor in tensors if tensor is not origin.vit.pos_embed}
        vit = copy.deepcopy(origin.vit, shared)
        if any(self._is_elsewhere(tensor) for tensor in vit.state_dict().values()):
            vit.to(device=self.device, dtype=self.dtype)  # some did not follow if this one was moved
        vit.set_input_size(img_size=image_size)
        resized = FrozenViT(vit, origin._record)
        resized._origin = (origin,)
        return resized

    def _is_elsewhere(self, tensor: Tensor) -> bool:
        return tensor.device != self.device or (tensor.is_floating_point() and tensor.dtype != self.dtype)

    def with_own(self, names: Collection[str]) -> FrozenViT:
        """Return a backbone with copies of the tensors of these names (in `vit`); it shares all others with this one.

        A method that trains weights of the backbone trains those copies, so this backbone stays as it is.
        """
        shared = {id(t): t for name, t in self.vit.state_dict(keep_vars=True).items() if name not in names}
        return FrozenViT(copy.deepcopy(self.vit, shared), self._record)

    def embed(self, images: Tensor) -> Tensor:
        """Return the image tokens before the first block, [B, 3, height, width] -> [B, N, D], class token first."""
        vit = self.vit
        return vit.norm_pre(vit._pos_embed(vit.patch_embed(images.to(self.dtype))))

    def norm(self, tokens: Tensor) -> Tensor:
        """Apply the final norm, [..., D] -> [..., D]."""
        return self.vit.norm(tokens)

    def features(self, images: Tensor) -> Tensor:
        """Return class-token features without any prompt, [B, 3, height, width] -> [B, D]."""
        tokens = self.embed(images)
        for layer in range(self.depth):
            tokens = self.block(layer, tokens, (), class_token_only=layer == self.depth - 1)
        return self.norm(tokens)[:, 0]

    def prompt_key_value(self, layer: int, prompts: Tensor) -> KeyValue:
        """Return the keys and values of prompts in a block, [..., P, D] -> two of [..., H, P, d].

        If the backbone has qk-norm, it acts on the prompts' keys as on the keys of image tokens.
        """
        block = self.vit.blocks[layer]
        attention = block.attn
        hidden = block.norm1(prompts.to(self.dtype))
        key, value = _project(attention, hidden, first=1).unflatten(-1, (2, attention.num_heads, -1)).unbind(-3)
        return KeyValue(attention.k_norm(key.transpose(-3, -2)), value.transpose(-3, -2))

    def project(self, layer: int, tokens: Tensor, *, class_token_only: bool = False) -> QueryKeyValue:
        """Return queries, keys and values of image tokens [B, N, D] in a block, or the class token's query only."""
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
        row_adapters: Callable[[int, Tensor], Iterable[tuple[slice, Tensor]]] | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Run one block on image tokens that also attend to prompts.

        Args:
            layer: index of the block, 0-based.
            tokens: image tokens [B, N, D].
            prompts: keys and values of any number of prompts, shared by the batch [H, P, d] or per image
                [B, H, P, d].
            class_token_only: compute only the output of the class token; all tokens still serve as keys and values.
            projected: result of `project` for the same tokens, if the caller has it already.
            adapters: a function of the block's index and the input of its MLP; its result is added to the output.
            row_adapters: the same for some images only, in inference: it gives slices of the batch, and what is added
                to the output of each.
            mask: added to the attention before its softmax, [B, 1, 1, N + P]: minus infinity hides a key.

        Returns:
            [B, N, D], or [B, 1, D] for the class token alone.
        """
        block = self.vit.blocks[layer]
        if projected is None:
            projected = self.project(layer, tokens, class_token_only=class_token_only)
        key = _with_prompts(projected.key, [prompt.key for prompt in prompts])
        value = _with_prompts(projected.value, [prompt.value for prompt in prompts])
        mixed = _attend(projected.query, key, value, block.attn.scale, mask)
        if class_token_only:
            tokens = tokens[:, :1]
        tokens = tokens + block.ls1(block.attn.proj(mixed.transpose(1, 2).flatten(2)))
        changed = tokens + block.ls2(block.mlp(block.norm2(tokens)))
        for rows, added in () if row_adapters is None else row_adapters(layer, tokens):
            changed[rows] += added
        return changed if adapters is None else changed + adapters(layer, tokens)

    def class_attention(
        self, layer: int, projected: QueryKeyValue, prompts: Sequence[KeyValue], mask: Tensor | None = None
    ) -> Tensor:
        """Return the attention of the class token to each patch in a block, mean over the heads, [B, rows, columns].

        The shares of prompts and prefix tokens are left out, and the others stay as they are: their sum is below 1.

        Args:
            layer: index of the block, 0-based.
            projected: result of `project` for the image tokens, with the query of the class token first.
            prompts, mask: as for `block`.
        """
        rows, columns = self.vit.patch_embed.grid_size
        prefix = int(self.vit.num_prefix_tokens)
        key = _with_prompts(projected.key, [prompt.key for prompt in prompts]).float()
        query = projected.query[:, :, :1].float() * self.vit.blocks[layer].attn.scale
        logits = query @ key.transpose(-2, -1)
        weights = (logits if mask is None else logits + mask).softmax(dim=-1).mean(dim=1)[:, 0]
        return weights[:, prefix : prefix + rows * columns].unflatten(1, (rows, columns))


def _project(attention: Attention, hidden: Tensor, *, first: int, last: int = 3) -> Tensor:
    """Compute parts `first` to `last` of (query, key, value) from the fused projection."""
    size = attention.num_heads * attention.head_dim
    rows = slice(first * size, last * size)
    if type(attention.qkv) is not nn.Linear:  # with LoRA the parts cannot be computed one by one
        return attention.qkv(hidden)[..., rows]
    bias = attention.qkv.bias
    return F.linear(hidden, attention.qkv.weight[rows], None if bias is None else bias[rows])


def _attend(query: Tensor, key: Tensor, value: Tensor, scale: float, mask: Tensor | None) -> Tensor:
    """Compute softmax(query key^T * scale + mask) value, each [B, H, tokens, d]."""
    if mask is None and _plain_is_faster(query, key, value):
        return ((query * scale) @ key.transpose(-2, -1)).softmax(dim=-1) @ value
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)


def _plain_is_faster(*tensors: Tensor) -> bool:
    """Return whether attention is faster without torch's fused kernel.

    On the CPU the backward pass of the kernel is slow in bfloat16: eight times as slow with AMX instructions. In
    float32 both forms take the same time in a ViT-Ti. In a ViT-B the kernel is up to 1.8 times as fast, and it keeps
    no attention weights. `python -m benchmarks.speed` measures both.
    """
    low = tensors[0].dtype in (torch.bfloat16, torch.float16)
    return low and tensors[0].device.type == "cpu" and any(tensor.requires_grad for tensor in tensors)


def _with_prompts(tokens: Tensor, prompts: Sequence[Tensor]) -> Tensor:
    """Append prompts, each [H, P, d] or [B, H, P, d]: [B, H, N, d] -> [B, H, N + sum(P), d]."""
    present = [prompt for prompt in prompts if prompt.shape[-2]]
    if not present:
        return tokens
    return torch.cat([tokens, *(prompt.expand(tokens.shape[0], -1, -1, -1) for prompt in present)], dim=2)


def _check_size(vit: VisionTransformer, image_size: tuple[int, int]) -> None:
    unit = patch_pixels(vit)
    native = vit.patch_embed.img_size
    if any(side > MOST_ENLARGED * trained for side, trained in zip(image_size, native, strict=True)):
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
    """Return the height and width that one image token covers, pixels; a hybrid's convolutions are included."""
    height, width = vit.patch_embed.feat_ratio(as_scalar=False)
    return int(height), int(width)
