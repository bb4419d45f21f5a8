"""The LDAM loss: margins that are larger for rarer classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from lpt.losses.cross_entropy import SoftmaxLoss
from lpt.losses.long_tailed import negative_faults, true_class


class LDAM(SoftmaxLoss):
    """Label-distribution-aware margin loss (Cao et al., NeurIPS 2019, section 3.2), on cosines z.

        loss = - log softmax(scale * (z - m_y * [c = y]))_y,  m_c = max_margin * (n_min / n_c) ** (1/4)

    These are the paper's margins C / n_c ** (1/4), with C such that the smallest class with images has `max_margin`.
    For deferred re-weighting (LDAM-DRW, section 3.3) give `class_weights=effective_number_weights(counts)`, and keep
    `reweighted` False until late in training.

    Args:
        class_counts: training images of each class, [C]; an empty class has the largest margin.
        scale: factor s on the cosines.
        max_margin: the largest margin.
        class_weights: weights of the classes, [C], up to a common factor. None: all classes weigh the same.

    Raises:
        ConfigError: fewer than two classes, a negative count, or a parameter out of range.
    """

    title: ClassVar[str] = "LDAM"

    margins: Tensor

    def __init__(
        self,
        class_counts: Tensor | Sequence[int],
        scale: float = 30.0,
        max_margin: float = 0.5,
        class_weights: Tensor | Sequence[float] | None = None,
    ) -> None:
        super().__init__(class_counts, scale, 0.0, class_weights, negative_faults(max_margin=max_margin))
        self.max_margin = max_margin
        smallest = self.counts.where(self.counts > 0, torch.inf).min()
        relative = (smallest / self.counts.clamp_min(1)).clamp_max(1) ** 0.25
        self.register_buffer("margins", max_margin * relative, persistent=False)

    def logits(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Return the scaled cosines, [B, C], with the margin subtracted from that of the true class."""
        return self.scale * (scores - self.margins.to(scores) * true_class(scores, labels))
