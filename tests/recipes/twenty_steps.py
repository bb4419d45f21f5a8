"""Started by test_processes.py in one process or two: 20 float64 steps of each phase, written by the first process."""

from __future__ import annotations

import atexit

import numpy as np
import torch

from lpt.config.schema import LossConfig, PhaseConfig, RunConfig
from lpt.data.images import ArrayImages
from lpt.data.loading import StreamBatch
from lpt.data.manifest import LabelledImages
from lpt.model import LPT, FrozenViT
from lpt.system.processes import Processes
from lpt.training.batches import Batch, ImageBatch
from lpt.training.loop import PhasePlan, StepRecord, train_steps
from lpt.training.phases import build_objective
from lpt.training.schedule import build_optimizer
from oracle import small_vit
from samples import PREPROCESSING

BATCH, STEPS = 5, 20
LABELS = torch.tensor([0, 1, 2, 0, 1])


def main(output: str) -> None:
    torch.set_num_threads(1)
    atexit.register(lambda: print("connected" if torch.distributed.is_initialized() else "ended alone", flush=True))
    processes = Processes.started(on_cpu=True)
    labels = np.repeat(np.arange(3), (6, 3, 1))
    source = ArrayImages(np.zeros((len(labels), 8, 8), dtype=np.uint8))
    images = LabelledImages(source, np.arange(len(labels)), labels, ("a", "b", "c"))
    torch.manual_seed(0)
    model = LPT(FrozenViT(small_vit()), 3, 2, 2, 4, 2).double()
    with torch.no_grad():
        for tensor in (model.shared.tokens, model.groups.prompts, model.groups.keys):
            tensor.normal_()
    local = processes.share(BATCH)
    generator = torch.Generator().manual_seed(1)
    losses: list[float] = []
    consumed: list[str] = []

    def batch(stream: str, step: int) -> ImageBatch:
        pixels = torch.randint(0, 256, (BATCH, 3, 24, 24), generator=generator, dtype=torch.uint8)
        consumed.extend(f"{stream} {step} {position}" for position in local)
        rows = slice(local.start, local.stop)
        return ImageBatch(StreamBatch(pixels[rows], LABELS[rows]), PREPROCESSING)

    def record(done: StepRecord, stopping: bool) -> None:
        losses.append(done.loss)

    for phase in (1, 2):
        settings = PhaseConfig(epochs=4, optimizer="adamw", lr=0.01, warmup_epochs=0)
        plan = PhasePlan(phase, settings, LossConfig(), epoch_steps=5, batch_size=BATCH, micro_batch=2, seed=11)
        objective = build_objective(model, images, RunConfig(loss=plan.loss), phase)
        batches: list[dict[str, Batch]] = [
            {stream: batch(f"{phase} {stream}", step) for stream in ("balanced", "instance")} for step in range(STEPS)
        ]
        optimizer = build_optimizer(objective.trainable(), settings)
        train_steps(
            objective, optimizer, iter(batches), plan, processes, first_step=0, after_step=record
        )  # fmt: skip
    everything = processes.gather(consumed)
    if processes.is_main:
        torch.save({"losses": losses, "state": model.state_dict(), "consumed": everything}, output)
