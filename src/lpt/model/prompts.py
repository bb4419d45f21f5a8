"""The two kinds of prompts, and how images are matched to group prompts (LPT section 3.2)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lpt.system.precision import at_least_float32

INIT_STD = 0.02


class Matching(NamedTuple):
    """The group prompts picked for each image.

    Args:
        groups: indices of the k picked prompts by descending cosine, [B, k].
        cosines: their cosines between query and key, [B, k].
    """

    groups: Tensor
    cosines: Tensor


class SharedPrompt(nn.Module):
    """The shared prompt: tokens for every block, the same for all images, `tokens` [L, P, D]."""

    def __init__(self, depth: int, length: int, width: int) -> None:
        super().__init__()
        self.tokens = nn.Parameter(torch.empty(depth, length, width))
        nn.init.trunc_normal_(self.tokens, std=INIT_STD)


class GroupPrompts(nn.Module):
    """The pool of group prompts and their keys: `prompts` [M, L-K, P, D] and `keys` [M, D]."""

    def __init__(self, pool_size: int, blocks: int, length: int, width: int) -> None:
        super().__init__()
        self.prompts = nn.Parameter(torch.empty(pool_size, blocks, length, width))
        self.keys = nn.Parameter(torch.empty(pool_size, width))
        nn.init.trunc_normal_(self.prompts, std=INIT_STD)
        nn.init.trunc_normal_(self.keys, std=INIT_STD)

    def match(self, query: Tensor, top_k: int) -> Matching:
        """Pick the k keys of largest cosine with each query, [B, D] -> two of [B, k]."""
        best = self.cosines(query).topk(top_k, dim=-1)
        return Matching(best.indices, best.values)

    def cosines(self, query: Tensor) -> Tensor:
        """Return the cosines of queries with all keys, [B, D] -> [B, M]; 0 for a key of length 0."""
        with torch.autocast(query.device.type, enabled=False):
            query, keys = at_least_float32(query), at_least_float32(self.keys)
            return F.normalize(query, dim=-1) @ F.normalize(keys, dim=-1).T

    def gather(self, groups: Tensor) -> Tensor:
        """Return the mean of the picked prompts, [B, k] -> [B, L-K, P, D]."""
        return self.prompts[groups].mean(dim=1)
