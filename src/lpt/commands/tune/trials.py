"""Train a trial on its splits: each split goes on where a kill left it, to the same model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from rich.console import Console

from lpt.commands.fit.measure import predict_images, trained_phases
from lpt.commands.fit.prepare import Prepared, with_absolute_paths
from lpt.commands.fit.start import check_unchanged, start_facts
from lpt.commands.tune.setup import Setup
from lpt.commands.tune.study import Candidate
from lpt.data.longtail import stratified_subset
from lpt.data.manifest import LabelledImages
from lpt.evaluation.metrics import class_accuracies
from lpt.evaluation.tuning import PRESET, Answers, Score
from lpt.model import Classifier
from lpt.report.progress import ConsoleCallback
from lpt.system.hardware import reproducible
from lpt.system.interrupt import Interrupted, stop_on_signal
from lpt.system.readers import lost_reader_explained
from lpt.training.callbacks import Callback, Callbacks
from lpt.training.checkpoint import Position, begin_phase2, saved_position
from lpt.training.folder import RunFolder
from lpt.training.loop import PhasePlan
from lpt.training.phase_data import phase_plan
from lpt.training.phases import Trainer

TENTHS = 10
"""Accuracies are reported by tenths of the training of a split: trials of different length are then comparable."""
WARMUP_TENTHS = 4
"""Tenths of the training of a split before it can be stopped."""
MOST_AT_EPOCH = 512
"""Most held-out images that are measured at the end of an epoch; all are at the end of a split."""
_SILENT = Console(quiet=True)


class StoppedError(Exception):
    """A trial is not worth its time; the message says why."""


class OutOfTimeError(Exception):
    """The budget of the trials is used up."""


@dataclass(frozen=True)
class Limits:
    """When a trial ends early.

    Args:
        deadline: seconds of the clock at which the budget of the trials ends; never for the preset.
        rival: returns the preset's answers for the first splits.
    """

    deadline: float
    rival: Callable[[int], Answers | None]


class _EpochCallback(Callback):
    """Measures held-out images after each epoch, and ends a trial that is not worth its time."""

    def __init__(self, setup: Setup, candidate: Candidate, limits: Limits, prepared: Prepared, split: int) -> None:
        self._setup, self._candidate, self._limits = setup, candidate, limits
        self._prepared, self._split = prepared, split
        former = setup.answers(candidate.number, split) if split else None
        self._former = 0.0 if former is None else setup.accuracy(former).mean
        self._epochs = [phase_plan(prepared.config, phase).settings.epochs for phase in (1, 2)]
        self._begun, self._before = setup.clock.seconds, candidate.seconds
        self.model: Classifier | None = None

    def on_step_end(self, record: object) -> None:
        """Keep the time."""
        del record
        self._setup.clock.tick()

    def on_epoch_end(self, phase: int, epoch: int) -> None:
        """Report the accuracy of an epoch.

        Raises:
            StoppedError: half of the other trials were better.
            OutOfTimeError: the budget of the trials is used up.
        """
        self.keep_seconds()
        done = epoch + 1 + (self._epochs[0] if phase == 2 else 0)
        if done == sum(self._epochs):
            return
        if self._candidate.number != PRESET and self._setup.clock.seconds > self._limits.deadline:
            raise OutOfTimeError
        self._judge(phase, done)

    def on_phase_begin(self, plan: PhasePlan, first_step: int) -> None:
        """Judge the last epoch of a trial that goes on, in case a kill came between its checkpoint and its judgement.

        Raises:
            StoppedError: half of the other trials were better.
        """
        epochs, rest = divmod(first_step, plan.epoch_steps)
        phase = 2 if plan.phase == 2 and epochs else 1
        done = epochs + (self._epochs[0] if plan.phase == 2 else 0)
        is_shared = phase == 1 and self._setup.plan.search == "phase2"
        if self._candidate.resumed and done and not rest and not is_shared:
            self._judge(phase, done)

    def _judge(self, phase: int, done: int) -> None:
        tenth = TENTHS * done // sum(self._epochs)
        step = TENTHS * self._split + tenth
        accuracy = self._candidate.reported(step)
        if accuracy is None:
            accuracy = (self._split * self._former + self._accuracy(phase)) / (self._split + 1)  # of all splits so far
            self._candidate.report(step, accuracy)
        if tenth >= WARMUP_TENTHS and self._candidate.number != PRESET and self._candidate.lags():
            raise StoppedError(
                f"after epoch {done} of {sum(self._epochs)} it was worse than half of the trials were ("
                f"{100 * accuracy:.1f})"
            )

    def keep_seconds(self) -> None:
        """Keep the seconds of the trial."""
        self._candidate.keep_seconds(self._before + self._setup.clock.seconds - self._begun)

    def _accuracy(self, phase: int) -> float:
        assert self.model is not None
        images = _some(self._setup.held_out(self._split), self._setup.seed)
        predictions = predict_images(self._prepared, self.model, images, grouped=phase == 2, console=_SILENT)
        predicted = predictions.scores.argmax(axis=1)
        return float(np.nanmean(class_accuracies(predictions.labels, predicted, len(self._setup.counts))))


def train_trial(setup: Setup, candidate: Candidate, limits: Limits) -> Score:
    """Train a trial on all splits, and return its accuracy; what is finished is not trained again.

    Raises:
        StoppedError: the trial is not worth its time.
        OutOfTimeError: the budget of the trials is used up.
        Interrupted: a signal came; everything is saved.
        LptError: the trial failed.
    """
    for split in range(setup.plan.splits):
        if setup.folder.answers(candidate.number, split) is None:
            setup.folder.write_answers(candidate.number, split, _train_split(setup, candidate, limits, split))
            setup.clock.keep()
        answers = setup.answers(candidate.number, split + 1)
        assert answers is not None
        score = setup.accuracy(answers)
        candidate.report(TENTHS * (split + 1), score.mean)
        rival = None if candidate.number == PRESET else limits.rival(split + 1)
        if rival is not None and split + 1 < setup.plan.splits:
            _check_worth(setup.lead(answers, rival), split + 1, setup.plan.splits)
    return score


def _check_worth(lead: Score, done: int, splits: int) -> None:
    """Raise `StoppedError` if a trial is worse than the preset by more than a standard error after some splits."""
    if lead.error is not None and -lead.mean > lead.error:
        raise StoppedError(
            f"after split {done} of {splits} it was worse than the preset by {-100 * lead.mean:.1f}, more than one "
            f"standard error ({100 * lead.error:.1f})"
        )


def _train_split(setup: Setup, candidate: Candidate, limits: Limits, split: int) -> Answers:
    """Train a trial on a split, and return its answers for all held-out images."""
    prepared, run = setup.prepared(candidate.values, split), setup.folder.trial_run(candidate.number, split)
    start = shared_phase1(setup, split) if setup.plan.search == "phase2" else None
    watch = _EpochCallback(setup, candidate, limits, prepared, split)
    with reproducible(int(prepared.config.runtime.threads)):
        model = watch.model = prepared.new_model()
        begin = None if start is None else lambda: _begin_phase2(prepared, run, start, model)
        train(prepared, run, model, watch, setup.console, begin=begin)
        images = setup.held_out(split)
        grouped = 2 in trained_phases(prepared)
        predictions = predict_images(prepared, model, images, grouped=grouped, console=_SILENT)
    watch.keep_seconds()
    return Answers(predictions.labels, predictions.scores.argmax(axis=1).astype(np.int64))


def train(
    prepared: Prepared,
    run: RunFolder,
    model: Classifier,
    watch: Callback,
    console: Console,
    *,
    begin: Callable[[], None] | None = None,
) -> None:
    """Train a model in a run folder of its own, or go on with it; no pack is written.

    Args:
        prepared: the run.
        run: its folder. The lock of the search keeps others out.
        model: on the device.
        watch: called at every step and epoch.
        console: shows progress on a terminal.
        begin: called once for a new run, before it is trained.

    Raises:
        Interrupted: a signal came; everything is saved.
    """
    if run.begun:
        check_unchanged(prepared, run, console)
    else:
        RunFolder.create(run.path, start_facts(prepared), overwrite=True)
        if begin is not None:
            begin()
        run.write_config(with_absolute_paths(prepared.config, prepared.splits))  # last: it marks a run that is begun
    shown = ConsoleCallback(console if console.is_terminal else _SILENT, None)
    with stop_on_signal() as stop, shown, lost_reader_explained("Go on with: --set runtime.workers=0"):
        Trainer(model, prepared.phase_data, run, Callbacks([shown, watch]), stop).run()
    if stop.requested:
        raise Interrupted("stopped")


def shared_phase1(setup: Setup, split: int) -> RunFolder:
    """Train the phase 1 of a split that all trials of a search of phase 2 share, unless it is there; return its run.

    Raises:
        Interrupted: a signal came; everything is saved.
    """
    run = setup.folder.phase1(split)
    prepared = setup.prepared({"train.phase2.epochs": 0}, split)
    end = Position(1, phase_plan(prepared.config, 1).steps, None)
    position = saved_position(run.checkpoints) if run.begun else None
    if position is None or position[:2] != end[:2]:
        setup.console.print(f"  phase 1 of split {split + 1}, which all trials share")
        with reproducible(int(prepared.config.runtime.threads)):
            train(prepared, run, prepared.new_model(), _Ticking(setup), setup.console)
    return run


class _Ticking(Callback):
    """Keeps the time while a shared phase 1 trains."""

    def __init__(self, setup: Setup) -> None:
        self._clock = setup.clock

    def on_step_end(self, record: object) -> None:
        """Keep the time."""
        del record
        self._clock.tick()


def _begin_phase2(prepared: Prepared, run: RunFolder, start: RunFolder, model: Classifier) -> None:
    steps = phase_plan(prepared.config, 1).steps
    begin_phase2(run.checkpoints, start.checkpoints, model, steps)


def _some(images: LabelledImages, seed: int) -> LabelledImages:
    """Return at most `MOST_AT_EPOCH` of the images, of all classes."""
    return images.subset(stratified_subset(images.labels, MOST_AT_EPOCH, seed))
