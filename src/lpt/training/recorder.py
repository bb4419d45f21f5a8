"""StepRecorder: log, checkpoint, callbacks and stop after each step of a phase."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Self, TextIO

import torch
from torch import nn

from lpt.errors import RunError
from lpt.model import Classifier
from lpt.system.interrupt import Interrupted
from lpt.training.callbacks import Callback
from lpt.training.checkpoint import optimizer_tensors, save_checkpoint
from lpt.training.folder import RunFolder
from lpt.training.loop import PhasePlan, StepRecord
from lpt.training.position import Position


class StepRecorder:
    """A phase's record: each step is logged, saved when a checkpoint is due, and passed to the callback.

    A context manager: the log is open inside.

    Args:
        plan: of the phase.
        folder: where log and checkpoints go.
        model: its tensors are saved.
        optimizer: its state is saved.
        parameters: what the optimiser trains, by name.
        callback: called after each step and epoch.
        checkpoint_seconds: a checkpoint is due this long after the last.
        is_main: whether this process writes.
        is_last: whether no other phase follows.
    """

    def __init__(
        self,
        plan: PhasePlan,
        folder: RunFolder,
        model: Classifier,
        optimizer: torch.optim.Optimizer,
        parameters: dict[str, nn.Parameter],
        callback: Callback,
        *,
        checkpoint_seconds: float,
        is_main: bool,
        is_last: bool,
    ) -> None:
        self._plan, self._folder, self._callback = plan, folder, callback
        self._model, self._optimizer, self._parameters = model, optimizer, parameters
        self._checkpoint_seconds, self._is_main, self._is_last = checkpoint_seconds, is_main, is_last
        self._log: TextIO | None = None
        self._saved = 0.0

    def __enter__(self) -> Self:
        if self._is_main:
            self._log = self._folder.log.open("a", encoding="utf-8")
        self._saved = time.monotonic()
        return self

    def __exit__(self, *error: object) -> None:
        if self._log is not None:
            self._log.close()

    def after_step(self, record: StepRecord, stopping: bool) -> None:
        """Log a step, save a checkpoint if one is due, and call the callback.

        Args:
            record: of the step.
            stopping: whether a stop was requested in any process.

        Raises:
            Interrupted: a stop was requested before the end of the run; the step is saved.
            RunError: a file cannot be written.
        """
        done = record.step + 1
        if self._log is not None:
            self._folder.check_there()
            _write_line(self._log, record)
            due = time.monotonic() - self._saved >= self._checkpoint_seconds
            if due or stopping or done == self._plan.steps:
                self._save(Position(self._plan.phase, done, record.micro_batch))
        self._callback.on_step_end(record)
        if done % self._plan.epoch_steps == 0:
            self._callback.on_epoch_end(self._plan.phase, record.epoch)
        if stopping and not (self._is_last and done == self._plan.steps):
            raise Interrupted(
                f"stopped in phase {self._plan.phase} after step {record.step}; "
                f"everything is saved in {self._folder.path}\nGo on with: {self._folder.resume_command}"
            )

    def _save(self, position: Position) -> None:
        state = optimizer_tensors(self._optimizer, self._parameters)
        save_checkpoint(self._folder.checkpoints, self._model, state, position)
        self._saved = time.monotonic()


def _write_line(file: TextIO, record: StepRecord) -> None:
    """Write a record as a line of JSON, numbers rounded to six digits."""
    try:
        file.write(json.dumps({key: _rounded(value) for key, value in asdict(record).items()}) + "\n")
        file.flush()
    except OSError as error:
        raise RunError(
            f"cannot write {file.name}: {error.strerror}. The last checkpoint is intact: free some "
            "space, or give back the permission to write, and go on with --resume."
        ) from None


def _rounded(value: float | int | None) -> float | int | None:
    return float(f"{value:.6g}") if isinstance(value, float) else value
