"""Train a trial on its splits: each split goes on where a kill left it, to the same model.

Nothing here knows where the search is: what ties a trial to it is a `Link`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from rich.console import Console

from lpt.commands.fit.measure import predict_images, trained_phases
from lpt.commands.fit.prepare import Prepared, with_absolute_paths
from lpt.commands.fit.start import check_unchanged, start_facts
from lpt.commands.tune.links import Link, StoppedError
from lpt.commands.tune.setup import Setup
from lpt.data.longtail import stratified_subset
from lpt.data.manifest import LabelledImages
from lpt.evaluation.metrics import class_accuracies
from lpt.evaluation.tuning import COMPLETE, PRESET, STOPPED, Answers, Score
from lpt.model import Classifier
from lpt.report.progress import ConsoleCallback
from lpt.system.hardware import reproducible
from lpt.system.interrupt import Interrupted, stop_on_signal
from lpt.system.lock import locked_output
from lpt.system.readers import lost_reader_explained
from lpt.training.callbacks import Callback, Callbacks
from lpt.training.checkpoint import begin_phase2
from lpt.training.folder import RunFolder
from lpt.training.loop import PhasePlan
from lpt.training.phase_data import phase_plan
from lpt.training.phases import Trainer
from lpt.training.position import saved_position

TENTHS = 10
"""Accuracies are reported by tenths of the training of a split: trials of different length are then comparable."""
WARMUP_TENTHS = 4
"""Tenths of the training of a split before it can be stopped."""
MOST_AT_EPOCH = 512
"""Most held-out images that are measured at the end of an epoch; all are at the end of a split."""
_SILENT = Console(quiet=True)


class TrialEnd(NamedTuple):
    """How a trial ended: complete with its accuracy and standard error, or stopped for a reason."""

    state: str
    accuracy: float | None
    error: float | None
    why: str


class _EpochCallback(Callback):
    """Measures held-out images after each epoch, and ends a trial that is not worth its time."""

    def __init__(self, setup: Setup, link: Link, prepared: Prepared, split: int) -> None:
        self._setup, self._link, self._prepared, self._split = setup, link, prepared, split
        former = setup.answers(link.number, split) if split else None
        self._former = 0.0 if former is None else setup.accuracy(former).mean
        self._epochs = [phase_plan(prepared.config, phase).settings.epochs for phase in (1, 2)]
        self._begun, self._before = time.monotonic(), link.seconds
        self.model: Classifier | None = None

    def on_step_end(self, record: object) -> None:
        """End the trial if it was told to stop."""
        del record
        self._link.after_step()

    def on_epoch_end(self, phase: int, epoch: int) -> None:
        """Report the accuracy of an epoch.

        Raises:
            StoppedError: half of the other trials were better, or the budget of the trials is used up.
        """
        self.keep_seconds()
        done = epoch + 1 + (self._epochs[0] if phase == 2 else 0)
        if done == sum(self._epochs):
            return
        self._link.check_time()
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
        if done and not rest and not is_shared:
            self._judge(phase, done)

    def _judge(self, phase: int, done: int) -> None:
        """Report the accuracy after so many epochs, unless that was done before a kill."""
        tenth = TENTHS * done // sum(self._epochs)
        step = TENTHS * self._split + tenth
        accuracy = self._link.reported(step)
        if accuracy is None:
            accuracy = (self._split * self._former + self._accuracy(phase)) / (self._split + 1)  # of all splits so far
        may_end = tenth >= WARMUP_TENTHS and self._link.number != PRESET
        self._link.report(step, accuracy, f"epoch {done} of {sum(self._epochs)}" if may_end else "")

    def keep_seconds(self) -> None:
        """Keep the seconds of the trial."""
        self._link.keep_seconds(self._before + time.monotonic() - self._begun)

    def _accuracy(self, phase: int) -> float:
        assert self.model is not None
        images = _some(self._setup.held_out(self._split), self._setup.seed)
        predictions = predict_images(self._prepared, self.model, images, grouped=phase == 2, console=_SILENT)
        predicted = predictions.scores.argmax(axis=1)
        return float(np.nanmean(class_accuracies(predictions.labels, predicted, len(self._setup.counts))))


def train_trial(setup: Setup, link: Link, console: Console) -> TrialEnd:
    """Train a trial on all splits, and return how it ended; what is finished is not trained again.

    Raises:
        Interrupted: a signal came; everything is saved.
        LptError: the trial failed, or another process trains it.
    """
    with locked_output(setup.folder.trial(link.number), lambda line: None):
        try:
            score = _train_splits(setup, link, console)
        except StoppedError as stopped:
            return TrialEnd(STOPPED, None, None, str(stopped))
    return TrialEnd(COMPLETE, score.mean, score.error, "")


def _train_splits(setup: Setup, link: Link, console: Console) -> Score:
    """Train a trial on all splits, and return its accuracy.

    Raises:
        StoppedError: the trial is not worth its time.
    """
    for split in range(setup.plan.splits):
        if setup.folder.answers(link.number, split) is None:
            setup.folder.write_answers(link.number, split, _train_split(setup, link, split, console))
        answers = setup.answers(link.number, split + 1)
        assert answers is not None
        score = setup.accuracy(answers)
        link.report(TENTHS * (split + 1), score.mean)
        rival = None if link.number == PRESET else setup.answers(PRESET, split + 1)
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


def _train_split(setup: Setup, link: Link, split: int, console: Console) -> Answers:
    """Train a trial on a split, and return its answers for all held-out images."""
    prepared, run = setup.prepared(link.values, split), setup.folder.trial_run(link.number, split)
    start = setup.folder.phase1(split) if setup.plan.search == "phase2" else None
    watch = _EpochCallback(setup, link, prepared, split)
    with reproducible(int(prepared.config.runtime.threads)):
        model = watch.model = prepared.new_model()
        begin = None if start is None else lambda: _begin_phase2(prepared, run, start, model)
        train(prepared, run, model, watch, console, begin=begin)
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
        run: its folder. The lock of the trial, or of this folder, keeps others out.
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


def train_phase1(setup: Setup, split: int, console: Console) -> None:
    """Train the phase 1 of a split that all trials of a search of phase 2 share, or go on with it.

    Args:
        setup: of the search.
        split: number of the split.
        console: shows progress on a terminal.

    Raises:
        Interrupted: a signal came; everything is saved.
        LptError: it failed, or another process trains it.
    """
    prepared, run = _phase1(setup, split), setup.folder.phase1(split)
    with locked_output(run.path, lambda line: None), reproducible(int(prepared.config.runtime.threads)):
        train(prepared, run, prepared.new_model(), Callback(), console)


def has_phase1(setup: Setup, split: int) -> bool:
    """Return whether the shared phase 1 of a split is trained to its end."""
    run = setup.folder.phase1(split)
    position = saved_position(run.checkpoints) if run.begun else None
    return position is not None and position[:2] == (1, phase_plan(_phase1(setup, split).config, 1).steps)


def _phase1(setup: Setup, split: int) -> Prepared:
    return setup.prepared({"train.phase2.epochs": 0}, split)


def _begin_phase2(prepared: Prepared, run: RunFolder, start: RunFolder, model: Classifier) -> None:
    steps = phase_plan(prepared.config, 1).steps
    begin_phase2(run.checkpoints, start.checkpoints, model, steps)


def _some(images: LabelledImages, seed: int) -> LabelledImages:
    """Return at most `MOST_AT_EPOCH` of the images, of all classes."""
    return images.subset(stratified_subset(images.labels, MOST_AT_EPOCH, seed))
