"""The cosine classifier (LPT section 3.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lpt.model.prompts import at_least_float32


class CosineHead(nn.Module):
    """z_c = <f, w_c> / (|f| |w_c|), no bias: `weight` [C, D], one row per class."""

    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_classes, width).uniform_(-1, 1))
        with torch.no_grad():
            self.weight.copy_(F.normalize(self.weight, dim=-1))

    def forward(self, features: Tensor) -> Tensor:
        """Cosines of features with every class, [B, D] -> [B, C], in float32 or wider."""
        with torch.autocast(features.device.type, enabled=False):
            features, weight = at_least_float32(features), at_least_float32(self.weight)
            return F.normalize(features, dim=-1) @ F.normalize(weight, dim=-1).T
