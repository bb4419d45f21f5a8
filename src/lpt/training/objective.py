"""PhaseObjective: the tensors that a phase trains, and its loss (LPT section 3.3, eq. 4-8)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from lpt.losses import LongTailedLoss
from lpt.model import LPT, Classifier, Encoded


class Chunk(NamedTuple):
    """A micro-batch: some images of one stream in one step, on the device.

    Args:
        stream: its name, e.g. `balanced` or `instance`.
        inputs: normalised images, [b, 3, height, width]; in phase 2 perhaps their cached frozen part.
        labels: [b].
        cloud: Gaussian cloud of the loss, [b, C]; None for a loss without one.
        feature_mask: dropout factors, [b, D], or None.
        share: b / B, this chunk's part of its stream's batch over all processes.
    """

    stream: str
    inputs: Tensor | Encoded
    labels: Tensor
    cloud: Tensor | None
    feature_mask: Tensor | None
    share: float


class ChunkLoss(NamedTuple):
    """A chunk's part of the step's loss and of the logged values (all scalars)."""

    total: Tensor
    classification: Tensor
    similarity: Tensor


class PhaseObjective(nn.Module):
    """The whole loss of a phase: training differentiates nothing but its `forward`.

    With LPT's two streams, loss = L_balanced + eta * L_instance. In phase 2, similarity_weight * S of its batch is
    subtracted from each L. With one stream the loss is that stream's.

    Args:
        model: the model; its `requires_grad` flags are set for the phase.
        phase: 1 trains the shared prompt, adapters and the head of an LPT; 2 trains the pool, its keys and the head.
            Other models train all their tensors.
        losses: classification loss of each stream.
        similarity_weight: weight of the query-key similarity S.
    """

    def __init__(
        self, model: Classifier, phase: int, losses: dict[str, LongTailedLoss], similarity_weight: float
    ) -> None:
        super().__init__()
        self.model = model
        self.phase = phase
        self.losses = nn.ModuleDict(losses)
        self.similarity_weight = similarity_weight
        model.requires_grad_(True)
        if isinstance(model, LPT):
            for part in model.shared_parts:
                part.requires_grad_(phase == 1)
            model.groups.requires_grad_(phase == 2)

    @property
    def streams(self) -> tuple[str, ...]:
        """Return the names of the streams."""
        return tuple(self.losses)

    @property
    def takes_noise(self) -> bool:
        """Return whether a loss needs a Gaussian cloud."""
        return any(loss.takes_noise for loss in self.losses.values())

    def reweight(self, now: bool) -> None:
        """Switch the class weights on or off (deferred re-weighting, Cao et al., NeurIPS 2019)."""
        for loss in self.losses.values():
            loss.reweighted = now  # type: ignore[assignment]

    def trainable(self) -> dict[str, nn.Parameter]:
        """Return the tensors that this phase trains, by name."""
        return {name: tensor for name, tensor in self.model.named_parameters() if tensor.requires_grad}

    def forward(self, chunk: Chunk, instance_weight: float) -> ChunkLoss:
        """Return a chunk's part of the step's loss; the parts of all chunks of all processes add up to it.

        Args:
            chunk: some images of a stream.
            instance_weight: eta of the epoch.
        """
        scores, similarity = self._scores(chunk)
        classification = self.losses[chunk.stream](scores, chunk.labels, chunk.cloud)
        stream_weight = instance_weight if len(self.losses) > 1 and chunk.stream == "instance" else 1.0
        total = stream_weight * chunk.share * (classification - self.similarity_weight * similarity)
        return ChunkLoss(total, chunk.share * classification.detach(), chunk.share * similarity.detach())

    def _scores(self, chunk: Chunk) -> tuple[Tensor, Tensor]:
        """Return cosines or logits [b, C], and the query-key similarity: 0 where there are no keys."""
        if isinstance(chunk.inputs, Encoded):
            assert isinstance(self.model, LPT)
            scores, similarity, _ = self.model.classify(chunk.inputs, feature_mask=chunk.feature_mask)
        elif self.phase == 2:
            scores, similarity, _ = self.model(chunk.inputs, feature_mask=chunk.feature_mask)
        else:
            scores = self.model.forward_shared(chunk.inputs, feature_mask=chunk.feature_mask)
            similarity = scores.new_zeros(())
        return scores, similarity


def instance_weight(start: float, epoch: int, epochs: int) -> float:
    """Return eta of an epoch: `start` in epoch 0, falling linearly towards 0 (LPT eq. 8)."""
    return start * (epochs - epoch) / epochs


def dropout_mask(shape: tuple[int, int], rate: float, generator: torch.Generator) -> Tensor | None:
    """Draw inverted-dropout factors [B, D]: 0 with probability `rate`, else 1 / (1 - rate); None for rate 0."""
    if rate == 0:
        return None
    return (torch.rand(shape, generator=generator, device=generator.device) >= rate).float() / (1 - rate)
