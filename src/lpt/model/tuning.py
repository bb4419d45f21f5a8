"""What a method adds to a frozen backbone, ready for inference: its tensors, and constants that follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lpt.config.architecture import Architecture
from lpt.model.backbone import FrozenViT
from lpt.model.lpt import check_query, check_sizes
from lpt.system.precision import at_least_float32


class Pool(NamedTuple):
    """The group prompts of an LPT.

    Args:
        prompts: [M, L-K, P, D].
        keys: scaled to length 1, [M, D].
        shared_blocks: number of first blocks K without group prompts.
        top_k: group prompts that an image picks.
        prefix: take the query after block K instead of after all blocks.
    """

    prompts: Tensor
    keys: Tensor
    shared_blocks: int
    top_k: int
    prefix: bool

    def cosines(self, query: Tensor) -> Tensor:
        """Return the cosines of queries with all keys, [B, D] -> [B, M]."""
        return F.normalize(query.to(self.keys.dtype), dim=-1) @ self.keys.T

    def gather(self, groups: Tensor) -> Tensor:
        """Return the mean of the picked prompts, [B, k] -> [B, L-K, P, D]."""
        return self.prompts[groups].mean(dim=1)


class Bottleneck(NamedTuple):
    """The adapters of all blocks: scale * up(relu(down(x))). Weight and bias of their norm are part of `down`.

    Args:
        down, down_bias: [L, r, D] and [L, r].
        up, up_bias: [L, D, r] and [L, D]; the bias is scaled already.
        scale: [L].
        norm: whether the input is scaled to mean 0 and variance 1.
    """

    down: Tensor
    down_bias: Tensor
    up: Tensor
    up_bias: Tensor
    scale: Tensor
    norm: bool

    @property
    def kind(self) -> tuple[bool, int]:
        """What adapters must share to run together: the norm, and the size r up to a power of two, at least 8."""
        return self.norm, (max(self.down.shape[1], 8) - 1).bit_length()


@dataclass(frozen=True, eq=False)
class Tuning:
    """The tensors and constants of a trained method that leaves the backbone as it is.

    Args:
        key_values: keys and values of the prompt of every block, [L, 2, H, P, d]; None: no such prompt.
        tokens: prompt that enters before the first block and goes through all, [P, D]; None: no such prompt.
        pool: the group prompts; None: the method has none, or does not use them.
        adapters: None: no adapters.
        weight: of the head, [C, D].
        bias: of a linear head, [C]; None for a cosine head.
        factor: 1 / |w_c| of a cosine head, times the scale of classes that have one, [C]; None for a linear head.
        added: number of last classes that have a scale.
    """

    key_values: Tensor | None
    tokens: Tensor | None
    pool: Pool | None
    adapters: Bottleneck | None
    weight: Tensor
    bias: Tensor | None
    factor: Tensor | None
    added: int = 0

    @property
    def prompt_length(self) -> int:
        """Length P of the prompt of every block; 0 without one."""
        return 0 if self.key_values is None else self.key_values.shape[3]

    @classmethod
    @torch.no_grad()
    def of(
        cls, architecture: Architecture, tensors: Mapping[str, Tensor], backbone: FrozenViT, *, group_prompts: bool
    ) -> Tuning:
        """Compute the constants of a method on a backbone.

        Tensors that already are on its device and in its precision are not copied.

        Args:
            architecture: the method and its sizes.
            tensors: trained tensors by name, of the shapes that `trained_shapes` gives.
            backbone: the frozen backbone.
            group_prompts: whether it uses its group prompts.

        Raises:
            ConfigError: a size is out of range for this backbone.
        """
        wide = torch.float64 if backbone.dtype == torch.float64 else torch.float32
        placed = {name: tensor.detach().to(backbone.device) for name, tensor in tensors.items()}
        weight = placed["head.weight"].to(wide)
        linear = architecture.head == "linear"
        shallow = architecture.prompts == "shallow" and architecture.prompt_length > 0
        return cls(
            key_values=_key_values(architecture, placed, backbone),
            tokens=placed["shared.tokens"][0].to(backbone.dtype) if shallow else None,
            pool=_pool(architecture, placed, backbone, wide, group_prompts=group_prompts),
            adapters=_bottleneck(architecture, placed, backbone, wide) if architecture.adapter_size else None,
            weight=weight,
            bias=placed["head.bias"].to(wide) if linear else None,
            factor=None if linear else _factor(weight, placed.get("head.scale")),
            added=len(placed.get("head.scale", ())),
        )

    def scores(self, features: Tensor) -> Tensor:
        """Return cosines, or logits of a linear head, [B, D] -> [B, C], in float32 or wider."""
        features = at_least_float32(features)
        if self.factor is None:
            return F.linear(features, self.weight, self.bias)
        unit = F.normalize(features, dim=-1)
        if not self.added:
            return F.linear(unit, self.weight).mul_(self.factor)
        parts = self.weight.tensor_split(
            [len(self.weight) - self.added]
        )  # so that those of the others stay as they are
        return torch.cat([F.linear(unit, part) for part in parts], dim=-1).mul_(self.factor)


def _factor(weight: Tensor, scale: Tensor | None) -> Tensor:
    """Return 1 / |w_c|, times the scale of the last classes, [C, D], [K] -> [C]."""
    factor = weight.norm(dim=-1).clamp_min(1e-12).reciprocal()
    if scale is not None:
        factor[-len(scale) :] *= scale.to(factor.dtype)
    return factor


def _key_values(a: Architecture, tensors: Mapping[str, Tensor], backbone: FrozenViT) -> Tensor | None:
    if a.prompts not in ("grouped", "deep") or not a.prompt_length:
        return None
    tokens = tensors["shared.tokens"]
    return torch.stack([torch.stack(backbone.prompt_key_value(layer, tokens[layer])) for layer in range(len(tokens))])


def _pool(
    a: Architecture, tensors: Mapping[str, Tensor], backbone: FrozenViT, wide: torch.dtype, *, group_prompts: bool
) -> Pool | None:
    if not a.grouped:
        return None
    blocks = backbone.depth // 2 if a.shared_blocks is None else a.shared_blocks
    check_sizes(backbone.depth, len(tensors["head.weight"]), a.prompt_length, blocks, a.pool_size, a.top_k)
    check_query(a.query, blocks)
    if not group_prompts:
        return None
    keys = F.normalize(tensors["groups.keys"].to(wide), dim=-1)
    return Pool(tensors["groups.prompts"].to(wide), keys, blocks, a.top_k, a.query == "prefix")


def _bottleneck(a: Architecture, tensors: Mapping[str, Tensor], backbone: FrozenViT, wide: torch.dtype) -> Bottleneck:
    """Fold weight and bias of the norm into the first matrix: W (g * x + b) + c = (W g) x + (W b + c)."""
    dtype, tensors = backbone.dtype, {name: tensor.to(wide) for name, tensor in tensors.items()}
    down, down_bias = tensors["adapters.down"], tensors["adapters.down_bias"]
    if a.adapter_norm:
        gain, offset = tensors["adapters.norm"]
        down_bias = down_bias + (down @ offset[..., None])[..., 0]
        down = down * gain[:, None]
    fixed = a.adapter_scale
    scale = tensors["adapters.scale"] if fixed is None else torch.full_like(down[:, 0, 0], fixed)
    return Bottleneck(
        down=down.to(dtype),
        down_bias=down_bias.to(dtype),
        up=tensors["adapters.up"].to(dtype),
        up_bias=(tensors["adapters.up_bias"] * scale[:, None]).to(dtype),
        scale=scale.to(dtype),
        norm=a.adapter_norm,
    )
