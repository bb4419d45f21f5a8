"""Both phases, one after the other, from wherever the last checkpoint stands."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TextIO

from accelerate import Accelerator
from torch import Tensor

from lpt.config import LossConfig, RunConfig
from lpt.data.loading import StreamBatch, train_batches
from lpt.data.manifest import LabelledImages
from lpt.data.sampling import ClassBalanced, InstanceBalanced, Sampler
from lpt.data.transforms import Preprocessing
from lpt.errors import RunError
from lpt.losses import AsymmetricGCL
from lpt.model import LPT
from lpt.training.checkpoint import (
    Position,
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from lpt.training.folder import RunFolder
from lpt.training.initial import FloatArray, head_from_class_means, keys_from_queries, split_features
from lpt.training.interrupt import Interrupted, StopRequest
from lpt.training.loop import PhasePlan, StepRecord, train_steps
from lpt.training.objective import PhaseObjective
from lpt.training.schedule import build_optimizer

PHASES = (1, 2)


class Listener:
    """What training tells on its way; every method may be left as it is."""

    def phase_begins(self, plan: PhasePlan, first_step: int) -> None:
        """A phase starts or goes on at a step."""

    def step_done(self, record: StepRecord) -> None:
        """A step is done and logged."""

    def epoch_done(self, phase: int, epoch: int) -> None:
        """The last step of an epoch is done."""

    def preparing(self, what: str) -> Callable[[int], None]:
        """A pass over the training images starts; the result is called with the number done."""
        del what
        return lambda done: None


class Listeners(Listener):
    """Several listeners as one; a preparing pass is shown by the first."""

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self._listeners = listeners

    def phase_begins(self, plan: PhasePlan, first_step: int) -> None:
        """Tell all."""
        for listener in self._listeners:
            listener.phase_begins(plan, first_step)

    def step_done(self, record: StepRecord) -> None:
        """Tell all."""
        for listener in self._listeners:
            listener.step_done(record)

    def epoch_done(self, phase: int, epoch: int) -> None:
        """Tell all."""
        for listener in self._listeners:
            listener.epoch_done(phase, epoch)

    def preparing(self, what: str) -> Callable[[int], None]:
        """Tell the first."""
        return self._listeners[0].preparing(what)


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
    )


@dataclass(frozen=True)
class Trainer:
    """Trains a model through both phases, saving checkpoints and going on from one that is there.

    Args:
        model: on the device; its tensors are replaced by the checkpoint's.
        images: the training split.
        config: resolved.
        preprocessing: as the pack will record it.
        accelerator: device and backward.
        folder: where the log and checkpoints go.
        listener: told of progress.
        stop: looked at after every step.
    """

    model: LPT
    images: LabelledImages
    config: RunConfig
    preprocessing: Preprocessing
    accelerator: Accelerator
    folder: RunFolder
    listener: Listener
    stop: StopRequest

    def run(self) -> None:
        """Train until both phases are done.

        Raises:
            Interrupted: a stop was requested; the state is saved.
            RunError: a loss or gradient is not finite, or a file cannot be written.
        """
        position, optimizer_state = self._restore()
        if position is None:
            self._start_head()
            position = Position(1, 0)
        for phase in PHASES:
            plan = phase_plan(self.config, phase)
            if phase < position.phase or plan.steps == 0:
                continue
            first_step = position.step if phase == position.phase else 0
            if phase == 2 and first_step == 0:
                self._start_keys()
            self._run_phase(plan, first_step, optimizer_state if first_step else {})

    def _restore(self) -> tuple[Position | None, dict[str, Tensor]]:
        """Put the checkpoint's tensors into the model and rewind the log to it; no position if there is none."""
        saved = load_checkpoint(self.folder.checkpoints)
        self.folder.rewind_log(Position(1, 0) if saved is None else saved[0])
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

    def _start_head(self) -> None:
        if self.config.model.head_init == "class_means":
            features = self._features(self.model.backbone.features, "class means")
            head_from_class_means(self.model, features, self.images.labels)

    def _start_keys(self) -> None:
        if self.config.model.key_init == "kmeans":
            keys_from_queries(self.model, self._features(self.model.query, "keys"), self.config.runtime.seed)

    def _features(self, encode: Callable[[Tensor], Tensor], purpose: str) -> FloatArray:
        show = self.listener.preparing(purpose)

        def progress(done: int) -> None:
            show(done)
            if self.stop.requested:
                raise Interrupted(f"stopped before training. Go on with: lpt fit --resume {self.folder.path}")

        return split_features(
            encode,
            self.model.backbone,
            self.images,
            self.preprocessing,
            batch_size=self.config.train.batch_size,
            workers=int(self.config.runtime.workers),
            progress=progress,
        )

    def _run_phase(self, plan: PhasePlan, first_step: int, optimizer_state: dict[str, Tensor]) -> None:
        objective = build_objective(self.model, self.images, self.config.loss, plan.phase)
        parameters = objective.trainable()
        optimizer = build_optimizer(parameters.values(), plan.settings)
        restore_optimizer(optimizer, parameters, optimizer_state)
        batches = phase_batches(self.images, self.config, plan, self.preprocessing, first_step)
        self.listener.phase_begins(plan, first_step)
        saved_at = time.monotonic()

        def after_step(record: StepRecord) -> None:
            nonlocal saved_at
            _log(log, record)
            done = record.step + 1
            due = time.monotonic() - saved_at >= self.config.runtime.checkpoint_seconds
            if done == plan.steps or due or self.stop.requested:
                state = optimizer_tensors(optimizer, parameters)
                save_checkpoint(self.folder.checkpoints, self.model, state, Position(plan.phase, done))
                saved_at = time.monotonic()
            self.listener.step_done(record)
            if done % plan.epoch_steps == 0:
                self.listener.epoch_done(plan.phase, record.epoch)
            if self.stop.requested and not (done == plan.steps and plan.phase == PHASES[-1]):
                raise Interrupted(
                    f"stopped in phase {plan.phase} after step {record.step}; "
                    f"everything is saved in {self.folder.path}\nGo on with: lpt fit --resume {self.folder.path}"
                )

        with self.folder.log.open("a", encoding="utf-8") as log:
            train_steps(
                objective,
                optimizer,
                batches,
                plan,
                self.preprocessing,
                self.accelerator,
                first_step=first_step,
                after_step=after_step,
            )


def build_objective(model: LPT, images: LabelledImages, loss: LossConfig, phase: int) -> PhaseObjective:
    """The objective of a phase, with A-GCL for both streams on the counts of the training split."""
    gammas = {"balanced": loss.gamma_balanced, "instance": loss.gamma_instance}
    counts = images.class_counts.tolist()
    losses = {
        stream: AsymmetricGCL(counts, *gamma, loss.scale, loss.margin, loss.noise, loss.label_smoothing)
        for stream, gamma in gammas.items()
    }
    objective = PhaseObjective(model, phase, losses, loss.similarity_weight)
    objective.losses.to(model.head.weight)  # its device, in its precision (MPS has no float64)
    return objective


def phase_batches(
    images: LabelledImages, config: RunConfig, plan: PhasePlan, preprocessing: Preprocessing, first_step: int
) -> Iterator[dict[str, StreamBatch]]:
    """The batches of both streams from a step on; without instance weight only the balanced stream is drawn."""
    seed = (plan.seed, plan.phase)
    samplers: dict[str, Sampler] = {
        "balanced": ClassBalanced(images.labels, config.train.images_per_class, *seed, "balanced")
    }
    if config.loss.instance_weight > 0:
        samplers["instance"] = InstanceBalanced(len(images), *seed, "instance")
    return train_batches(
        images,
        samplers,
        batch_size=plan.batch_size,
        preprocessing=preprocessing,
        seed=seed,
        first_step=first_step,
        last_step=plan.steps,
        workers=int(config.runtime.workers),
        pin_memory=config.runtime.device == "cuda",
    )


def _log(file: TextIO, record: StepRecord) -> None:
    try:
        file.write(json.dumps({key: _short(value) for key, value in asdict(record).items()}) + "\n")
        file.flush()
    except OSError as error:
        raise RunError(f"cannot write {file.name}: {error.strerror}. The last checkpoint is intact.") from None


def _short(value: float | int | None) -> float | int | None:
    return float(f"{value:.6g}") if isinstance(value, float) else value
