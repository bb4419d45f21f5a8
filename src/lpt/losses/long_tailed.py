"""The base class of all losses, with the checks of their arguments, and class weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from lpt.data.longtail import effective_numbers
from lpt.errors import ConfigError
from lpt.system.precision import at_least_float32


class LongTailedLoss(nn.Module):
    """The weighted mean loss of a batch.

        loss = 1/B sum_i w_{y_i} * l(scores_i, y_i),  sum_c n_c w_c / n = 1.

    Class weights w are scaled to a mean of 1 over the training images, not over the batch. The sum is divided by B
    alone, so the losses of micro-batches, each times its share of the batch, add up to the loss of the batch.

    PyTorch's weighted mean is sum_i w_i l_i / sum_i w_i instead. For images drawn from the training distribution,
    numerator and denominator have the same expectations here and there; a batch with exactly that distribution gives
    the same number. A sampler that draws rare classes more often draws weights above 1 on average.

    Subclasses define `each`. It is computed in float32 or wider, even under autocast.

    Args:
        class_counts: training images of each class, [C].
        scale: factor s on the scores: about 20 to 30 on cosines, 1 on the logits of a linear head.
        class_weights: weights of the classes, [C], up to a common factor. None: all classes weigh the same.
        faults: faults that a subclass finds in its own arguments, to report with the others.

    Attributes:
        counts: `class_counts` in float64, [C].
        reweighted: whether the class weights apply now; deferred re-weighting switches them on late in training.
        takes_noise: whether the loss uses `noise`.

    Raises:
        ConfigError: fewer than two classes, a negative count, or a parameter out of range; reports all faults at once.
    """

    title: ClassVar[str] = "loss"
    """Name of the loss in errors."""
    takes_noise: ClassVar[bool] = False

    class_weights: Tensor | None

    def __init__(
        self,
        class_counts: Tensor | Sequence[int],
        scale: float = 1.0,
        class_weights: Tensor | Sequence[float] | None = None,
        faults: Iterable[str] = (),
    ) -> None:
        super().__init__()
        counts = torch.as_tensor(class_counts, dtype=torch.float64)
        weights = None if class_weights is None else torch.as_tensor(class_weights, dtype=torch.float64)
        all_faults = count_faults(counts)
        if weights is not None and not all_faults:
            all_faults += _weight_faults(weights, counts)
        if not 0 < scale < math.inf:
            all_faults.append(f"scale must be positive and finite, got {scale}")
        all_faults += faults
        if all_faults:
            raise ConfigError(f"{self.title}: {'; '.join(all_faults)}")
        self.counts = counts
        self.scale = scale
        self.reweighted = True
        normalised = None if weights is None else mean_one(weights, counts)
        self.register_buffer("class_weights", normalised, persistent=False)

    def forward(self, scores: Tensor, labels: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return the mean loss of a batch.

        Args:
            scores: cosine or logit of each image for each class, [B, C].
            labels: true classes, [B].
            noise: the cloud of a loss that `takes_noise`, [B, C]; None draws it from torch's global generator. Other
                losses ignore it.

        Raises:
            ConfigError: a shape, a type or a label is wrong.
        """
        return self.per_image(scores, labels, noise).mean()

    def per_image(self, scores: Tensor, labels: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return the weighted loss of each image, [B]; arguments as in `forward`."""
        self._check_batch(scores, labels, noise)
        with torch.autocast(scores.device.type, enabled=False):
            labels = labels.long()
            losses = self.each(at_least_float32(scores), labels, noise)
            if self.class_weights is None or not self.reweighted:
                return losses
            return losses * self.class_weights.to(losses)[labels]

    def each(self, scores: Tensor, labels: Tensor, noise: Tensor | None) -> Tensor:
        """Return the loss of each image without class weights, [B].

        Args:
            scores: [B, C], float32 or wider.
            labels: [B], int64.
            noise: [B, C] or None, as given to `forward`.
        """
        raise NotImplementedError

    def _check_batch(self, scores: Tensor, labels: Tensor, noise: Tensor | None) -> None:
        classes = len(self.counts)
        if scores.ndim != 2 or scores.shape[1] != classes:
            raise ConfigError(f"scores must be [B, {classes}] for {classes} class counts, got {tuple(scores.shape)}")
        if labels.dtype not in (torch.int64, torch.int32):
            raise ConfigError(f"labels must be integers (torch.int64), got {labels.dtype}")
        if labels.shape != scores.shape[:1]:
            raise ConfigError(f"labels must be [{scores.shape[0]}], got {tuple(labels.shape)}")
        if noise is not None and noise.shape != scores.shape:
            raise ConfigError(f"noise must be {tuple(scores.shape)} like the scores, got {tuple(noise.shape)}")
        # Labels on a GPU are checked when they are read (LabelledImages): a check here would wait for the GPU.
        if labels.device.type == "cpu" and labels.numel() and not 0 <= labels.min() <= labels.max() < classes:
            raise ConfigError(f"labels must lie in 0..{classes - 1}, got {int(labels.min())}..{int(labels.max())}")


def inverse_frequency_weights(class_counts: Tensor | Sequence[int]) -> Tensor:
    """Return weights proportional to 1 / n_c, with mean 1 over the training images: all classes count the same.

    Args:
        class_counts: training images of each class, [C]; a class without images gets weight 0.

    Returns:
        The weights, [C], float64.

    Raises:
        ConfigError: the counts are negative, or all 0.
    """
    return effective_number_weights(class_counts, beta=1.0)


def effective_number_weights(class_counts: Tensor | Sequence[int], beta: float = 0.9999) -> Tensor:
    """Return class-balanced weights by the effective number of images (Cui et al., CVPR 2019, eq. 4-6).

        w_c proportional to 1 / E_c = (1 - beta) / (1 - beta ** n_c), with mean 1 over the training images

    Args:
        class_counts: training images of each class, [C]; a class without images gets weight 0.
        beta: 0 gives all images the same weight; 1, the limit, is inverse frequency.

    Returns:
        The weights, [C], float64.

    Raises:
        ConfigError: the counts are negative or all 0, or beta is not in [0, 1].
    """
    counts = torch.as_tensor(class_counts, dtype=torch.float64)
    faults = count_faults(counts)
    if not faults and not counts.any():
        faults.append("class_counts must not all be 0")
    if faults:
        raise ConfigError(f"class weights: {'; '.join(faults)}")
    effective = torch.from_numpy(effective_numbers(counts.cpu().numpy(), beta)).to(counts)
    return mean_one(torch.where(counts > 0, 1 / effective, 0.0), counts)


def mean_one(weights: Tensor, counts: Tensor) -> Tensor:
    """Divide class weights [C] by their mean over the training images, sum_c n_c w_c / n; return [C]."""
    return weights * (counts.sum() / (counts * weights).sum())


def log_rest(logits: Tensor, is_true: Tensor) -> Tensor:
    """Return log(1 - p_y) of a softmax, by the sum of the other probabilities: finite even where p_y rounds to 1.

    Args:
        logits: [B, C].
        is_true: mask of the true classes, [B, C].

    Returns:
        [B].
    """
    return logits.masked_fill(is_true, -torch.inf).logsumexp(-1) - logits.logsumexp(-1)


def true_class(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the mask of the true classes, [B, C]."""
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(1, labels[:, None], True)


def count_faults(counts: Tensor) -> list[str]:
    """Return the faults of class counts."""
    if counts.ndim != 1 or len(counts) < 2:
        return [f"class_counts must be [C] with at least 2 classes, got shape {tuple(counts.shape)}"]
    if not torch.isfinite(counts).all() or counts.min() < 0:
        return [f"class_counts must be finite and at least 0, got {counts.min().item():g}"]
    return []


def negative_faults(**values: float) -> list[str]:
    """Return a fault for each value that is negative, infinite or NaN."""
    return [
        f"{name} must be at least 0 and finite, got {value}"
        for name, value in values.items()
        if not 0 <= value < math.inf
    ]


def smoothing_faults(label_smoothing: float) -> list[str]:
    """Return the faults of a label smoothing."""
    if 0 <= label_smoothing < 1:
        return []
    return [f"label_smoothing must lie in [0, 1), got {label_smoothing}"]


def _weight_faults(weights: Tensor, counts: Tensor) -> list[str]:
    if weights.shape != counts.shape:
        return [f"class_weights must be [{len(counts)}] like the counts, got {tuple(weights.shape)}"]
    if not torch.isfinite(weights).all() or weights.min() < 0:
        return [f"class_weights must be finite and at least 0, got {weights.min().item():g}"]
    if not 0 < (weights * counts).sum() < math.inf:
        return ["class_weights must not be 0 for all training images, and their sum over them must be finite"]
    return []
