"""A second pass with parts of its own, over a phase 1 that is frozen and kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from lpt.model import LPT, Encoded
from lpt.model.adapters import Adapters
from lpt.model.head import CosineHead
from lpt.model.prompts import GroupPrompts
from lpt.training.initial import keys_from_queries


@dataclass(frozen=True)
class Parts:
    """What the second pass has of its own.

    Args:
        groups: `pool`, the picked group prompts beside the shared one; `replace`, in its place; `none`.
        adapters: width of its adapters in the late blocks; 0: none.
        top_k: group prompts that an image picks.
        pool: group prompts.
        keys: `random`, as the preset starts them, or `classes`, centres of clusters of phase 1's head rows: images of
            classes that phase 1 confuses share group prompts.
        reads: what the head sees, the `class` token as phase 1's does, or the mean of the `patches`.
        fused: the loss sees (z1 + z2) / 2 in place of z2.
    """

    groups: Literal["pool", "replace", "none"] = "pool"
    adapters: int = 0
    top_k: int = 2
    pool: int = 20
    keys: Literal["random", "classes"] = "random"
    reads: Literal["class", "patches"] = "class"
    fused: bool = False


class Opinions(NamedTuple):
    """Cosines of both passes.

    Args:
        first: those of phase 1's head on the query, [B, C].
        second: those of the second pass's head, [B, C].
        similarity: sum of the picked query-key cosines, averaged over the batch.
    """

    first: Tensor
    second: Tensor
    similarity: Tensor


class SecondPass(nn.Module):
    """Group prompts, adapters of the late blocks and a head, which train; the model of phase 1 does not.

    Args:
        model: as phase 1 left it.
        parts: what the second pass has.
    """

    def __init__(self, model: LPT, parts: Parts) -> None:
        super().__init__()
        self.first: LPT
        object.__setattr__(self, "first", model.requires_grad_(False))  # not a submodule: it does not train
        self.parts = parts
        depth, width = model.backbone.depth, model.backbone.width
        blocks, length = depth - model.shared_blocks, model.shared.tokens.shape[1]
        self.head = CosineHead(len(model.head.weight), width)
        self.head.load_state_dict(model.head.state_dict())
        self.groups: GroupPrompts | None = None
        if parts.groups != "none":
            pool = min(parts.pool, len(model.head.weight)) if parts.keys == "classes" else parts.pool
            self.groups = GroupPrompts(pool, blocks, length, width)
            self.groups.prompts.data.copy_(
                model.shared.tokens.data[model.shared_blocks :].expand_as(self.groups.prompts)
            )
            if parts.keys == "classes":
                keys_from_queries(self, self.head.weight.detach().numpy(), seed=0)  # type: ignore[arg-type]
        self.adapters = Adapters(blocks, width, parts.adapters, norm=True, scale=None) if parts.adapters else None

    def forward(self, encoded: Encoded, feature_mask: Tensor | None = None, picks: str = "matched") -> Opinions:
        """Return the cosines of both passes for images after block K.

        Args:
            encoded: the images after block K, and their queries.
            feature_mask: factor on the features (dropout), [B, D].
            picks: `matched`; or, to learn what the matching is worth: `others`, those of the next image of the batch,
                `mean`, the mean of the pool, `none`, no group prompt.
        """
        first = self.first
        similarity, group = encoded.query.new_zeros(()), None
        if self.groups is not None:
            matching = self.groups.match(encoded.query, self.parts.top_k)
            similarity = matching.cosines.sum(dim=-1).mean()
            group = self._group(matching.groups, picks)
        features = self.features(encoded.tokens.to(first.backbone.dtype), group)
        with torch.no_grad():
            known = first.head(encoded.query)
        return Opinions(known, self.head(features if feature_mask is None else features * feature_mask), similarity)

    def _group(self, picked: Tensor, picks: str) -> Tensor | None:
        """Return the group prompt of each image, [B, L-K, P, D]."""
        assert self.groups is not None
        match picks:
            case "none":
                return None
            case "mean":
                return self.groups.prompts.mean(dim=0).expand(len(picked), -1, -1, -1)
            case "others":
                return self.groups.gather(picked.roll(1, dims=0))
        return self.groups.gather(picked)

    def features(self, tokens: Tensor, group: Tensor | None) -> Tensor:
        """Return what the head sees after the late blocks, [B, N, D] -> [B, D]."""
        backbone, start = self.first.backbone, self.first.shared_blocks
        for layer in range(start, backbone.depth):
            prompts = []
            if self.parts.groups != "replace":
                prompts.append(backbone.prompt_key_value(layer, self.first.shared.tokens[layer]))
            if group is not None:
                prompts.append(backbone.prompt_key_value(layer, group[:, layer - start]))
            alone = self.parts.reads == "class" and layer == backbone.depth - 1
            tokens = backbone.block(layer, tokens, prompts, class_token_only=alone, adapters=self._adapt)
        if self.parts.reads == "patches":
            return backbone.norm(tokens)[:, backbone.vit.num_prefix_tokens :].mean(dim=1)
        return backbone.norm(tokens)[:, 0]

    def _adapt(self, layer: int, tokens: Tensor) -> Tensor:
        added = torch.zeros_like(tokens) if self.first.adapters is None else self.first.adapters(layer, tokens)
        return added if self.adapters is None else added + self.adapters(layer - self.first.shared_blocks, tokens)
