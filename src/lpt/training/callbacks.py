"""Callbacks: what training calls on its way, to show progress or to send numbers to trackers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lpt.training.loop import PhasePlan, StepRecord


class Callback:
    """Base of all callbacks; a subclass overrides the methods it needs."""

    def on_phase_begin(self, plan: PhasePlan, first_step: int) -> None:
        """A phase starts or goes on at a step."""

    def on_step_end(self, record: StepRecord) -> None:
        """A step is done and logged."""

    def on_epoch_end(self, phase: int, epoch: int) -> None:
        """The last step of an epoch is done."""

    def on_prepare(self, what: str, total: int) -> Callable[[int], None]:
        """A pass over images starts; the result is called with the number done."""
        del what, total
        return lambda done: None


class Callbacks(Callback):
    """Several callbacks as one; a pass over images is shown by the first."""

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self._callbacks = callbacks

    def on_phase_begin(self, plan: PhasePlan, first_step: int) -> None:
        """Tell all."""
        for callback in self._callbacks:
            callback.on_phase_begin(plan, first_step)

    def on_step_end(self, record: StepRecord) -> None:
        """Tell all."""
        for callback in self._callbacks:
            callback.on_step_end(record)

    def on_epoch_end(self, phase: int, epoch: int) -> None:
        """Tell all."""
        for callback in self._callbacks:
            callback.on_epoch_end(phase, epoch)

    def on_prepare(self, what: str, total: int) -> Callable[[int], None]:
        """Tell the first."""
        return self._callbacks[0].on_prepare(what, total)
