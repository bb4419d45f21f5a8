"""Show the progress of training on a console."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from rich.console import Console
from rich.progress import TaskID

from lpt.report.bars import progress_bar
from lpt.system.text import plural
from lpt.training.callbacks import Callback
from lpt.training.loop import PhasePlan, StepRecord
from lpt.training.objective import instance_weight


class ConsoleCallback(Callback):
    """A callback that shows phases and steps on a console.

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
        self._info = ""

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

    def on_epoch_end(self, phase: int, epoch: int) -> None:
        """Print the validation of an epoch; where no bar is shown, also loss and rate."""
        parts = [] if self._console.is_terminal else [self._info]
        parts += [] if self._validate is None else [self._validate(phase)]
        if parts:
            self._console.print(f"  epoch {epoch}: {'; '.join(parts)}")
        self._loss_sum, self._similarity_sum, self._losses = 0.0, 0.0, 0

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
