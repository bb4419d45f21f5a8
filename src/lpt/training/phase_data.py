"""The data of a run's phases: plans, samplers, batches and prefix caches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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
from lpt.training.prefix_cache import Draws, PrefixCache, Shape, cached_batches

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def phase_plan(config: RunConfig, phase: int) -> PhasePlan:
    """Return the plan of a phase of a resolved configuration."""
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
    """Return the batch size of a forward pass outside of steps: no more crops than a step holds in memory.

    Args:
        config: resolved.
        views: crops of each image.
    """
    return max(min(config.train.batch_size, int(config.train.micro_batch)) // views, 1)


def cached_shape(backbone: FrozenViT, config: RunConfig) -> Shape:
    """Return the shape of what the prefix cache keeps of a view."""
    return Shape(backbone.tokens, backbone.width, _DTYPES[str(config.prefix_cache.dtype)])


class PrefixCacheSize(NamedTuple):
    """Upper bounds for the prefix caches of all processes together."""

    views: int
    bytes: int


def prefix_cache_size(images: LabelledImages, backbone: FrozenViT, config: RunConfig) -> PrefixCacheSize:
    """Return the bounds: every view of every image, or one view for each draw of phase 2 if these are fewer."""
    plan = phase_plan(config, 2)
    views = min(len(images) * config.prefix_cache.views, plan.steps * config.step_draws)
    return PrefixCacheSize(views, views * cached_shape(backbone, config).stored_bytes)


@dataclass(frozen=True)
class PhaseData:
    """The training data of a run, from which each phase gets its batches.

    Methods take the plan of a phase, since callers may change it: a resumed run has a smaller micro-batch, a dry run
    fewer steps.

    Args:
        images: the training split.
        config: resolved.
        preprocessing: how images are cropped, resized and normalised.
        processes: those that share each batch.
    """

    images: LabelledImages
    config: RunConfig
    preprocessing: Preprocessing
    processes: Processes = ALONE

    def plan(self, phase: int) -> PhasePlan:
        """Return the plan of a phase as configured."""
        return phase_plan(self.config, phase)

    def samplers(self, plan: PhasePlan) -> dict[str, Sampler]:
        """Return the sampler of each stream; a stream is named after how it draws."""
        per_class, beta = self.config.train.images_per_class, self.config.loss.effective_beta
        return {
            stream: new_sampler(stream, self.images.labels, per_class, plan.seed, plan.phase, stream, beta=beta)
            for stream in self.config.streams
        }

    def batches(self, plan: PhasePlan, first_step: int = 0) -> Batches:
        """Yield this process's part of the batches of all streams, from `first_step` to the end of the phase."""
        loaded = train_batches(
            self.images,
            self.samplers(plan),
            batch_size=plan.batch_size,
            preprocessing=self.preprocessing,
            seed=(plan.seed, plan.phase),
            first_step=first_step,
            last_step=plan.steps,
            workers=int(self.config.runtime.workers),
            pin_memory=self.config.runtime.device == "cuda",
            positions=self.processes.share(plan.batch_size),
            whole=suits_device_crops(self.images, self.preprocessing, torch.device(str(self.config.runtime.device))),
        )
        for batches in loaded:
            yield {stream: ImageBatch(batch, self.preprocessing) for stream, batch in batches.items()}

    def draws(self, plan: PhasePlan) -> Draws:
        """Return which cached view each draw of this process shows."""
        return Draws(
            self.samplers(plan),
            self.config.prefix_cache.views,
            plan.batch_size,
            self.processes.share(plan.batch_size),
            (plan.seed, plan.phase),
        )

    def cached_batches(self, plan: PhasePlan, cache: PrefixCache, first_step: int = 0) -> Batches:
        """Yield what `batches` does, but from a filled prefix cache."""
        return cached_batches(cache, self.draws(plan), self.images.labels, first_step, plan.steps)

    def filled_cache(
        self,
        model: LPT,
        plan: PhasePlan,
        *,
        file: Path | None = None,
        show: Callable[[int], Callable[[int], None]] = lambda total: lambda done: None,
    ) -> PrefixCache:
        """Compute the frozen part of every view that a plan of phase 2 draws in this process.

        Args:
            model: as phase 1 left it.
            plan: of phase 2.
            file: where to keep the cache, and what to go on from; None: in memory.
            show: called with the number of views; returns the callback for the number done.

        Raises:
            RunError: the file cannot be written.
        """
        views, num_images = self.config.prefix_cache.views, len(self.images)
        with self.processes.local():
            cache = PrefixCache(
                self.draws(plan).distinct(num_images, plan.steps),
                num_images * views,
                cached_shape(model.backbone, self.config),
                int(self.config.train.micro_batch),  # the plan's may be halved; all batches of a file have one size
                file=file,
                identity=self._cache_identity(model, plan),
            )
            cache.fill(
                model,
                self.images,
                self.preprocessing,
                views=views,
                seed=plan.seed,
                workers=int(self.config.runtime.workers),
                progress=show(len(cache.numbers)),
            )
        return cache

    def _cache_identity(self, model: LPT, plan: PhasePlan) -> str:
        """Return a text that differs when the cached numbers would: weights, precision, seed, preprocessing."""
        frozen = sha256()
        for tensor in (tensor for part in model.shared_parts for tensor in part.parameters()):
            frozen.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        weights = (frozen.hexdigest(), model.backbone.weight_hash)
        return f"{weights} {self.config.runtime.precision} {plan.seed} {self.preprocessing.model_dump_json()}"
