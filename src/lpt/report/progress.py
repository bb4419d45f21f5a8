"""Show the progress of training on a console."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Self

from rich.console import Console
from rich.progress import TaskID

from lpt.report.bars import progress_bar
from lpt.system.text import duration, plural
from lpt.training.callbacks import Callback
from lpt.training.loop import PhasePlan, StepRecord
from lpt.training.objective import instance_weight

LINE_SECONDS = 60.0
"""Where no bar is shown, an epoch that takes longer tells after each such time how far it is."""


class ConsoleCallback(Callback):
    """A callback that shows phases and steps on a console: with a bar on a terminal, with lines anywhere else.

    Args:
        console: where to show them.
        validate: called after each epoch with the phase; returns a text to print. None: no validation.
    """

    def __init__(self, console: Console, validate: Callable[[int], str] | None) -> None:
        self._console = console
        self._validate = validate
        self._bar = progress_bar(console)
        self._task: TaskID | None = None
        self._plan: PhasePlan | None = None
        self._rate = 0.0
        self._loss_sum, self._similarity_sum, self._losses = 0.0, 0.0, 0
        self._info, self._left = "", ""
        self._first_step, self._begun, self._told = 0, 0.0, 0.0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def on_prepare(self, what: str, total: int) -> Callable[[int], None]:
        """Start a bar for a pass over images."""
        task = self._start(what, total, 0)
        return lambda done: self._bar.update(task, completed=done, info="images")

    def on_phase_begin(self, plan: PhasePlan, first_step: int) -> None:
        """Print a line about the phase and start its bar."""
        self._plan = plan
        settings = plan.settings
        batches = "two batches" if len(plan.streams) > 1 else "a batch"
        resumed = f", from step {first_step}" if first_step else ""
        self._console.print(
            f"[bold]Phase {plan.phase}[/bold]: {plural(settings.epochs, 'epoch')} of "
            f"{plural(plan.epoch_steps, 'step')}, {batches} of {plural(plan.batch_size, 'image')}, "
            f"{settings.optimizer}{resumed}"
        )
        self._start(f"phase {plan.phase}", plan.steps, first_step)
        self._first_step, self._begun = first_step, time.monotonic()
        self._told = self._begun

    def on_step_end(self, record: StepRecord) -> None:
        """Advance the bar. Its numbers are means over the steps of this epoch, in a resumed run over those since."""
        if self._task is None or self._plan is None:
            return
        self._loss_sum, self._losses = self._loss_sum + _classification_loss(record, self._plan), self._losses + 1
        self._similarity_sum += record.similarity or 0.0
        rate = len(self._plan.streams) * self._plan.batch_size / record.seconds
        self._rate = rate if not self._rate else 0.9 * self._rate + 0.1 * rate
        similarity = f", similarity {self._similarity_sum / self._losses:.3f}" * (record.similarity is not None)
        self._info = f"loss {self._loss_sum / self._losses:.3f}{similarity}, {self._rate:.0f} images/s"
        self._bar.update(self._task, completed=record.step + 1, info=self._info)
        self._left = self._time_left(record.step + 1, self._plan)
        last = (record.step + 1) % self._plan.epoch_steps == 0  # the line of the epoch follows
        if not self._console.is_terminal and not last and time.monotonic() - self._told >= LINE_SECONDS:
            self._told = time.monotonic()
            self._console.print(f"  step {record.step + 1:,} of {self._plan.steps:,}: {self._info}{self._left}")

    def on_epoch_end(self, phase: int, epoch: int) -> None:
        """Print the validation of an epoch; where no bar is shown, also loss, rate and the time left of the phase."""
        parts = [] if self._console.is_terminal else [f"{self._info}{self._left}"]
        parts += [] if self._validate is None else [self._validate(phase)]
        if parts:
            self._console.print(f"  epoch {epoch}: {'; '.join(parts)}")
        self._told = time.monotonic()
        self._loss_sum, self._similarity_sum, self._losses = 0.0, 0.0, 0

    def _time_left(self, done: int, plan: PhasePlan) -> str:
        """Return a clause about the time that the rest of the phase takes; nothing after its last step."""
        if done == plan.steps:
            return ""
        each = (time.monotonic() - self._begun) / (done - self._first_step)
        return f", {duration((plan.steps - done) * each)} left of phase {plan.phase}"

    def _start(self, what: str, total: int, done: int) -> TaskID:
        """Replace the bar by a new one."""
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(what, total=total, completed=done, info="")
        self._rate, self._loss_sum, self._similarity_sum, self._losses = 0.0, 0.0, 0.0, 0
        return self._task


def _classification_loss(record: StepRecord, plan: PhasePlan) -> float:
    """Return the loss of a step before the similarity of queries and keys is subtracted, as phase 2 of LPT does."""
    if record.similarity is None:
        return record.loss
    losses = {"balanced": record.balanced, "instance": record.instance}
    known = {stream: loss for stream, loss in losses.items() if loss is not None}
    if len(known) == 1:
        return sum(known.values())
    eta = instance_weight(plan.loss.instance_weight, record.epoch, plan.settings.epochs)
    return known["balanced"] + eta * known["instance"] if known else record.loss
