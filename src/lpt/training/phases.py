"""The phases of a method, one after the other, from wherever the last checkpoint stands."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TextIO, TypeVar

from torch import Tensor

from lpt.config.schema import RunConfig
from lpt.data.manifest import Float32Array, LabelledImages
from lpt.data.transforms import Preprocessing
from lpt.errors import RunError
from lpt.losses import (
    LongTailedLoss,
)
from lpt.losses.build import new_loss, probe_tau
from lpt.model import LPT, Classifier, TunedViT
from lpt.system.interrupt import Interrupted, StopRequest
from lpt.system.processes import Processes
from lpt.training.batches import Batches
from lpt.training.callbacks import Callback
from lpt.training.checkpoint import (
    Position,
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
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
from lpt.training.loop import PhasePlan, StepRecord, train_steps
from lpt.training.objective import PhaseObjective
from lpt.training.phase_data import (
    filled_prefix_cache,
    images_at_once,
    phase_batches,
    phase_draws,
    phase_plan,
)
from lpt.training.prefix_cache import PrefixCache, kept_batches
from lpt.training.schedule import build_optimizer

PHASES = (1, 2)
T = TypeVar("T")


@dataclass(frozen=True)
class Trainer:
    """Trains a model through its phases, saving checkpoints and going on from one that is there.

    Args:
        model: on the device; its tensors are replaced by the checkpoint's.
        images: the training split.
        config: resolved.
        preprocessing: as the pack will record it.
        folder: where the log and checkpoints go.
        callback: told of progress.
        stop: looked at after every step.
        processes: those that train together; all hold the same model, the first one writes.
    """

    model: Classifier
    images: LabelledImages
    config: RunConfig
    preprocessing: Preprocessing
    folder: RunFolder
    callback: Callback
    stop: StopRequest
    processes: Processes

    def run(self) -> None:
        """Train until both phases are done.

        Raises:
            Interrupted: a stop was requested; the state is saved.
            RunError: a loss or gradient is not finite, or a file cannot be written.
        """
        position, optimizer_state = self._restore()
        if position is None:
            self._timed("prompts", self._start_prompts)
            self._timed("head", self._start_head)
            position = Position(1, 0, None)
        for phase in PHASES:
            plan = phase_plan(self.config, phase)
            first_step = position.step if phase == position.phase else 0
            if phase < position.phase or first_step == plan.steps:
                continue
            if phase == position.phase and position.micro_batch is not None:  # as far as it was halved before
                plan = replace(plan, micro_batch=position.micro_batch)
            if phase == 2 and first_step == 0:
                self._timed("keys", self._start_groups)
            self._run_phase(plan, first_step, optimizer_state if first_step else {})
        if self.processes.is_main:
            self.folder.remove_prefix_caches()

    def _restore(self) -> tuple[Position | None, dict[str, Tensor]]:
        """Put the checkpoint's tensors into the model and rewind the log to it; no position if there is none."""
        saved = self.processes.on_main(self._saved)
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
        """Do a part of training outside of its steps and note what it took."""
        begun = time.perf_counter()
        result = work()
        if self.processes.is_main:
            self.folder.note_seconds(part, time.perf_counter() - begun)
        return result

    def _start_prompts(self) -> None:
        shared = self.model.shared
        if shared is None or not shared.tokens.numel() or self.config.model.prompt_init == "random":
            return
        blocks, length, _ = shared.tokens.shape

        def centres() -> Tensor:
            tokens = block_tokens(
                self.model.backbone,
                self.images,
                self.preprocessing,
                self.config.runtime.seed,
                blocks=blocks,
                batch_size=self.config.train.batch_size,
                at_once=images_at_once(self.config),
                progress=self._progress("image tokens", min(TOKEN_IMAGES, len(self.images))),
            )
            return token_centres(tokens, length, self.config.runtime.seed)

        shared.tokens.data.copy_(self.processes.on_main(centres))

    def _start_head(self) -> None:
        start = self.config.model.head_init
        if start == "random":
            return
        model = self.model
        encode = model.plain_features if isinstance(model, TunedViT) else model.backbone.features
        features = self._features(encode, start.replace("_", " "))
        if start == "class_means":
            head_from_class_means(self.model, features, self.images.labels)
        else:
            tau = probe_tau(self.config.loss)
            head_from_probe(self.model, features, self.images.labels, tau=tau, seed=self.config.runtime.seed)

    def _start_groups(self) -> None:
        model, settings = self.model, self.config.model
        assert isinstance(model, LPT)
        if settings.group_init == "shared":
            groups_from_shared(model)
        if settings.key_init == "kmeans":
            keys_from_queries(model, self._features(model.query, "keys"), self.config.runtime.seed)

    def _features(self, encode: Callable[[Tensor], Tensor], purpose: str) -> Float32Array:
        return split_features(
            encode,
            self.model.backbone,
            self.images,
            self.preprocessing,
            batch_size=images_at_once(self.config),
            workers=int(self.config.runtime.workers),
            progress=self._progress(purpose, len(self.images)),
            processes=self.processes,
        )

    def _progress(self, purpose: str, total: int) -> Callable[[int], None]:
        """What shows progress outside of steps and stops when that is asked for."""
        show = self.callback.on_prepare(purpose, total)

        def progress(done: int) -> None:
            show(done)
            if self.stop.requested:
                raise Interrupted(f"stopped at: {purpose}. Go on with: {self.folder.resume_command}")

        return progress

    def _run_phase(self, plan: PhasePlan, first_step: int, optimizer_state: dict[str, Tensor]) -> None:
        objective = build_objective(self.model, self.images, self.config, plan.phase)
        parameters = objective.trainable()
        optimizer = build_optimizer(parameters, plan.settings, self.model.backbone.depth)
        restore_optimizer(optimizer, parameters, optimizer_state)
        with contextlib.ExitStack() as files:
            cache = None
            if plan.phase == 2 and self.config.prefix_cache.views:
                cache = self._timed("prefix cache", lambda: self._prefix_cache(plan))
            batches = self._batches(plan, first_step, cache)
            self.callback.on_phase_begin(plan, first_step)
            log = files.enter_context(self.folder.log.open("a", encoding="utf-8")) if self.processes.is_main else None
            saved_at = time.monotonic()

            def after_step(record: StepRecord, stopping: bool) -> None:
                nonlocal saved_at
                done = record.step + 1
                due = time.monotonic() - saved_at >= self.config.runtime.checkpoint_seconds
                if log is not None:
                    _log(log, record)
                    if done == plan.steps or due or stopping:
                        state = optimizer_tensors(optimizer, parameters)
                        position = Position(plan.phase, done, record.micro_batch)
                        save_checkpoint(self.folder.checkpoints, self.model, state, position)
                        saved_at = time.monotonic()
                self.callback.on_step_end(record)
                if done % plan.epoch_steps == 0:
                    self.callback.on_epoch_end(plan.phase, record.epoch)
                if stopping and not (done == plan.steps and plan.phase == PHASES[-1]):
                    raise Interrupted(
                        f"stopped in phase {plan.phase} after step {record.step}; "
                        f"everything is saved in {self.folder.path}\nGo on with: {self.folder.resume_command}"
                    )

            train_steps(
                objective,
                optimizer,
                batches,
                plan,
                self.processes,
                first_step=first_step,
                after_step=after_step,
                stop=self.stop,
            )
            if cache is not None:
                cache.remove()

    def _batches(self, plan: PhasePlan, first_step: int, cache: PrefixCache | None) -> Batches:
        if cache is None:
            return phase_batches(self.images, self.config, plan, self.preprocessing, first_step, self.processes)
        draws = phase_draws(self.images, self.config, plan, self.processes)
        return kept_batches(cache, draws, self.images.labels, first_step, plan.steps)

    def _prefix_cache(self, plan: PhasePlan) -> PrefixCache:
        assert isinstance(self.model, LPT)
        on_disk = self.config.prefix_cache.store == "disk"
        return filled_prefix_cache(
            self.model,
            self.images,
            self.config,
            plan,
            self.preprocessing,
            self.processes,
            file=self.folder.prefix_cache(self.processes.rank) if on_disk else None,
            show=lambda total: self._progress("prefix cache", total),
        )


def build_objective(model: Classifier, images: LabelledImages, config: RunConfig, phase: int) -> PhaseObjective:
    """The objective of a phase, its losses on the counts of the training split."""
    loss, counts = config.loss, images.class_counts.tolist()
    losses: dict[str, LongTailedLoss] = {stream: new_loss(loss, counts, stream) for stream in config.streams}
    objective = PhaseObjective(model, phase, losses, loss.similarity_weight)
    objective.losses.to(model.head.weight)  # its device, in its precision (MPS has no float64)
    return objective


def _log(file: TextIO, record: StepRecord) -> None:
    try:
        file.write(json.dumps({key: _short(value) for key, value in asdict(record).items()}) + "\n")
        file.flush()
    except OSError as error:
        raise RunError(f"cannot write {file.name}: {error.strerror}. The last checkpoint is intact.") from None


def _short(value: float | int | None) -> float | int | None:
    return float(f"{value:.6g}") if isinstance(value, float) else value
