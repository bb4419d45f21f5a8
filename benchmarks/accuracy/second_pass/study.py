"""A phase 1 on a development set, and second passes from it."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from benchmarks.accuracy.runs import after_phase1, fit_once
from benchmarks.accuracy.second_pass.data import SETS, Development
from benchmarks.accuracy.second_pass.model import SecondPass
from benchmarks.accuracy.second_pass.trials import Trial
from lpt.commands.fit.prepare import Prepared, prepare
from lpt.commands.fit.request import RunRequest
from lpt.data.loading import evaluation_batches
from lpt.data.manifest import IntArray
from lpt.losses.build import new_loss
from lpt.model import LPT, Encoded
from lpt.system.hardware import reproducible
from lpt.training.initial import head_from_class_means
from lpt.training.loop import StepRecord, train_steps
from lpt.training.objective import Chunk, PhaseObjective
from lpt.training.phase_data import PhaseData, cached_shape
from lpt.training.prefix_cache import PrefixCache
from lpt.training.schedule import build_optimizer

PICKS = ("matched", "others", "mean", "none")
"""Which group prompts an image gets when a second pass is measured."""


class FusedObjective(PhaseObjective):
    """The loss of a second pass, on its cosines or on the mean of both passes'."""

    def _scores(self, chunk: Chunk) -> tuple[Tensor, Tensor]:
        assert isinstance(chunk.inputs, Encoded)
        second = cast(SecondPass, self.model)
        opinions = second(chunk.inputs, chunk.feature_mask)
        if second.parts.fused:
            return (opinions.first + opinions.second) / 2, opinions.similarity
        return opinions.second, opinions.similarity


class Study:
    """A data set and a seed.

    Args:
        name: of the data set.
        seed: of the run.
        size: input side, pixels.
        runs: folder of the runs.
    """

    def __init__(self, name: str, seed: int, size: int, runs: Path, settings: tuple[str, ...] = ()) -> None:
        self.name, self.seed, self.size = name, seed, size
        self.folder = runs / f"{name}_{size}_seed{seed}"
        self.development: Development = SETS[name](seed)
        self.settings = (f"image.size={size}", f"runtime.seed={seed}", *settings)

    def train(self, method: str) -> Path:
        """Train phase 1 for its own epochs (`lpt`) or for the draws of both (`lpt-phase1`), and return its pack."""
        alone = () if method == "lpt-phase1" else ("train.phase2.epochs=0",)
        folder = self.folder / method
        return fit_once(self.development.splits, folder, [*self.settings, *alone], method=method).pack

    def prepared(self, trial: Trial) -> Prepared:
        """Return a prepared run of phase 2."""
        request = RunRequest(
            self.development.splits, preset="laptop", method="lpt", settings=[*self.settings, *trial.settings]
        )
        return prepare(request, read_images=False)

    def first(self, prepared: Prepared) -> LPT:
        """Return the model as phase 1 left it."""
        return after_phase1(prepared, self.train("lpt"))

    def data(self, prepared: Prepared) -> PhaseData:
        """Return the data of phase 2, which draws from the kept views."""
        config = prepared.config.model_copy(deep=True)
        config.prefix_cache.views, config.prefix_cache.dtype = self.development.views, "fp16"
        return replace(prepared.phase_data, config=config)

    def cache(self, model: LPT, data: PhaseData) -> PrefixCache:
        """Return the cache of every view of every image; it is kept, since all trials share it."""
        images, views = len(data.images), self.development.views
        cache = PrefixCache(
            np.arange(images * views),
            images * views,
            cached_shape(model.backbone, data.config),
            64,
            file=self.folder / "prefix" / "views.bin",
            identity=data._cache_identity(model, data.plan(2)),
        )
        cache.fill(model, data.images, data.preprocessing, views=views, seed=self.seed, workers=0)
        return cache

    def run(self, trial: Trial) -> dict[str, Any]:
        """Train a second pass and return its cosines for the held-out images."""
        prepared = self.prepared(trial)
        with reproducible(int(prepared.config.runtime.threads)):
            data = self.data(prepared)
            model = self.first(prepared)
            torch.manual_seed(self.seed)
            second = SecondPass(model, trial.parts)
            cache = self.cache(model, data)
            if trial.parts.reads != "class":
                self._start_head(second, cache)
            start = time.perf_counter()
            averaged = self._train(second, data, cache, trial.average)
            seconds = time.perf_counter() - start
            opinions = self._opinions(averaged, prepared, flipped=trial.flipped)
        return {"seconds": seconds, "labels": self.development.held.labels, **opinions}

    @property
    def counts(self) -> IntArray:
        """Training images of each class, [C]."""
        counts = self.development.splits.counts_before_cut
        assert counts is not None
        return counts

    @torch.inference_mode()
    def _start_head(self, second: SecondPass, cache: PrefixCache) -> None:
        """Set the head to the class means of what it sees, as the preset starts phase 1's."""
        labels, views = self.development.splits.train.labels, self.development.views
        features = []
        for rows in np.array_split(np.arange(len(labels)), max(len(labels) // 64, 1)):
            encoded = cache.batch(rows * views, labels[rows]).inputs(slice(None), torch.device("cpu"))
            assert isinstance(encoded, Encoded)
            group = (
                None
                if second.groups is None
                else second.groups.gather(second.groups.match(encoded.query, second.parts.top_k).groups)
            )
            features.append(second.features(encoded.tokens.to(second.first.backbone.dtype), group))
        head_from_class_means(second, torch.cat(features).numpy(), labels)  # type: ignore[arg-type]

    def _train(self, second: SecondPass, data: PhaseData, cache: PrefixCache, average: float) -> SecondPass:
        plan = data.plan(2)
        losses = {
            stream: new_loss(data.config.loss, data.images.class_counts.tolist(), stream)
            for stream in data.config.streams
        }
        weight = data.config.loss.similarity_weight if second.groups is not None else 0.0
        objective = FusedObjective(second, 2, losses, weight)  # type: ignore[arg-type]
        parameters = objective.trainable()
        mean = copy.deepcopy(second) if average else second

        def follow(record: StepRecord, stopping: bool) -> None:
            if average:
                share = max(1 - average, 1 / (record.step + 1))
                with torch.no_grad():
                    for kept, new in zip(mean.parameters(), second.parameters(), strict=True):
                        kept.lerp_(new, share)
            if record.step % 100 == 0:
                print(f"{self.folder.name} step {record.step} loss {record.loss:.3f}", flush=True)

        optimizer = build_optimizer(parameters, plan.settings, second.first.backbone.depth)
        train_steps(objective, optimizer, data.cached_batches(plan, cache), plan, first_step=0, after_step=follow)
        return mean

    def encoded(self, model: LPT, prepared: Prepared, order: IntArray, *, flipped: bool) -> Iterator[Encoded]:
        """Yield the held-out images after block K, in an order that does not go by class, or their mirror images."""
        constants, held = model.shared_constants(), self.development.held.subset(order)
        for batch in evaluation_batches(held, batch_size=64, preprocessing=prepared.preprocessing, workers=0):
            pixels = prepared.preprocessing.normalize(batch.images)
            yield model.encode(pixels.flip(-1) if flipped else pixels, constants=constants)

    @torch.inference_mode()
    def _opinions(self, second: SecondPass, prepared: Prepared, *, flipped: bool) -> dict[str, Any]:
        """Return the cosines of both passes for each held-out image, [n, C].

        Of the second also those with picks that are not the image's own; with `flipped`, those of the mirror image.
        """
        kept: dict[str, list[Tensor]] = {}
        variations = PICKS if second.groups is not None else PICKS[:1]
        shuffled = np.random.default_rng(self.seed).permutation(len(self.development.held))
        for encoded in self.encoded(second.first, prepared, shuffled, flipped=False):
            for picks in variations:
                opinions = second(encoded, picks=picks)
                kept.setdefault("second" if picks == PICKS[0] else f"second, {picks}", []).append(opinions.second)
            kept.setdefault("first", []).append(opinions.first)
        for encoded in self.encoded(second.first, prepared, shuffled, flipped=True) if flipped else ():
            opinions = second(encoded)
            kept.setdefault("second, flipped", []).append(opinions.second)
            kept.setdefault("first, flipped", []).append(opinions.first)
        return {name: torch.cat(parts)[np.argsort(shuffled)].numpy() for name, parts in kept.items()}
