"""The prompts and adapters of images of different tunings, stacked so that they run through a block together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor

from lpt.model.backbone import FrozenViT, KeyValue, QueryKeyValue
from lpt.model.tuning import Bottleneck, Tuning


class MixedBatch:
    """The prompts and adapters of images in the order of a pass, stacked once for all blocks.

    Its methods take the first rows only, if tokens are of fewer images.
    """

    def __init__(self, vit: FrozenViT, tunings: Sequence[Tuning]) -> None:
        self._vit = vit
        self._tunings = tunings
        self._lengths = [tuning.prompt_length for tuning in tunings]
        self._longest = max(self._lengths, default=0)
        self._shared = _stacked([tuning.key_values for tuning in tunings], dim=3, size=self._longest)
        self._groups: Tensor | None = None
        self._first_group = 0
        self._mask: Tensor | None = None
        self._adapters = _adapters(tunings)

    def begin(self, images: Tensor) -> Tensor:
        """Return the image tokens before the first block, with the prompts that enter there, [B, N, D]."""
        tokens = self._vit.embed(images)
        prompts = [tuning.tokens for tuning in self._tunings if tuning.tokens is not None]
        return torch.cat([tokens, torch.stack(prompts)], dim=1) if prompts else tokens

    def add_groups(self, prompts: Sequence[Tensor]) -> None:
        """Let the blocks see group prompts too, by runs, each [n, L-K, P, D]."""
        blocks = max(part.shape[1] for part in prompts)
        self._first_group = self._vit.depth - blocks
        if len({part.shape[1:] for part in prompts}) == 1:
            self._groups = joined(prompts)
            return
        width = self._vit.width
        self._groups = prompts[0].new_zeros(len(self._tunings), blocks, self._longest, width)
        row = 0
        for part in prompts:
            count, seen, length = part.shape[:3]
            self._groups[row : row + count, blocks - seen :, :length] = part
            row += count

    def block(self, layer: int, tokens: Tensor, projected: QueryKeyValue) -> Tensor:
        """Run a block on image tokens [B, N, D]; in the last one for the class token alone."""
        prompts = self._prompts(layer, len(tokens))
        return self._vit.block(
            layer,
            tokens,
            prompts,
            class_token_only=layer == self._vit.depth - 1,
            projected=projected,
            row_adapters=self._added,
            mask=self._hidden(projected, len(prompts)),
        )

    def _added(self, layer: int, tokens: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Yield what adapters add to the images that have any."""
        for rows, weights in self._adapters:
            if rows.start < len(tokens):
                yield rows, _through(weights, layer, tokens[rows])

    def attention(self, layer: int, projected: QueryKeyValue) -> Tensor:
        """Return the attention of the class token to each patch, [B, rows, columns]."""
        prompts = self._prompts(layer, len(projected.key))
        return self._vit.class_attention(layer, projected, prompts, self._hidden(projected, len(prompts)))

    def _prompts(self, layer: int, count: int) -> list[KeyValue]:
        prompts = []
        if self._shared is not None:
            prompts.append(KeyValue(self._shared[:count, layer, 0], self._shared[:count, layer, 1]))
            if self._groups is not None:
                groups = self._groups[:count, layer - self._first_group]
                prompts.append(self._vit.prompt_key_value(layer, groups))
        return prompts

    def _hidden(self, projected: QueryKeyValue, prompts: int) -> Tensor | None:
        """Return the mask that hides the padding of shorter prompts; None if all have the same length."""
        if min(self._lengths) == self._longest:
            return None
        key = projected.key
        tokens, count = key.shape[2], len(key)
        if self._mask is None or self._mask.shape[-1] != tokens + prompts * self._longest:
            lengths = torch.tensor(self._lengths, device=key.device)
            padding = torch.arange(self._longest, device=key.device) >= lengths[:, None]
            self._mask = key.new_zeros(len(lengths), 1, 1, tokens + prompts * self._longest)
            self._mask[:, 0, 0, tokens:].masked_fill_(padding.repeat(1, prompts), -torch.inf)
        return self._mask[:count]


def _adapters(tunings: Sequence[Tuning]) -> list[tuple[slice, Bottleneck]]:
    """Return the images that have adapters, in runs of the same kind, and the adapters of each run as one."""
    parts, start = [], 0
    for kind, same in groupby(tunings, key=lambda tuning: None if tuning.adapters is None else tuning.adapters.kind):
        weights = [tuning.adapters for tuning in same]
        rows = slice(start, start + len(weights))
        if kind is not None:
            parts.append((rows, _stacked_adapters([each for each in weights if each is not None])))
        start = rows.stop
    return parts


def _stacked_adapters(weights: Sequence[Bottleneck]) -> Bottleneck:
    """Return adapters of one kind as one: those of a single tuning as they are, else padded, [B, L, ...]."""
    if all(each is weights[0] for each in weights):
        return weights[0]
    size = max(each.down.shape[1] for each in weights)
    down, down_bias, up = (
        _padded([getattr(each, name) for each in weights], dim=dim, size=size)
        for name, dim in (("down", 1), ("down_bias", 1), ("up", 2))
    )
    up_bias, scale = torch.stack([each.up_bias for each in weights]), torch.stack([each.scale for each in weights])
    return Bottleneck(down, down_bias, up, up_bias, scale, weights[0].norm)


def _through(weights: Bottleneck, layer: int, tokens: Tensor) -> Tensor:
    """Return what adapters add in a block, [B, N, D]; they are of one tuning, or stacked for at least B images."""
    if weights.norm:
        tokens = F.layer_norm(tokens, tokens.shape[-1:])
    if weights.down.ndim == 3:
        hidden = F.relu(F.linear(tokens, weights.down[layer], weights.down_bias[layer])) * weights.scale[layer]
        return F.linear(hidden, weights.up[layer], weights.up_bias[layer])
    down, down_bias, up, up_bias, scale = (part[: len(tokens), layer] for part in weights[:5])
    hidden = torch.baddbmm(down_bias[:, None], tokens, down.mT).relu_().mul_(scale[:, None, None])
    return torch.baddbmm(up_bias[:, None], hidden, up.mT)


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Concatenate along the first dimension; a single tensor is not copied."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def _stacked(parts: Sequence[Tensor | None], *, dim: int, size: int) -> Tensor | None:
    """Stack the tensors that are there, as `_padded` does, with zeros for the others; None if there is none."""
    present = [part for part in parts if part is not None]
    if not present:
        return None
    shape = list(present[0].shape)
    shape[dim] = 0
    empty = present[0].new_empty(shape)
    return _padded([empty if part is None else part for part in parts], dim=dim, size=size)


def _padded(parts: Sequence[Tensor], *, dim: int, size: int) -> Tensor:
    """Stack tensors that differ in one dimension, padded with zeros to a size.

    Where all are the same tensor it is not copied.
    """
    first = parts[0]
    if all(part is first for part in parts):
        return first.expand(len(parts), *first.shape)
    if all(part.shape == first.shape for part in parts):
        return torch.stack(list(parts))
    shape = list(first.shape)
    shape[dim] = size
    result = first.new_zeros(len(parts), *shape)
    for row, part in zip(result, parts, strict=True):
        row.narrow(dim, 0, part.shape[dim]).copy_(part)
    return result
