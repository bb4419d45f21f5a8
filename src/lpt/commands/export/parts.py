"""The parts of a backbone that are traced: each of them once, with what a pack brings as inputs."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import PatchEmbed
from torch import Tensor, nn
from torch.export import Dim

from lpt.errors import ConfigError
from lpt.model.backbone import FrozenViT, patch_pixels

Sides = Mapping[int, Any]


class Parts(nn.Module):
    """The parts of a backbone, side by side: `forward` runs each on its own inputs.

    A block takes its prompts as tokens. It returns the input of its MLP too, on which an adapter works.

    Args:
        backbone: the backbone, in float32; it is copied.

    Raises:
        ConfigError: a part of it cannot be exported.
    """

    def __init__(self, backbone: FrozenViT) -> None:
        super().__init__()
        _check(backbone)
        self.backbone = copy.deepcopy(backbone)
        vit = self.vit = self.backbone.vit
        _transpose_weights(vit)
        with torch.no_grad():
            height, width = backbone.image_size
            blank = torch.zeros_like(vit.patch_embed(torch.zeros(1, 3, height, width)))
            embedded = vit._pos_embed(blank)  # of a blank image only prefix tokens and positions are left
        count = vit.num_prefix_tokens
        self.prefix = nn.Parameter(embedded[:, :count].clone(), requires_grad=False)
        self.positions = embedded[:, count:].clone()
        self.last = self.backbone.depth - 1
        self.traced = sorted({0 if self.last else self.last, self.last, *different_blocks(backbone).values()})

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the outputs of all parts by name; see `example_inputs` for their inputs."""
        results: dict[str, Tensor] = {"embed/tokens": self._embed(inputs)}
        for layer in self.traced:
            results |= {f"block{layer}/{name}": value for name, value in self._block(layer, inputs).items()}
        results["adapter/added"] = _adapter(inputs)
        results["norm/features"] = self.backbone.norm(inputs["class_token"])[:, 0]
        results["match/groups"], results["match/mean"] = _match(inputs)
        results["head/scores"] = _head(inputs)
        return results

    def _embed(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return image tokens with their prefix, and extra tokens behind them."""
        images, vit = inputs["images"], self.vit
        patches = vit.patch_embed.norm(vit.patch_embed.proj(images).flatten(2).transpose(1, 2))
        patches = patches + inputs["positions"].flatten(2).transpose(1, 2)
        batch = images.shape[0]
        prefix, extra = (tokens.expand(batch, -1, -1) for tokens in (self.prefix, inputs["extra"]))
        return torch.cat([vit.norm_pre(torch.cat([prefix, patches], dim=1)), extra], dim=1)

    def _block(self, layer: int, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        tokens, backbone = inputs["tokens"], self.backbone
        prompts = [backbone.prompt_key_value(layer, inputs[name]) for name in ("prompt", "group_prompt")]
        last = layer == self.last
        projected = backbone.project(layer, tokens, class_token_only=last)
        inside: list[Tensor] = []

        def keep(_: int, hidden: Tensor) -> Tensor:
            inside.append(hidden)
            return torch.zeros(())

        out = backbone.block(layer, tokens, prompts, class_token_only=last, projected=projected, adapters=keep)
        results = {"tokens": out, "inside": inside[0]}
        if last:
            batch = tokens.shape[0]
            key = torch.cat([projected.key, *(prompt.key.expand(batch, -1, -1, -1) for prompt in prompts)], dim=2)
            logits = projected.query @ key.transpose(-2, -1) * self.vit.blocks[layer].attn.scale
            results["attention"] = logits.softmax(dim=-1).mean(dim=1)[:, 0, : tokens.shape[1]]
        return results


def _adapter(inputs: Mapping[str, Tensor]) -> Tensor:
    """Return what an adapter adds. Its own norm is folded into its first matrix, and its scale into its second."""
    hidden = inputs["inside"]
    hidden = torch.where(inputs["adapter_norm"], F.layer_norm(hidden, hidden.shape[-1:]), hidden)
    return F.relu(hidden @ inputs["down"] + inputs["down_bias"]) @ inputs["up"] + inputs["up_bias"]


def _match(inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the picked group prompts [B, k] and their mean [B, L-K, P, D]; the keys have unit length."""
    cosines = F.normalize(inputs["query"], dim=-1) @ inputs["keys"].T
    groups = cosines.topk(inputs["picks"].shape[0], dim=-1).indices
    return groups, inputs["group_prompts"][groups].mean(dim=1)


def _head(inputs: Mapping[str, Tensor]) -> Tensor:
    """Return the scores: cosines if `cosine`, whose weights have unit length then, else logits."""
    features = inputs["features"]
    features = torch.where(inputs["cosine"], F.normalize(features, dim=-1), features)
    return features @ inputs["head"] + inputs["head_bias"]


def example_inputs(parts: Parts) -> tuple[dict[str, Tensor], dict[str, Sides]]:
    """Return an example of every input of the parts, and the sides of each that may vary.

    Traced at batch 2: torch takes a side of 1 for one that is always 1. Sides of different parts have different names,
    or one part would ask the input of another for its size.
    """
    tall, wide = patch_pixels(parts.vit)
    width = parts.backbone.width
    shapes: dict[str, tuple[tuple[int, ...], tuple[str | None, ...]]] = {
        "images": ((2, 3, 4 * tall, 5 * wide), ("images",)),
        "positions": ((1, width, 4, 5), (None, None, "rows", "columns")),
        "extra": ((1, 3, width), (None, "extra")),
        "tokens": ((2, 7, width), ("batch", "tokens")),
        "prompt": ((6, width), ("length",)),
        "group_prompt": ((2, 8, width), ("batch", "group_length")),
        "inside": ((2, 7, width), ("adapted", "adapted_tokens")),
        "down": ((width, 9), (None, "size")),
        "down_bias": ((9,), ("size",)),
        "up": ((9, width), ("size",)),
        "up_bias": ((width,), ()),
        "class_token": ((2, 1, width), ("normed",)),
        "query": ((2, width), ("matched",)),
        "keys": ((11, width), ("pool",)),
        "group_prompts": ((11, 13, 6, width), ("pool", "later", "pool_length")),
        "picks": ((10,), ("picks",)),
        "features": ((2, width), ("classified",)),
        "head": ((width, 15), (None, "classes")),
        "head_bias": ((15,), ("classes",)),
    }
    examples = {name: torch.rand(shape) for name, (shape, _) in shapes.items()}
    dynamic: dict[str, Sides] = {
        name: {index: Dim(side) for index, side in enumerate(sides) if side} for name, (_, sides) in shapes.items()
    }
    dynamic["images"] = {0: Dim("images"), 2: tall * Dim("rows"), 3: wide * Dim("columns")}
    for name in ("adapter_norm", "cosine"):
        examples[name], dynamic[name] = torch.tensor(True), {}
    return examples, dynamic


def different_blocks(backbone: FrozenViT) -> dict[int, int]:
    """Return for every block but the last the first block of the same kind: only that one is traced."""
    kinds: dict[str, int] = {}
    chosen: dict[int, int] = {}
    for layer, block in enumerate(backbone.vit.blocks[:-1]):
        lines = [line for line in repr(block).splitlines() if "drop" not in line]  # dropout does nothing here
        shapes = [(name, tuple(tensor.shape)) for name, tensor in block.state_dict().items()]
        chosen[layer] = kinds.setdefault(f"{lines}{shapes}", layer)
    return chosen


class _Transposed(nn.Module):
    """A linear layer that keeps its weight as a product with tokens on the left takes it: nothing turns it later."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight_t = nn.Parameter(linear.weight.detach().T.contiguous(), requires_grad=False)
        self.bias = linear.bias
        self.in_features, self.out_features = linear.in_features, linear.out_features

    @property
    def weight(self) -> Tensor:
        return self.weight_t.T

    def forward(self, tokens: Tensor) -> Tensor:
        product = tokens @ self.weight_t
        return product if self.bias is None else product + self.bias


def _transpose_weights(vit: nn.Module) -> None:
    """Put a `_Transposed` in place of every linear layer."""
    linear = {name: layer for name, layer in vit.named_modules() if type(layer) is nn.Linear}
    for name, layer in linear.items():
        holder, _, attribute = name.rpartition(".")
        setattr(vit.get_submodule(holder), attribute, _Transposed(layer))


def _check(backbone: FrozenViT) -> None:
    """Check that all parts of a backbone can be exported.

    Raises:
        ConfigError: its patch or position embedding is of another kind.
    """
    vit = backbone.vit
    faults = []
    if type(vit.patch_embed) is not PatchEmbed:
        faults.append(f"its patch embedding is {type(vit.patch_embed).__name__}, not plain PatchEmbed")
    if vit.pos_embed is None:
        faults.append("it has no position embedding")
    if faults:
        raise ConfigError(
            f"the backbone {backbone.name} cannot be exported alone: {'; '.join(faults)}. Export its packs whole: "
            "lpt export PACK"
        )
