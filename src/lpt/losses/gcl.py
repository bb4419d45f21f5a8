"""Gaussian clouded logit losses: they add more noise to the cosines of rarer classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from lpt.losses.long_tailed import LongTailedLoss, log_rest, negative_faults, smoothing_faults, true_class

NOISE_STD = 1 / 3
"""Standard deviation of the noise before it is clipped."""


def draw_cloud(shape: tuple[int, int], generator: torch.Generator | None = None) -> Tensor:
    """Draw the Gaussian cloud of GCL, [B, C]: N(0, 1/9) clipped to [-1, 1].

    The generator's device draws it; without a generator the CPU does.
    """
    device = None if generator is None else generator.device
    return (torch.randn(shape, generator=generator, device=device) * NOISE_STD).clamp_(-1, 1)


class AsymmetricGCL(LongTailedLoss):
    """Asymmetric Gaussian clouded logit loss (LPT, Dong et al., ICLR 2023, eq. 5-7; GCL, Li et al., CVPR 2022).

    With delta_c = (log n_max - log n_c) / (log n_max - log n_min), p = softmax(scale * u) and smoothed targets t:

        u_c = z_c - noise * delta_c * |e_c| - margin * [c = y]
        loss = - sum_c t_c * w_c * log p_c,  w_y = (1 - p_y) ** gamma_pos,  w_c = p_c ** gamma_neg,

    averaged over the batch. The gradient flows through the weights w too. 1 - p_y is computed as the sum of the other
    probabilities, in log space: loss and gradients stay finite for all cosines in [-1, 1].

    Args:
        class_counts: training images of each class, [C]; 0 counts as 1.
        gamma_pos: focusing exponent of the true class.
        gamma_neg: focusing exponent of the other classes.
        scale: factor s on the cosines.
        margin: subtracted from the cosine of the true class.
        noise: strength of the cloud; 0 turns it off.
        label_smoothing: mass spread evenly over all classes.
        class_weights: weights of the classes, [C], up to a common factor. None: all classes weigh the same.

    Raises:
        ConfigError: fewer than two classes, a negative count, or a parameter out of range.

    Example:
        >>> loss = lpt.losses.AsymmetricGCL([500, 20, 2], gamma_pos=0, gamma_neg=4)
        >>> loss(torch.zeros(4, 3), torch.tensor([0, 1, 2, 2])).shape
        torch.Size([])
    """

    title: ClassVar[str] = "A-GCL"
    takes_noise: ClassVar[bool] = True

    delta: Tensor

    def __init__(
        self,
        class_counts: Tensor | Sequence[int],
        gamma_pos: float,
        gamma_neg: float,
        scale: float = 20,
        margin: float = 0.1,
        noise: float = 0.5,
        label_smoothing: float = 0.1,
        class_weights: Tensor | Sequence[float] | None = None,
    ) -> None:
        faults = negative_faults(gamma_pos=gamma_pos, gamma_neg=gamma_neg, margin=margin, noise=noise)
        super().__init__(class_counts, scale, class_weights, faults + smoothing_faults(label_smoothing))
        self.gamma_pos, self.gamma_neg = gamma_pos, gamma_neg
        self.margin, self.noise, self.label_smoothing = margin, noise, label_smoothing
        self.register_buffer("delta", _rarity(self.counts), persistent=False)

    def each(self, scores: Tensor, labels: Tensor, noise: Tensor | None) -> Tensor:
        """Return the loss of each image without class weights, [B]."""
        clouded = scores
        if self.noise:
            cloud = draw_cloud((scores.shape[0], scores.shape[1])) if noise is None else noise
            cloud = cloud.to(scores).abs()
            clouded = scores - self.noise * self.delta.to(scores) * cloud
        is_true = true_class(scores, labels)
        logits = self.scale * (clouded - self.margin * is_true.to(scores))
        log_p = logits.log_softmax(dim=-1)
        log_rest_p = log_rest(logits, is_true)
        weights = torch.where(is_true, (self.gamma_pos * log_rest_p)[:, None], self.gamma_neg * log_p).exp()
        targets = self.label_smoothing / scores.shape[1] + (1 - self.label_smoothing) * is_true.to(scores)
        return -(targets * weights * log_p).sum(dim=-1)


class GCL(AsymmetricGCL):
    """Gaussian clouded logit loss (Li et al., CVPR 2022): A-GCL with both exponents 0 and no margin.

        loss = - sum_c t_c * log softmax(scale * u)_c,  u_c = z_c - noise * delta_c * |e_c|

    with delta, e and t as in `AsymmetricGCL`.

    Args:
        class_counts: training images of each class, [C]; 0 counts as 1.
        scale: factor s on the cosines.
        noise: strength of the cloud; 0 turns it off.
        label_smoothing: mass spread evenly over all classes.
        class_weights: weights of the classes, [C], up to a common factor. None: all classes weigh the same.

    Raises:
        ConfigError: fewer than two classes, a negative count, or a parameter out of range.
    """

    title: ClassVar[str] = "GCL"

    def __init__(
        self,
        class_counts: Tensor | Sequence[int],
        scale: float = 30.0,
        noise: float = 0.5,
        label_smoothing: float = 0.0,
        class_weights: Tensor | Sequence[float] | None = None,
    ) -> None:
        super().__init__(class_counts, 0.0, 0.0, scale, 0.0, noise, label_smoothing, class_weights)


def _rarity(counts: Tensor) -> Tensor:
    """Return delta, [C]: 0 for the most frequent class, 1 for the rarest, linear in the log count between them."""
    log_counts = counts.clamp_min(1).log()
    largest, smallest = log_counts.max(), log_counts.min()
    if largest == smallest:
        return torch.zeros_like(log_counts)
    return (largest - log_counts) / (largest - smallest)
