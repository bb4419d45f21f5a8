"""What a person sees while a run is going."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from lpt.training.callbacks import Callback
from lpt.training.loop import PhasePlan, StepRecord


def progress_bar(console: Console) -> Progress:
    """A bar with count, rate text, time passed and time left; it disappears when done, and is on terminals only."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[info]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


@contextmanager
def image_bar(console: Console, what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar over a known number of images; yields what to call with the number done."""
    with progress_bar(console) as bar:
        task = bar.add_task(what, total=total, info="images")
        yield lambda done: bar.update(task, completed=done)


class ConsoleCallback(Callback):
    """Shows phases and steps on a console.

    Args:
        console: where to.
        validate: called after each epoch with the phase; its line of text is printed. None: no validation.
    """

    def __init__(self, console: Console, validate: Callable[[int], str] | None) -> None:
        self._console = console
        self._validate = validate
        self._bar = progress_bar(console)
        self._task: TaskID | None = None
        self._plan: PhasePlan | None = None
        self._rate = 0.0
        self._loss_sum, self._losses = 0.0, 0
        self._info = ""

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def on_prepare(self, what: str, total: int) -> Callable[[int], None]:
        """A bar for a pass over images."""
        task = self._start(what, total, 0)
        return lambda done: self._bar.update(task, completed=done, info="images")

    def on_phase_begin(self, plan: PhasePlan, first_step: int) -> None:
        """A bar for the phase, and a line that stays."""
        self._plan = plan
        settings = plan.settings
        resumed = f", from step {first_step}" if first_step else ""
        self._console.print(
            f"[bold]Phase {plan.phase}[/bold]: {settings.epochs} epochs of {plan.epoch_steps} steps, "
            f"{'two batches' if len(plan.streams) > 1 else 'a batch'} of {plan.batch_size} images, "
            f"{settings.optimizer}{resumed}"
        )
        self._start(f"phase {plan.phase}", plan.steps, first_step)

    def on_step_end(self, record: StepRecord) -> None:
        """Advance the bar; the loss shown is the mean of this epoch's steps (of a resumed run: of those since)."""
        if self._task is None or self._plan is None:
            return
        self._loss_sum, self._losses = self._loss_sum + record.loss, self._losses + 1
        rate = len(self._plan.streams) * self._plan.batch_size / record.seconds
        self._rate = rate if not self._rate else 0.9 * self._rate + 0.1 * rate
        self._info = f"loss {self._loss_sum / self._losses:.3f}, {self._rate:.0f} images/s"
        self._bar.update(self._task, completed=record.step + 1, info=self._info)

    def on_epoch_end(self, phase: int, epoch: int) -> None:
        """Print the validation of an epoch; where no bar is seen also how training goes."""
        said = [] if self._console.is_terminal else [self._info]
        said += [] if self._validate is None else [self._validate(phase)]
        if said:
            self._console.print(f"  epoch {epoch}: {'; '.join(said)}")
        self._loss_sum, self._losses = 0.0, 0

    def _start(self, what: str, total: int, done: int) -> TaskID:
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(what, total=total, completed=done, info="")
        self._rate, self._loss_sum, self._losses = 0.0, 0.0, 0
        return self._task
