"""Full fine-tuning: every weight of the backbone trained, with a linear head on its class token.

The loss is logit-adjusted cross-entropy (Menon et al., ICLR 2021), so that the comparison is with fine-tuning that
knows of the long tail. Rates can fall from the last block to the first (layer decay: Clark et al., ICLR 2020; Bao et
al., BEiT, ICLR 2022), and the head can start at the linear probe's (LP-FT: Kumar et al., ICLR 2022).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from timm.optim import param_groups_layer_decay
from torch import Tensor, nn

from lpt.data.manifest import LabelledImages
from lpt.data.transforms import Preprocessing
from lpt.methods.logit_adjustment import LogitAdjusted
from lpt.methods.training import Budget, train_on_images
from lpt.model import FrozenViT
from lpt.randomness import torch_generator
from lpt.training.initial import FloatArray, split_features

HEAD_STD = 0.02


@dataclass(frozen=True)
class FineTuned:
    """A fine-tuned backbone with its head.

    Args:
        backbone: the trained copy.
        head: linear, [D] -> [C].
        preprocessing: as in training.
    """

    backbone: FrozenViT
    head: nn.Linear
    preprocessing: Preprocessing

    @property
    def parameters(self) -> int:
        """Trained numbers."""
        return sum(tensor.numel() for module in (self.backbone, self.head) for tensor in module.parameters())

    @property
    def stored_bytes(self) -> int:
        """What has to be stored for it, bytes."""
        tensors = [tensor for module in (self.backbone, self.head) for tensor in module.parameters()]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images [B, 3, height, width] -> logits [B, C]."""
        return self.head(self.backbone.features(images).float())

    def logits(self, images: LabelledImages, *, batch_size: int = 64, workers: int = 0) -> FloatArray:
        """Logits of all images of a split, in order, [n, C]."""
        return split_features(
            self.forward, self.backbone, images, self.preprocessing, batch_size=batch_size, workers=workers
        )


def fine_tune(
    backbone: FrozenViT,
    images: LabelledImages,
    preprocessing: Preprocessing,
    budget: Budget,
    *,
    lr: float = 1e-4,
    head_lr: float = 1e-3,
    layer_decay: float = 1.0,
    weight_decay: float = 0.05,
    tau: float = 1.0,
    head: tuple[Tensor, Tensor] | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> FineTuned:
    """Train all weights of a copy of the backbone; the backbone itself stays as it is.

    Args:
        backbone: where the copy starts; its precision is that of training.
        images: the training split.
        preprocessing: as for every other method.
        budget: steps and draws.
        lr: peak rate of the last block, AdamW.
        head_lr: peak rate of the head.
        layer_decay: factor on the rate from each block to the one before it.
        weight_decay: decoupled; not on biases, norms and position embeddings.
        tau: strength of the logit adjustment; 0 is plain cross-entropy.
        head: weight [C, D] and bias [C] to start from; None: small random weights.
        progress: called with the number of steps done.

    Raises:
        RunError: the loss is not finite.
    """
    tuned = FineTuned(copy.deepcopy(backbone), _new_head(backbone, images, budget.seed, head), preprocessing)
    tuned.backbone.vit.requires_grad_(True)
    loss = LogitAdjusted(images.class_counts.tolist(), tau)
    groups = param_groups_layer_decay(tuned.backbone.vit, weight_decay=weight_decay, layer_decay=layer_decay)
    for group in groups:
        group["lr"] = lr * group.pop("lr_scale")
    groups.append({"params": [*tuned.head.parameters()], "lr": head_lr, "weight_decay": weight_decay})
    train_on_images(
        "full fine-tuning",
        lambda pixels, labels: loss(tuned.forward(pixels), labels),
        groups,
        images,
        preprocessing,
        budget,
        backbone.device,
        progress=progress,
    )
    tuned.backbone.vit.requires_grad_(False)
    return tuned


def _new_head(backbone: FrozenViT, images: LabelledImages, seed: int, start: tuple[Tensor, Tensor] | None) -> nn.Linear:
    head = nn.utils.skip_init(nn.Linear, backbone.width, len(images.class_names))
    with torch.no_grad():
        if start is None:
            head.weight.normal_(0, HEAD_STD, generator=torch_generator(seed, "full fine-tuning", "head"))
            head.bias.zero_()
        else:
            head.weight.copy_(start[0])
            head.bias.copy_(start[1])
    return head.to(backbone.device)
