"""The loss that a configuration names."""

from __future__ import annotations

from lpt.config.schema import LossConfig
from lpt.losses import (
    GCL,
    LDAM,
    AsymmetricGCL,
    BalancedSoftmax,
    CrossEntropy,
    Focal,
    LogitAdjusted,
    LongTailedLoss,
    effective_number_weights,
    inverse_frequency_weights,
)


def new_loss(settings: LossConfig, counts: list[int], stream: str) -> LongTailedLoss:
    """The classification loss of a stream."""
    s, weights, noise = settings, None, float(settings.noise)
    if s.reweighting == "inverse_frequency":
        weights = inverse_frequency_weights(counts)
    elif s.reweighting == "effective_number":
        weights = effective_number_weights(counts, s.effective_beta)
    match s.name:
        case "a_gcl":
            gammas = s.gamma_balanced if stream == "balanced" else s.gamma_instance
            return AsymmetricGCL(
                counts, *gammas, s.scale, s.margin, noise, s.label_smoothing, class_weights=weights
            )  # fmt: skip
        case "gcl":
            return GCL(counts, s.scale, noise, s.label_smoothing, class_weights=weights)
        case "focal":
            return Focal(counts, s.scale, s.focal_gamma, class_weights=weights)
        case "ldam":
            return LDAM(counts, s.scale, s.ldam_margin, class_weights=weights)
        case "cross_entropy":
            return CrossEntropy(counts, s.scale, s.label_smoothing, class_weights=weights)
        case "balanced_softmax":
            return BalancedSoftmax(counts, s.scale, s.label_smoothing, class_weights=weights)
        case "logit_adjusted":
            return LogitAdjusted(counts, s.tau, s.scale, s.label_smoothing, class_weights=weights)


def probe_tau(settings: LossConfig) -> float:
    """Strength of the logit adjustment of the probe that a head starts at: that of the loss, 0 for other losses."""
    return {"logit_adjusted": settings.tau, "balanced_softmax": 1.0}.get(settings.name, 0.0)
