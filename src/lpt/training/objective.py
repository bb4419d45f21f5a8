"""What each phase trains, and the loss of its two streams (LPT section 3.3, eq. 4-8)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from lpt.losses import AsymmetricGCL
from lpt.model import LPT, Encoded

STREAMS = ("balanced", "instance")


class Chunk(NamedTuple):
    """Some images of one stream of one step, on the device.

    Args:
        stream: `balanced` or `instance`.
        inputs: normalised images, [b, 3, height, width], or, in phase 2, what is kept of their frozen part.
        labels: [b].
        cloud: Gaussian cloud of the loss, [b, C].
        feature_mask: dropout factors, [b, D], or None.
        share: b / B, this chunk's part of its stream's batch over all processes.
    """

    stream: str
    inputs: Tensor | Encoded
    labels: Tensor
    cloud: Tensor
    feature_mask: Tensor | None
    share: float


class ChunkLoss(NamedTuple):
    """A chunk's part of the step's loss, and of the values that are logged (all scalars)."""

    total: Tensor
    classification: Tensor
    similarity: Tensor


class PhaseObjective(nn.Module):
    """The whole loss of a phase, so that one module's `forward` is all that training differentiates.

    loss = L_balanced + eta * L_instance; in phase 2 each L has - similarity_weight * S of its batch added.

    Args:
        model: the model; its `requires_grad` flags are set for the phase.
        phase: 1 trains the shared prompt and the head, 2 the pool, its keys and the head.
        losses: classification loss of each stream.
        similarity_weight: weight of the query-key similarity S.
    """

    def __init__(self, model: LPT, phase: int, losses: dict[str, AsymmetricGCL], similarity_weight: float) -> None:
        super().__init__()
        self.model = model
        self.phase = phase
        self.losses = nn.ModuleDict(losses)
        self.similarity_weight = similarity_weight
        model.shared.requires_grad_(phase == 1)
        model.groups.requires_grad_(phase == 2)
        model.head.requires_grad_(True)

    def trainable(self) -> dict[str, nn.Parameter]:
        """The tensors this phase trains, by name."""
        return {name: tensor for name, tensor in self.model.named_parameters() if tensor.requires_grad}

    def forward(self, chunk: Chunk, instance_weight: float) -> ChunkLoss:
        """A chunk's part of the step's loss; the parts of a step's chunks, over all processes, add up to its loss."""
        if isinstance(chunk.inputs, Encoded):
            cosines, similarity, _ = self.model.classify(chunk.inputs, feature_mask=chunk.feature_mask)
        elif self.phase == 2:
            cosines, similarity, _ = self.model(chunk.inputs, feature_mask=chunk.feature_mask)
        else:
            cosines = self.model.forward_shared(chunk.inputs, feature_mask=chunk.feature_mask)
            similarity = cosines.new_zeros(())
        classification = self.losses[chunk.stream](cosines, chunk.labels, chunk.cloud)
        stream_weight = 1.0 if chunk.stream == "balanced" else instance_weight
        total = stream_weight * chunk.share * (classification - self.similarity_weight * similarity)
        return ChunkLoss(total, chunk.share * classification.detach(), chunk.share * similarity.detach())


def instance_weight(start: float, epoch: int, epochs: int) -> float:
    """Eta of an epoch: `start` in epoch 0, falling linearly towards 0 (LPT eq. 8)."""
    return start * (epochs - epoch) / epochs


def dropout_mask(shape: tuple[int, int], rate: float, generator: torch.Generator) -> Tensor | None:
    """Inverted-dropout factors [B, D]: 0 with probability `rate`, else 1 / (1 - rate); None for rate 0."""
    if rate == 0:
        return None
    return (torch.rand(shape, generator=generator, device=generator.device) >= rate).float() / (1 - rate)
