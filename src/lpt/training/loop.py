"""The training loop of a phase."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from lpt.config.schema import LossConfig, PhaseConfig
from lpt.errors import RunError
from lpt.losses import draw_cloud
from lpt.system.interrupt import StopRequest
from lpt.system.processes import ALONE, Processes
from lpt.system.randomness import torch_generator
from lpt.training.batches import Batch, Batches, to_device
from lpt.training.objective import Chunk, PhaseObjective, dropout_mask, instance_weight
from lpt.training.schedule import learning_rate


@dataclass(frozen=True)
class PhasePlan:
    """The plan of a phase: its optimiser, steps and batch sizes.

    Args:
        phase: 1 or 2.
        settings: optimiser, rate and epochs.
        loss: weights and dropout.
        epoch_steps: steps of an epoch.
        batch_size: images of each stream in a step, over all processes.
        micro_batch: images that a process holds in memory at a time.
        seed: seed of the run.
        streams: names of the streams; each gives a batch to a step.
    """

    phase: int
    settings: PhaseConfig
    loss: LossConfig
    epoch_steps: int
    batch_size: int
    micro_batch: int
    seed: int
    streams: tuple[str, ...] = ("balanced", "instance")

    @property
    def steps(self) -> int:
        """Return the steps of the whole phase."""
        return self.settings.epochs * self.epoch_steps


@dataclass(frozen=True)
class StepRecord:
    """The log record of a step; losses are means over the batch of a stream.

    Only LPT's dual sampling has a balanced and an instance stream. Only its phase 2 has a query-key similarity.
    """

    phase: int
    epoch: int
    step: int
    loss: float
    balanced: float | None
    instance: float | None
    similarity: float | None
    gradient_norm: float
    lr: float
    micro_batch: int
    seconds: float


def train_steps(
    objective: PhaseObjective,
    optimizer: torch.optim.Optimizer,
    batches: Batches,
    plan: PhasePlan,
    processes: Processes = ALONE,
    *,
    first_step: int,
    after_step: Callable[[StepRecord, bool], None],
    stop: StopRequest | None = None,
) -> None:
    """Run steps `first_step` .. `plan.steps - 1`.

    Args:
        objective: loss of the phase; the tensors that it trains must be equal in all processes.
        optimizer: of those tensors.
        batches: this process's part of every step's batches.
        plan: of the phase.
        processes: those that share the batches.
        first_step: where to start.
        after_step: called after each step with its record, and whether a stop was requested in any process.
        stop: the stop request of this process.

    Raises:
        RunError: a loss or gradient is not finite (the weights are as after the step before), the memory does not
            hold a single image, or another process has ended.
    """
    parameters = list(objective.trainable().values())
    micro_batch = plan.micro_batch
    for step in range(first_step, plan.steps):
        start = time.perf_counter()
        epoch = step // plan.epoch_steps
        rate = learning_rate(plan.settings, step, plan.epoch_steps, plan.batch_size)
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get("factor", 1.0)
        objective.reweight(step >= plan.loss.reweight_from * plan.steps)
        eta = instance_weight(plan.loss.instance_weight, epoch, plan.settings.epochs)
        with processes.local():
            streams = next(batches)
            sums, micro_batch = _gradients(objective, streams, step, eta, plan, micro_batch, processes)
        stopping = _sum_over_processes(parameters, sums, stop is not None and stop.requested, processes)
        norm = float(torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))
        _check_finite(sums["loss"], norm, plan.phase, step, rate)
        optimizer.step()
        after_step(
            StepRecord(
                plan.phase,
                epoch,
                step,
                loss=sums["loss"],
                balanced=sums.get("balanced"),
                instance=sums.get("instance"),
                similarity=sums["similarity"] if plan.phase == 2 else None,
                gradient_norm=norm,
                lr=rate,
                micro_batch=micro_batch,
                seconds=time.perf_counter() - start,
            ),
            stopping,
        )


def _gradients(
    objective: PhaseObjective,
    streams: dict[str, Batch],
    step: int,
    eta: float,
    plan: PhasePlan,
    micro_batch: int,
    processes: Processes,
) -> tuple[dict[str, float], int]:
    """Compute the gradients of this process's part of a step; return its logged sums and the micro-batch used.

    When memory runs out, the step is repeated with half the micro-batch. The result is the same, since random draws
    depend on positions alone.
    """
    while True:
        for parameter in objective.parameters():
            parameter.grad = None
        sums = dict.fromkeys(("loss", *objective.streams, "similarity"), 0.0)
        try:
            for chunk in chunks(streams, step, plan, objective, processes, micro_batch):
                part = objective(chunk, eta)
                part.total.backward()  # not Accelerate's, which a launcher's settings make scale the gradients
                sums["loss"] += float(part.total.detach())
                sums[chunk.stream] += float(part.classification)
                sums["similarity"] += float(part.similarity) / len(streams)
            return sums, micro_batch
        except RuntimeError as error:
            if not lacks_memory(error):
                raise
            if micro_batch == 1:
                raise RunError(
                    f"phase {plan.phase}, step {step}: the memory does not hold the training of a single image "
                    f"({str(error).splitlines()[0]}).\nTry a smaller input (--size), a smaller backbone (--backbone), "
                    "or bfloat16 (--set runtime.precision=bf16)."
                ) from None
        part = chunk = None  # type: ignore[assignment]  # free their memory before the next attempt
        micro_batch = -(-micro_batch // 2)
        clear_device_cache(garbage_collection=True)


def lacks_memory(error: RuntimeError) -> bool:
    """Return whether an error means that memory ran out; oneDNN, which computes on CPUs, has its own message."""
    return should_reduce_batch_size(error) or str(error).startswith("could not create a ")


def _sum_over_processes(
    parameters: list[torch.nn.Parameter], sums: dict[str, float], stop: bool, processes: Processes
) -> bool:
    """Sum gradients and logged values over all processes, in place; return whether any has a stop request."""
    if processes.world_size == 1:
        return stop
    for parameter in parameters:
        if parameter.grad is None:  # this process had no image of the step
            parameter.grad = torch.zeros_like(parameter)
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    logged = gradients[0].new_tensor([*sums.values(), float(stop)])
    total = processes.sum(torch.cat([*(gradient.flatten() for gradient in gradients), logged]))
    start = 0
    for gradient in gradients:
        gradient.copy_(total[start : start + gradient.numel()].view_as(gradient))
        start += gradient.numel()
    *values, stops = total[start:].tolist()
    sums.update(zip(sums, values, strict=True))
    return bool(stops)


def chunks(
    batches: dict[str, Batch],
    step: int,
    plan: PhasePlan,
    objective: PhaseObjective,
    processes: Processes,
    micro_batch: int,
) -> Iterator[Chunk]:
    """Yield this process's images of a step in chunks of at most `micro_batch`, with their random draws."""
    (classes, width), device = objective.model.head.weight.shape, objective.model.head.weight.device
    positions = processes.share(plan.batch_size)
    for stream, batch in batches.items():
        name = (plan.seed, plan.phase, stream, step)
        cloud = None
        if objective.takes_noise:
            cloud = draw_cloud((plan.batch_size, classes), torch_generator(*name, "cloud", device=device))
        drop = torch_generator(*name, "dropout", device=device)
        mask = dropout_mask((plan.batch_size, width), plan.loss.dropout, drop)
        for start in range(0, len(positions), micro_batch):
            rows = slice(start, min(start + micro_batch, len(positions)))
            local_positions = slice(positions.start + rows.start, positions.start + rows.stop)
            yield Chunk(
                stream,
                batch.inputs(rows, device),
                to_device(batch.labels[rows], device),
                None if cloud is None else cloud[local_positions],
                None if mask is None else mask[local_positions],
                share=(rows.stop - rows.start) / plan.batch_size,
            )


def _check_finite(loss: float, gradient_norm: float, phase: int, step: int, rate: float) -> None:
    """Raise `RunError` if the loss or the gradient norm is not finite."""
    if torch.isfinite(torch.tensor([loss, gradient_norm])).all():
        return
    what = "loss" if not torch.isfinite(torch.tensor(loss)) else "gradient"
    raise RunError(
        f"phase {phase}, step {step}: the {what} is not finite (loss {loss}, gradient norm {gradient_norm}, learning "
        f"rate {rate:.3g}). The weights of the last checkpoint are intact.\n"
        f"Try a lower rate (--set train.phase{phase}.lr=...), more warm-up (--set train.phase{phase}.warmup_epochs=...)"
        " or full precision (--set runtime.precision=fp32)."
    )
