"""Logit-adjusted cross-entropy: what most simple long-tailed baselines are trained with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lpt.errors import ConfigError


class LogitAdjusted(nn.Module):
    """Logit-adjusted cross-entropy (Menon et al., ICLR 2021, eq. 10).

        loss = - log softmax(z + tau * log pi)_y,  pi_c = n_c / n

    Trained so, the plain logits z are right for balanced classes: nothing is adjusted at test time.

    Args:
        class_counts: training images of each class, [C]; 0 counts as 1.
        tau: strength of the adjustment; 0 is plain cross-entropy, 1 is consistent for the balanced error.

    Raises:
        ConfigError: fewer than two classes, or a negative count or strength.
    """

    offsets: Tensor

    def __init__(self, class_counts: Tensor | Sequence[int], tau: float = 1.0) -> None:
        super().__init__()
        counts = torch.as_tensor(class_counts, dtype=torch.float64)
        if counts.ndim != 1 or len(counts) < 2 or counts.min() < 0 or not tau >= 0:
            raise ConfigError(
                "logit adjustment: class_counts must be [C], C at least 2, and neither they nor tau negative; "
                f"got {tuple(counts.shape)} and tau {tau}"
            )
        counts = counts.clamp_min(1)
        self.register_buffer("offsets", tau * (counts / counts.sum()).log(), persistent=False)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean loss of a batch, logits [B, C], labels [B]."""
        return F.cross_entropy(logits + self.offsets.to(logits), labels)
