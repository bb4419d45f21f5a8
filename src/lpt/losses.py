"""Losses for class-imbalanced training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lpt.errors import ConfigError
from lpt.model.prompts import at_least_float32

NOISE_STD = 1 / 3


def draw_cloud(shape: tuple[int, int], generator: torch.Generator | None = None) -> Tensor:
    """The Gaussian cloud of GCL: N(0, 1/9) clipped to [-1, 1], [B, C], on the generator's device (the CPU without)."""
    device = None if generator is None else generator.device
    return (torch.randn(shape, generator=generator, device=device) * NOISE_STD).clamp_(-1, 1)


class AsymmetricGCL(nn.Module):
    """Asymmetric Gaussian clouded logit loss (LPT, Dong et al., ICLR 2023, eq. 5-7; GCL, Li et al., CVPR 2022).

    With delta_c = (log n_max - log n_c) / (log n_max - log n_min),
    u_c = z_c - noise * delta_c * |e_c| - margin * [c = y], p = softmax(scale * u) and smoothed targets t:

        loss = - sum_c t_c * w_c * log p_c,  w_y = (1 - p_y) ** gamma_pos,  w_c = p_c ** gamma_neg,

    averaged over the batch. The weights carry gradient. 1 - p_y is computed as the sum of the other probabilities, in
    log space: loss and gradients stay finite for all cosines in [-1, 1].

    Args:
        class_counts: training images of each class, [C]; 0 counts as 1.
        gamma_pos: focusing exponent of the true class.
        gamma_neg: focusing exponent of the other classes.
        scale: factor s on the cosines.
        margin: taken from the true class's cosine.
        noise: strength of the cloud; 0 turns it off.
        label_smoothing: mass spread evenly over all classes.

    Raises:
        ConfigError: fewer than two classes, a negative count, or a parameter out of range.
    """

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
    ) -> None:
        super().__init__()
        counts = torch.as_tensor(class_counts, dtype=torch.float64)
        _check(counts, gamma_pos, gamma_neg, scale, margin, noise, label_smoothing)
        self.gamma_pos, self.gamma_neg = gamma_pos, gamma_neg
        self.scale, self.margin, self.noise, self.label_smoothing = scale, margin, noise, label_smoothing
        self.register_buffer("delta", _rarity(counts), persistent=False)

    def forward(self, cosines: Tensor, labels: Tensor, noise: Tensor | None = None) -> Tensor:
        """The mean loss of a batch.

        Args:
            cosines: cosine of each image with each class, [B, C].
            labels: true classes, [B].
            noise: the cloud e, [B, C]; drawn from torch's global generator when not given.

        Raises:
            ConfigError: shapes or labels do not fit.
        """
        return self.per_image(cosines, labels, noise).mean()

    def per_image(self, cosines: Tensor, labels: Tensor, noise: Tensor | None = None) -> Tensor:
        """The loss of each image, [B]; arguments as in `forward`."""
        self._check_batch(cosines, labels, noise)
        with torch.autocast(cosines.device.type, enabled=False):
            cosines = at_least_float32(cosines)
            clouded = cosines
            if self.noise:
                cloud = draw_cloud((cosines.shape[0], cosines.shape[1])) if noise is None else noise
                cloud = cloud.to(cosines).abs()
                clouded = cosines - self.noise * self.delta.to(cosines) * cloud
            is_true = torch.zeros_like(cosines, dtype=torch.bool).scatter_(1, labels[:, None], True)
            logits = self.scale * (clouded - self.margin * is_true.to(cosines))
            log_p = logits.log_softmax(dim=-1)
            log_rest = logits.masked_fill(is_true, -torch.inf).logsumexp(-1) - logits.logsumexp(-1)
            weights = torch.where(is_true, (self.gamma_pos * log_rest)[:, None], self.gamma_neg * log_p).exp()
            targets = self.label_smoothing / cosines.shape[1] + (1 - self.label_smoothing) * is_true.to(cosines)
            return -(targets * weights * log_p).sum(dim=-1)

    def _check_batch(self, cosines: Tensor, labels: Tensor, noise: Tensor | None) -> None:
        classes = len(self.delta)
        if cosines.ndim != 2 or cosines.shape[1] != classes:
            raise ConfigError(f"cosines must be [B, {classes}] for {classes} class counts, got {tuple(cosines.shape)}")
        if labels.dtype not in (torch.int64, torch.int32):
            raise ConfigError(f"labels must be integers (torch.int64), got {labels.dtype}")
        if labels.shape != cosines.shape[:1]:
            raise ConfigError(f"labels must be [{cosines.shape[0]}], got {tuple(labels.shape)}")
        if noise is not None and noise.shape != cosines.shape:
            raise ConfigError(f"noise must be {tuple(cosines.shape)} like the cosines, got {tuple(noise.shape)}")
        # A device's labels are checked where they are read (LabelledImages): a look from here would wait for it.
        if labels.device.type == "cpu" and labels.numel() and not 0 <= labels.min() <= labels.max() < classes:
            raise ConfigError(f"labels must lie in 0..{classes - 1}, got {int(labels.min())}..{int(labels.max())}")


def _rarity(counts: Tensor) -> Tensor:
    """delta_c: 0 for the most frequent class, 1 for the rarest, in between by log count; [C] -> [C]."""
    log_counts = counts.clamp_min(1).log()
    largest, smallest = log_counts.max(), log_counts.min()
    if largest == smallest:
        return torch.zeros_like(log_counts)
    return (largest - log_counts) / (largest - smallest)


def _check(
    counts: Tensor,
    gamma_pos: float,
    gamma_neg: float,
    scale: float,
    margin: float,
    noise: float,
    label_smoothing: float,
) -> None:
    faults = []
    if counts.ndim != 1 or len(counts) < 2:
        faults.append(f"class_counts must be [C] with at least 2 classes, got shape {tuple(counts.shape)}")
    elif not torch.isfinite(counts).all() or counts.min() < 0:
        faults.append(f"class_counts must be finite and at least 0, got {counts.min().item():g}")
    named = {"gamma_pos": gamma_pos, "gamma_neg": gamma_neg, "margin": margin, "noise": noise}
    faults += [f"{name} must be at least 0, got {value}" for name, value in named.items() if not value >= 0]
    if not scale > 0:
        faults.append(f"scale must be positive, got {scale}")
    if not 0 <= label_smoothing < 1:
        faults.append(f"label_smoothing must lie in [0, 1), got {label_smoothing}")
    if faults:
        raise ConfigError("; ".join(faults))
