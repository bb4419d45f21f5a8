"""Bottleneck adapters beside the MLP of every block (AdaptFormer, Chen et al., NeurIPS 2022, section 3.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lpt.errors import ConfigError


class Adapters(nn.Module):
    """Adapters, one for each block: scale * up(relu(down(x))), where x is the input of the block's MLP.

    The result is added to the block's output. `down` starts uniform, `up` and the biases start at zero: the first
    output is that of the plain backbone.

    Args:
        depth: blocks L.
        width: token width D.
        size: width of the bottleneck r.
        norm: normalise x first, with its own LayerNorm (as in LIFT, Shi et al., ICML 2024).
        scale: factor on the output (0.1 as published); None: a learnt number for each block, which starts at 1.

    Raises:
        ConfigError: the size is less than 1.
    """

    def __init__(self, depth: int, width: int, size: int, *, norm: bool = False, scale: float | None = 0.1) -> None:
        super().__init__()
        if size < 1:
            raise ConfigError(f"an adapter's size must be at least 1, got {size}")
        bound = width**-0.5  # as PyTorch initialises a linear layer
        self.down = nn.Parameter(torch.empty(depth, size, width).uniform_(-bound, bound))
        self.down_bias = nn.Parameter(torch.zeros(depth, size))
        self.up = nn.Parameter(torch.zeros(depth, width, size))
        self.up_bias = nn.Parameter(torch.zeros(depth, width))
        self.norm = nn.Parameter(torch.stack([torch.ones(depth, width), torch.zeros(depth, width)])) if norm else None
        self.scale = nn.Parameter(torch.ones(depth)) if scale is None else None
        self._fixed_scale = 1.0 if scale is None else scale

    def forward(self, layer: int, tokens: Tensor) -> Tensor:
        """Return what the adapter of a block adds, [B, N, D] -> [B, N, D]."""
        tensors = (self.down, self.down_bias, self.up, self.up_bias)
        down, down_bias, up, up_bias = (tensor[layer].to(tokens.dtype) for tensor in tensors)
        if self.norm is not None:
            weight, bias = self.norm[:, layer].to(tokens.dtype)
            tokens = F.layer_norm(tokens, weight.shape, weight, bias)
        added = F.linear(F.relu(F.linear(tokens, down, down_bias)), up, up_bias)
        return added * (self._fixed_scale if self.scale is None else self.scale[layer].to(tokens.dtype))
