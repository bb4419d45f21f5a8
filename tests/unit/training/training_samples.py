"""A small model, its images, batches and plans, for the tests of training."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from lpt.config.schema import LossConfig, PhaseConfig, RunConfig
from lpt.data.images import ArrayImages
from lpt.data.loading import StreamBatch
from lpt.data.manifest import LabelledImages
from lpt.model import LPT, FrozenViT
from lpt.training.batches import ImageBatch
from lpt.training.loop import PhasePlan, StepRecord, train_steps
from lpt.training.phases import build_objective
from lpt.training.schedule import build_optimizer
from oracle import small_vit
from samples import PREPROCESSING

COUNTS = (9, 4, 1)
LABELS = torch.tensor([0, 1, 2, 0, 0])
TRAINED = {1: {"shared.tokens", "head.weight"}, 2: {"groups.prompts", "groups.keys", "head.weight"}}


def small_model(dtype: torch.dtype = torch.float32) -> LPT:
    torch.manual_seed(3)
    model = LPT(FrozenViT(small_vit(dtype=dtype)), len(COUNTS), prompt_length=2, pool_size=5, top_k=2).to(dtype)
    with torch.no_grad():
        for tensor in (model.shared.tokens, model.groups.prompts, model.groups.keys):
            tensor.normal_()
    return model


def training_images() -> LabelledImages:
    labels = np.repeat(np.arange(len(COUNTS)), COUNTS)
    pixels = np.zeros((len(labels), 8, 8), dtype=np.uint8)
    return LabelledImages(ArrayImages(pixels), np.arange(len(labels)), labels, ("a", "b", "c"))


def plan_of(phase: int, **changes: Any) -> PhasePlan:
    settings = PhaseConfig(epochs=2, optimizer=changes.pop("optimizer", "sgd"), lr=2.0, warmup_epochs=0)
    values: dict[str, Any] = dict(epoch_steps=3, batch_size=len(LABELS), micro_batch=2, seed=11, loss=LossConfig())
    return PhasePlan(phase=phase, settings=settings, **{**values, **changes})


def stream_batches(steps: int) -> list[dict[str, ImageBatch]]:
    generator = torch.Generator().manual_seed(1)

    def batch() -> ImageBatch:
        images = torch.randint(0, 256, (len(LABELS), 3, 24, 24), generator=generator, dtype=torch.uint8)
        return ImageBatch(StreamBatch(images, LABELS), PREPROCESSING)

    return [{"balanced": batch(), "instance": batch()} for _ in range(steps)]


def train(model: LPT, plan: PhasePlan) -> list[StepRecord]:
    objective = build_objective(model, training_images(), RunConfig(loss=plan.loss), plan.phase)
    optimizer = build_optimizer(objective.trainable(), plan.settings)
    records: list[StepRecord] = []
    train_steps(
        objective,
        optimizer,
        iter(stream_batches(plan.steps)),
        plan,
        first_step=0,
        after_step=lambda record, stopping: records.append(record),
    )
    return records
