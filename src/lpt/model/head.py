"""The two classifier heads on the features of the class token."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lpt.model.prompts import INIT_STD
from lpt.system.precision import at_least_float32


class CosineHead(nn.Module):
    """A cosine head: z_c = <f, w_c> / (|f| |w_c|), no bias (LPT section 3.2), with `weight` [C, D].

    Of the last K classes, which were added without training, the scores are a_c z_c with `scale` [K]; `scale` is None
    until `scale_last`.
    """

    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__()
        self.scale: nn.Parameter | None
        self.register_parameter("scale", None)
        self.weight = nn.Parameter(torch.empty(num_classes, width).uniform_(-1, 1))
        with torch.no_grad():
            self.weight.copy_(F.normalize(self.weight, dim=-1))

    def scale_last(self, classes: int) -> None:
        """Give each of the last classes a factor on its cosine, 1 at first."""
        self.scale = nn.Parameter(torch.ones_like(self.weight[:classes, 0]))

    def forward(self, features: Tensor) -> Tensor:
        """Return the cosines of features with all classes, those of the last K scaled: [B, D] -> [B, C].

        They are in float32 or wider. Added classes are a product of their own: so those of the others stay bit for bit.
        """
        with torch.autocast(features.device.type, enabled=False):
            features, weight = at_least_float32(features), at_least_float32(self.weight)
            features, weight = F.normalize(features, dim=-1), F.normalize(weight, dim=-1)
            if self.scale is None:
                return features @ weight.T
            first = len(weight) - len(self.scale)
            added = features @ weight[first:].T * self.scale.to(features.dtype)
            return torch.cat([features @ weight[:first].T, added], dim=-1)


class LinearHead(nn.Module):
    """A linear head: z_c = <f, w_c> + b_c, with `weight` [C, D] and `bias` [C]."""

    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_classes, width))
        self.bias = nn.Parameter(torch.zeros(num_classes))
        nn.init.trunc_normal_(self.weight, std=INIT_STD)

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits, [B, D] -> [B, C], in float32 or wider."""
        with torch.autocast(features.device.type, enabled=False):
            features = at_least_float32(features)
            return F.linear(features, self.weight.to(features.dtype), self.bias.to(features.dtype))


Head = CosineHead | LinearHead
