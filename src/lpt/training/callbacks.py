"""Callbacks of training: they show progress or send numbers to trackers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lpt.training.loop import PhasePlan, StepRecord


class Callback:
    """A callback that does nothing; a subclass overrides the methods it needs."""

    def on_phase_begin(self, plan: PhasePlan, first_step: int) -> None:
        """Called when a phase starts, or resumes at `first_step`."""

    def on_step_end(self, record: StepRecord) -> None:
        """Called when a step is done and logged."""

    def on_epoch_end(self, phase: int, epoch: int) -> None:
        """Called when the last step of an epoch is done."""

    def on_prepare(self, what: str, total: int) -> Callable[[int], None]:
        """Called when a pass over images starts; returns a function that is called with the number done.

        Args:
            what: the purpose of the pass.
            total: number of images.
        """
        del what, total
        return lambda done: None


class Callbacks(Callback):
    """A sequence of callbacks as one; only the first shows passes over images."""

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self._callbacks = callbacks

    def on_phase_begin(self, plan: PhasePlan, first_step: int) -> None:
        """Call all."""
        for callback in self._callbacks:
            callback.on_phase_begin(plan, first_step)

    def on_step_end(self, record: StepRecord) -> None:
        """Call all."""
        for callback in self._callbacks:
            callback.on_step_end(record)

    def on_epoch_end(self, phase: int, epoch: int) -> None:
        """Call all."""
        for callback in self._callbacks:
            callback.on_epoch_end(phase, epoch)

    def on_prepare(self, what: str, total: int) -> Callable[[int], None]:
        """Call the first."""
        return self._callbacks[0].on_prepare(what, total)
