"""Trainer: runs the phases of a method in order, from the last checkpoint on."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from torch import Tensor

from lpt.config.schema import RunConfig
from lpt.data.manifest import Float32Array, LabelledImages
from lpt.errors import RunError
from lpt.losses import LongTailedLoss
from lpt.losses.build import new_loss
from lpt.model import LPT, Classifier, TunedViT
from lpt.system.interrupt import Interrupted, StopRequest
from lpt.training.callbacks import Callback
from lpt.training.checkpoint import load_checkpoint, restore_optimizer
from lpt.training.folder import RunFolder
from lpt.training.initial import (
    TOKEN_IMAGES,
    block_tokens,
    groups_from_shared,
    head_from_class_means,
    head_from_probe,
    keys_from_queries,
    split_features,
    token_centres,
)
from lpt.training.loop import PhasePlan, train_steps
from lpt.training.objective import PhaseObjective
from lpt.training.phase_data import PhaseData, images_at_once
from lpt.training.position import Position
from lpt.training.prefix_cache import PrefixCache
from lpt.training.recorder import StepRecorder
from lpt.training.schedule import build_optimizer

PHASES = (1, 2)
T = TypeVar("T")


@dataclass(frozen=True)
class Trainer:
    """A training run: takes a model through its phases, saves checkpoints and goes on from the last one.

    Args:
        model: on the device; a checkpoint replaces its tensors.
        data: images, configuration and processes. All processes hold the same model, the main one writes.
        folder: where log and checkpoints go.
        callback: shows progress.
        stop: checked after every step.
        keep_micro_batch: go on with the micro-batch that the last checkpoint was trained with, not the configured one.
    """

    model: Classifier
    data: PhaseData
    folder: RunFolder
    callback: Callback
    stop: StopRequest
    keep_micro_batch: bool = True

    @property
    def config(self) -> RunConfig:
        """The configuration of the run."""
        return self.data.config

    def run(self) -> None:
        """Train until both phases are done.

        Raises:
            Interrupted: a stop was requested; the state is saved.
            RunError: a loss or gradient is not finite, a file cannot be written, or the folder is gone.
        """
        try:
            self._run_phases()
        except RunError:
            if self.data.processes.is_main:
                self.folder.check_there()  # if it is gone, that is what the user must know
            raise

    def _run_phases(self) -> None:
        position, optimizer_state = self._restore()
        if position is None:
            self._timed("prompts", self._start_prompts)
            self._timed("head", self._start_head)
            position = Position(1, 0, None)
        for phase in PHASES:
            plan = self.data.plan(phase)
            first_step = position.step if phase == position.phase else 0
            if phase < position.phase or first_step == plan.steps:
                continue
            halved = position.micro_batch if self.keep_micro_batch else None
            if phase == position.phase and halved is not None:  # keep it as small as it was halved to
                plan = replace(plan, micro_batch=halved)
            if phase == 2 and first_step == 0:
                self._timed("keys", self._start_groups)
            self._run_phase(plan, first_step, optimizer_state if first_step else {})
        if self.data.processes.is_main:
            self.folder.remove_prefix_caches()

    def _restore(self) -> tuple[Position | None, dict[str, Tensor]]:
        """Load the checkpoint into the model and cut the log back to it; return no position if there is none."""
        saved = self.data.processes.on_main(self._saved)
        if saved is None:
            return None, {}
        position, tensors, optimizer_state = saved
        try:
            self.model.load_state_dict(tensors)
        except RuntimeError as error:
            raise RunError(
                f"the checkpoint in {self.folder.checkpoints} does not fit {self.folder.config}: {error}. Restore the "
                "configuration the run was started with, or start a new run."
            ) from None
        return position, optimizer_state

    def _saved(self) -> tuple[Position, dict[str, Tensor], dict[str, Tensor]] | None:
        saved = load_checkpoint(self.folder.checkpoints)
        self.folder.rewind_log(Position(1, 0, None) if saved is None else saved[0])
        return saved

    def _timed(self, part: str, work: Callable[[], T]) -> T:
        """Do a part of training outside of the steps and note its seconds in the run folder."""
        start = time.perf_counter()
        result = work()
        if self.data.processes.is_main:
            self.folder.note_seconds(part, time.perf_counter() - start)
        return result

    def _start_prompts(self) -> None:
        shared, data, seed = self.model.shared, self.data, self.config.runtime.seed
        if shared is None or not shared.tokens.numel() or self.config.model.prompt_init == "random":
            return
        blocks, length, _ = shared.tokens.shape

        def centres() -> Tensor:
            tokens = block_tokens(
                self.model.backbone,
                data.images,
                data.preprocessing,
                seed,
                blocks=blocks,
                batch_size=self.config.train.batch_size,
                at_once=images_at_once(self.config),
                progress=self._progress("image tokens", min(TOKEN_IMAGES, len(data.images))),
            )
            return token_centres(tokens, length, seed)

        shared.tokens.data.copy_(data.processes.on_main(centres))

    def _start_head(self) -> None:
        start, labels = self.config.model.head_init, self.data.images.labels
        if start == "random":
            return
        model = self.model
        encode = model.plain_features if isinstance(model, TunedViT) else model.backbone.features
        features = self._features(encode, start.replace("_", " "))
        if start == "class_means":
            head_from_class_means(model, features, labels)
        else:
            tau = self.config.loss.adjustment
            head_from_probe(model, features, labels, tau=tau, seed=self.config.runtime.seed)

    def _start_groups(self) -> None:
        model, settings = self.model, self.config.model
        assert isinstance(model, LPT)
        if settings.group_init == "shared":
            groups_from_shared(model)
        if settings.key_init == "kmeans":
            keys_from_queries(model, self._features(model.query, "keys"), self.config.runtime.seed)

    def _features(self, encode: Callable[[Tensor], Tensor], purpose: str) -> Float32Array:
        """Return features of all training images, [n, D]."""
        return split_features(
            encode,
            self.model.backbone,
            self.data.images,
            self.data.preprocessing,
            batch_size=images_at_once(self.config),
            workers=int(self.config.runtime.workers),
            progress=self._progress(purpose, len(self.data.images)),
            processes=self.data.processes,
        )

    def _progress(self, purpose: str, total: int) -> Callable[[int], None]:
        """Return a function of the number done that shows it, and raises `Interrupted` if a stop was requested."""
        show = self.callback.on_prepare(purpose, total)

        def progress(done: int) -> None:
            show(done)
            if self.stop.requested:
                raise Interrupted(f"stopped at: {purpose}. Go on with: {self.folder.resume_command}")

        return progress

    def _run_phase(self, plan: PhasePlan, first_step: int, optimizer_state: dict[str, Tensor]) -> None:
        """Train the steps of a phase from `first_step` on."""
        data = self.data
        objective = build_objective(self.model, data.images, self.config, plan.phase)
        parameters = objective.trainable()
        optimizer = build_optimizer(parameters, plan.settings, self.model.backbone.depth)
        restore_optimizer(optimizer, parameters, optimizer_state)
        cache = None
        if plan.phase == 2 and self.config.prefix_cache.views:
            cache = self._timed("prefix cache", lambda: self._prefix_cache(plan))
        batches = data.batches(plan, first_step) if cache is None else data.cached_batches(plan, cache, first_step)
        self.callback.on_phase_begin(plan, first_step)
        with StepRecorder(
            plan,
            self.folder,
            self.model,
            optimizer,
            parameters,
            self.callback,
            checkpoint_seconds=self.config.runtime.checkpoint_seconds,
            is_main=data.processes.is_main,
            is_last=plan.phase == PHASES[-1],
        ) as recorder:
            train_steps(
                objective,
                optimizer,
                batches,
                plan,
                data.processes,
                first_step=first_step,
                after_step=recorder.after_step,
                stop=self.stop,
            )
        if cache is not None:
            cache.remove()

    def _prefix_cache(self, plan: PhasePlan) -> PrefixCache:
        assert isinstance(self.model, LPT)
        on_disk = self.config.prefix_cache.store == "disk"
        return self.data.filled_cache(
            self.model,
            plan,
            file=self.folder.prefix_cache(self.data.processes.rank) if on_disk else None,
            show=lambda total: self._progress("prefix cache", total),
        )


def build_objective(model: Classifier, images: LabelledImages, config: RunConfig, phase: int) -> PhaseObjective:
    """Build the objective of a phase; its losses use the class counts of the training split."""
    loss, counts = config.loss, images.class_counts.tolist()
    losses: dict[str, LongTailedLoss] = {stream: new_loss(loss, counts, stream) for stream in config.streams}
    objective = PhaseObjective(model, phase, losses, loss.similarity_weight)
    objective.losses.to(model.head.weight)  # its device, in its precision (MPS has no float64)
    return objective
