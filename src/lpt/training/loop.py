"""The training loop of one phase."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from accelerate import Accelerator

from lpt.config import LossConfig, PhaseConfig
from lpt.data.loading import StreamBatch
from lpt.data.transforms import Preprocessing
from lpt.errors import RunError
from lpt.losses import draw_cloud
from lpt.randomness import torch_generator
from lpt.training.objective import STREAMS, Chunk, PhaseObjective, dropout_mask, instance_weight
from lpt.training.schedule import learning_rate


@dataclass(frozen=True)
class PhasePlan:
    """The numbers of one phase.

    Args:
        phase: 1 or 2.
        settings: optimiser, rate and epochs.
        loss: weights and dropout.
        epoch_steps: steps of an epoch.
        batch_size: images of each stream in a step.
        micro_batch: images in memory at a time.
        seed: seed of the run.
    """

    phase: int
    settings: PhaseConfig
    loss: LossConfig
    epoch_steps: int
    batch_size: int
    micro_batch: int
    seed: int

    @property
    def steps(self) -> int:
        """Steps of the whole phase."""
        return self.settings.epochs * self.epoch_steps


@dataclass(frozen=True)
class StepRecord:
    """What is logged of a step; losses are means over the stream's batch. Phase 1 has no query-key similarity."""

    phase: int
    epoch: int
    step: int
    loss: float
    balanced: float
    instance: float
    similarity: float | None
    gradient_norm: float
    lr: float
    seconds: float


def train_steps(
    objective: PhaseObjective,
    optimizer: torch.optim.Optimizer,
    batches: Iterator[dict[str, StreamBatch]],
    plan: PhasePlan,
    preprocessing: Preprocessing,
    accelerator: Accelerator,
    *,
    first_step: int,
    after_step: Callable[[StepRecord], None],
) -> None:
    """Run steps `first_step` .. `plan.steps - 1`, calling `after_step` after each.

    Raises:
        RunError: a loss or gradient is not finite; the weights are as after the step before.
    """
    parameters = list(objective.trainable().values())
    for step in range(first_step, plan.steps):
        start = time.perf_counter()
        epoch = step // plan.epoch_steps
        rate = learning_rate(plan.settings, step, plan.epoch_steps, plan.batch_size)
        for group in optimizer.param_groups:
            group["lr"] = rate
        eta = instance_weight(plan.loss.instance_weight, epoch, plan.settings.epochs)
        sums = dict.fromkeys(("loss", *STREAMS, "similarity"), 0.0)
        optimizer.zero_grad(set_to_none=True)
        streams = next(batches)
        for chunk in chunks(streams, step, plan, objective, preprocessing):
            part = objective(chunk, eta)
            accelerator.backward(part.total)
            sums["loss"] += float(part.total.detach())
            sums[chunk.stream] += float(part.classification)
            sums["similarity"] += float(part.similarity) / len(streams)
        norm = float(torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))
        _check_finite(sums["loss"], norm, plan.phase, step, rate)
        optimizer.step()
        similarity = sums["similarity"] if plan.phase == 2 else None
        after_step(
            StepRecord(
                plan.phase,
                epoch,
                step,
                loss=sums["loss"],
                balanced=sums["balanced"],
                instance=sums["instance"],
                similarity=similarity,
                gradient_norm=norm,
                lr=rate,
                seconds=time.perf_counter() - start,
            )
        )


def chunks(
    batches: dict[str, StreamBatch],
    step: int,
    plan: PhasePlan,
    objective: PhaseObjective,
    preprocessing: Preprocessing,
) -> Iterator[Chunk]:
    """A step's images in pieces of at most `micro_batch`, with the random draws of their positions."""
    (classes, width), device = objective.model.head.weight.shape, objective.model.head.weight.device
    ahead = device.type == "cuda"  # elsewhere the copy may still run when its source is gone
    for stream, (images, labels) in batches.items():
        count = len(labels)
        cloud = draw_cloud((count, classes), torch_generator(plan.seed, plan.phase, stream, step, "cloud"))
        drop = torch_generator(plan.seed, plan.phase, stream, step, "dropout")
        mask = dropout_mask((count, width), plan.loss.dropout, drop)
        for start in range(0, count, plan.micro_batch):
            rows = slice(start, min(start + plan.micro_batch, count))
            yield Chunk(
                stream,
                preprocessing.normalize(images[rows].to(device, non_blocking=ahead)),
                labels[rows].to(device, non_blocking=ahead),
                cloud[rows].to(device, non_blocking=ahead),
                None if mask is None else mask[rows].to(device, non_blocking=ahead),
                share=(rows.stop - rows.start) / count,
            )


def _check_finite(loss: float, gradient_norm: float, phase: int, step: int, rate: float) -> None:
    if torch.isfinite(torch.tensor([loss, gradient_norm])).all():
        return
    what = "loss" if not torch.isfinite(torch.tensor(loss)) else "gradient"
    raise RunError(
        f"phase {phase}, step {step}: the {what} is not finite (loss {loss}, gradient norm {gradient_norm}, learning "
        f"rate {rate:.3g}). The weights of the last checkpoint are intact.\n"
        f"Try a lower rate (--set train.phase{phase}.lr=...), more warm-up (--set train.phase{phase}.warmup_epochs=...)"
        " or full precision (--set runtime.precision=fp32)."
    )
