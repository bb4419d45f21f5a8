"""Build the loss that a configuration names."""

from __future__ import annotations

from torch import Tensor

from lpt.config.schema import LossConfig
from lpt.losses import (
    GCL,
    LDAM,
    AsymmetricGCL,
    CrossEntropy,
    Focal,
    LogitAdjusted,
    LongTailedLoss,
    effective_number_weights,
    inverse_frequency_weights,
)


def new_loss(settings: LossConfig, counts: list[int], stream: str) -> LongTailedLoss:
    """Return the classification loss of a stream.

    Args:
        settings: the section `loss` of a configuration, without `auto`.
        counts: training images of each class, [C].
        stream: name of the stream, which the exponents of A-GCL depend on.
    """
    s, weights = settings, _class_weights(settings, counts)
    match s.name:
        case "a_gcl":
            gammas = s.gamma_balanced if stream == "balanced" else s.gamma_instance
            return AsymmetricGCL(counts, *gammas, s.scale, s.margin, float(s.noise), s.label_smoothing, weights)
        case "gcl":
            return GCL(counts, s.scale, float(s.noise), s.label_smoothing, weights)
        case "focal":
            return Focal(counts, s.scale, s.focal_gamma, weights)
        case "ldam":
            return LDAM(counts, s.scale, s.ldam_margin, weights)
        case "cross_entropy":
            return CrossEntropy(counts, s.scale, s.label_smoothing, weights)
        case "logit_adjusted" | "balanced_softmax":
            return LogitAdjusted(counts, s.adjustment, s.scale, s.label_smoothing, weights)


def _class_weights(settings: LossConfig, counts: list[int]) -> Tensor | None:
    match settings.reweighting:
        case "none":
            return None
        case "inverse_frequency":
            return inverse_frequency_weights(counts)
        case "effective_number":
            return effective_number_weights(counts, settings.effective_beta)
