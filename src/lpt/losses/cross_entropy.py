"""Cross-entropy and its variants for imbalanced classes: focal loss, logit adjustment, balanced softmax."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from lpt.losses.long_tailed import LongTailedLoss, log_rest, negative_faults, smoothing_faults, true_class


class SoftmaxLoss(LongTailedLoss):
    """Softmax cross-entropy with smoothed targets. Subclasses define the `logits`.

    Args:
        class_counts, scale, class_weights, faults: as in `LongTailedLoss`.
        label_smoothing: mass spread evenly over all classes.
    """

    def __init__(
        self,
        class_counts: Tensor | Sequence[int],
        scale: float,
        label_smoothing: float,
        class_weights: Tensor | Sequence[float] | None,
        faults: Sequence[str] = (),
    ) -> None:
        super().__init__(class_counts, scale, class_weights, [*faults, *smoothing_faults(label_smoothing)])
        self.label_smoothing = label_smoothing

    def each(self, scores: Tensor, labels: Tensor, noise: Tensor | None) -> Tensor:
        """Return the loss of each image without class weights, [B]."""
        logits = self.logits(scores, labels)
        return F.cross_entropy(logits, labels, reduction="none", label_smoothing=self.label_smoothing)

    def logits(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Return the input of the softmax in training, [B, C]."""
        return self.scale * scores


class CrossEntropy(SoftmaxLoss):
    """Softmax cross-entropy of the scores z with smoothed targets t (Szegedy et al., CVPR 2016, section 7).

        loss = - sum_c t_c * log softmax(scale * z)_c,  t_c = (1 - label_smoothing) * [c = y] + label_smoothing / C

    Class weights multiply the whole loss of an image by w_y. PyTorch differs: it weights each term of the smoothed part
    by the weight of that term's class.

    Args:
        class_counts: training images of each class, [C].
        scale: factor s on the scores.
        label_smoothing: mass spread evenly over all classes.
        class_weights: weights of the classes, [C], up to a common factor. None: all classes weigh the same.

    Raises:
        ConfigError: fewer than two classes, a negative count, or a parameter out of range.
    """

    title: ClassVar[str] = "cross-entropy"

    def __init__(
        self,
        class_counts: Tensor | Sequence[int],
        scale: float = 1.0,
        label_smoothing: float = 0.0,
        class_weights: Tensor | Sequence[float] | None = None,
    ) -> None:
        super().__init__(class_counts, scale, label_smoothing, class_weights)


class Focal(LongTailedLoss):
    """Focal loss in its softmax form (Lin et al., ICCV 2017, eq. 4; with class weights eq. 5).

        loss = - (1 - p_y) ** gamma * log p_y,  p = softmax(scale * z)

    The gradient flows through the factor too. 1 - p_y is computed as the sum of the other probabilities, in log space:
    loss and gradients stay finite where p_y rounds to 1 or to 0, even for gamma below 1.

    Args:
        class_counts: training images of each class, [C].
        scale: factor s on the scores.
        gamma: focusing exponent; 0 is cross-entropy.
        class_weights: weights of the classes, [C], up to a common factor. None: all classes weigh the same.

    Raises:
        ConfigError: fewer than two classes, a negative count, or a parameter out of range.
    """

    title: ClassVar[str] = "focal loss"

    def __init__(
        self,
        class_counts: Tensor | Sequence[int],
        scale: float = 1.0,
        gamma: float = 2.0,
        class_weights: Tensor | Sequence[float] | None = None,
    ) -> None:
        super().__init__(class_counts, scale, class_weights, negative_faults(gamma=gamma))
        self.gamma = gamma

    def each(self, scores: Tensor, labels: Tensor, noise: Tensor | None) -> Tensor:
        """Return the loss of each image without class weights, [B]."""
        logits = self.scale * scores
        factor = (self.gamma * log_rest(logits, true_class(logits, labels))).exp()
        return factor * F.cross_entropy(logits, labels, reduction="none")


class LogitAdjusted(SoftmaxLoss):
    """Logit-adjusted cross-entropy (Menon et al., ICLR 2021, eq. 10).

        loss = - log softmax(scale * z + tau * log pi)_y,  pi_c = n_c / n

    The adjustment is for training only. At test time the plain scores z fit balanced classes.

    Args:
        class_counts: training images of each class, [C]; 0 counts as 1.
        tau: strength of the adjustment; 0 is plain cross-entropy, 1 is consistent for the balanced error.
        scale: factor s on the scores, but not on the adjustment.
        label_smoothing: mass spread evenly over all classes.
        class_weights: weights of the classes, [C], up to a common factor. None: all classes weigh the same.

    Raises:
        ConfigError: fewer than two classes, a negative count, or a parameter out of range.
    """

    title: ClassVar[str] = "logit adjustment"

    offsets: Tensor

    def __init__(
        self,
        class_counts: Tensor | Sequence[int],
        tau: float = 1.0,
        scale: float = 1.0,
        label_smoothing: float = 0.0,
        class_weights: Tensor | Sequence[float] | None = None,
    ) -> None:
        super().__init__(class_counts, scale, label_smoothing, class_weights, negative_faults(tau=tau))
        self.tau = tau
        counts = self.counts.clamp_min(1)
        self.register_buffer("offsets", tau * (counts / counts.sum()).log(), persistent=False)

    def logits(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Return the scaled scores plus tau times the log priors of the classes, [B, C]."""
        return super().logits(scores, labels) + self.offsets.to(scores)


class BalancedSoftmax(LogitAdjusted):
    """Balanced softmax (Ren et al., NeurIPS 2020, eq. 3-4): logit adjustment with tau = 1.

        loss = - log (n_y * exp(s z_y) / sum_c n_c * exp(s z_c))

    Args:
        class_counts: training images of each class, [C]; 0 counts as 1.
        scale: factor s on the scores.
        label_smoothing: mass spread evenly over all classes.
        class_weights: weights of the classes, [C], up to a common factor. None: all classes weigh the same.

    Raises:
        ConfigError: fewer than two classes, a negative count, or a parameter out of range.
    """

    title: ClassVar[str] = "balanced softmax"

    def __init__(
        self,
        class_counts: Tensor | Sequence[int],
        scale: float = 1.0,
        label_smoothing: float = 0.0,
        class_weights: Tensor | Sequence[float] | None = None,
    ) -> None:
        super().__init__(class_counts, 1.0, scale, label_smoothing, class_weights)
