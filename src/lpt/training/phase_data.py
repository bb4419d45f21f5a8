"""What a phase of a configured run is trained on: its plan, its streams, and the batches of a process."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import torch

from lpt.config.schema import RunConfig
from lpt.data.device_crops import suits_device_crops
from lpt.data.loading import train_batches
from lpt.data.manifest import LabelledImages
from lpt.data.sampling import Sampler, new_sampler
from lpt.data.transforms import Preprocessing
from lpt.model import LPT, FrozenViT
from lpt.system.processes import ALONE, Processes
from lpt.training.batches import Batches, ImageBatch
from lpt.training.loop import PhasePlan
from lpt.training.prefix_cache import Draws, PrefixCache, Shape

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def phase_plan(config: RunConfig, phase: int) -> PhasePlan:
    """The numbers of a phase of a resolved configuration."""
    train = config.train
    return PhasePlan(
        phase=phase,
        settings=train.phase1 if phase == 1 else train.phase2,
        loss=config.loss,
        epoch_steps=int(train.epoch_steps),
        batch_size=train.batch_size,
        micro_batch=int(train.micro_batch),
        seed=config.runtime.seed,
        streams=config.streams,
    )


def images_at_once(config: RunConfig, views: int = 1) -> int:
    """Images, of so many crops each, in a forward pass outside of steps: no more than a step has in memory."""
    return max(min(config.train.batch_size, int(config.train.micro_batch)) // views, 1)


def phase_samplers(images: LabelledImages, config: RunConfig, plan: PhasePlan) -> dict[str, Sampler]:
    """A sampler for each stream; streams are named after how they draw."""
    per_class, beta = config.train.images_per_class, config.loss.effective_beta
    return {
        stream: new_sampler(stream, images.labels, per_class, plan.seed, plan.phase, stream, beta=beta)
        for stream in config.streams
    }


def phase_batches(
    images: LabelledImages,
    config: RunConfig,
    plan: PhasePlan,
    preprocessing: Preprocessing,
    first_step: int,
    processes: Processes = ALONE,
) -> Batches:
    """This process's part of the batches of both streams, from a step on."""
    loaded = train_batches(
        images,
        phase_samplers(images, config, plan),
        batch_size=plan.batch_size,
        preprocessing=preprocessing,
        seed=(plan.seed, plan.phase),
        first_step=first_step,
        last_step=plan.steps,
        workers=int(config.runtime.workers),
        pin_memory=config.runtime.device == "cuda",
        positions=processes.share(plan.batch_size),
        whole=suits_device_crops(images, preprocessing, torch.device(str(config.runtime.device))),
    )
    for batches in loaded:
        yield {stream: ImageBatch(batch, preprocessing) for stream, batch in batches.items()}


def phase_draws(images: LabelledImages, config: RunConfig, plan: PhasePlan, processes: Processes = ALONE) -> Draws:
    """Which kept view each draw of this process shows."""
    return Draws(
        phase_samplers(images, config, plan),
        config.prefix_cache.views,
        plan.batch_size,
        processes.share(plan.batch_size),
        (plan.seed, plan.phase),
    )


def kept_shape(backbone: FrozenViT, config: RunConfig) -> Shape:
    """What the prefix cache keeps of a view."""
    return Shape(backbone.tokens, backbone.width, DTYPES[str(config.prefix_cache.dtype)])


class PrefixCacheSize(NamedTuple):
    """The most that the prefix caches of all processes may hold."""

    views: int
    bytes: int


def prefix_cache_size(images: LabelledImages, backbone: FrozenViT, config: RunConfig) -> PrefixCacheSize:
    """At most every view of every image, and at most one view for each draw of phase 2."""
    plan = phase_plan(config, 2)
    most = min(len(images) * config.prefix_cache.views, plan.steps * config.step_draws)
    return PrefixCacheSize(most, most * kept_shape(backbone, config).stored_bytes)


def filled_prefix_cache(
    model: LPT,
    images: LabelledImages,
    config: RunConfig,
    plan: PhasePlan,
    preprocessing: Preprocessing,
    processes: Processes = ALONE,
    *,
    file: Path | None = None,
    show: Callable[[int], Callable[[int], None]] = lambda total: lambda done: None,
) -> PrefixCache:
    """The frozen part of every view that a plan of phase 2 draws in this process.

    Args:
        model: as phase 1 left it.
        images, config, plan, preprocessing, processes: of the run.
        file: where to keep it, and what to go on from; None: in memory.
        show: called with the number of views; gives what is called with the number done.

    Raises:
        RunError: the file cannot be written.
    """
    frozen = sha256()
    for tensor in (tensor for part in model.shared_parts for tensor in part.parameters()):
        frozen.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    weights = (frozen.hexdigest(), model.backbone.weight_hash)
    with processes.local():
        cache = PrefixCache(
            phase_draws(images, config, plan, processes).distinct(len(images), plan.steps),
            len(images) * config.prefix_cache.views,
            kept_shape(model.backbone, config),
            int(config.train.micro_batch),  # not the plan's, halved maybe: a file is of batches of one size
            file=file,
            identity=f"{weights} {config.runtime.precision} {plan.seed} {preprocessing.model_dump_json()}",
        )
        cache.fill(
            model,
            images,
            preprocessing,
            views=config.prefix_cache.views,
            seed=plan.seed,
            workers=int(config.runtime.workers),
            progress=show(len(cache.numbers)),
        )
    return cache
