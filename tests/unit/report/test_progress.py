"""What a run prints while it trains, where no bar is shown (a log file, a job's output)."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.console import Console

from lpt.config.schema import LossConfig, PhaseConfig
from lpt.report.progress import ConsoleCallback
from lpt.training.loop import PhasePlan, StepRecord

PLAN = PhasePlan(1, PhaseConfig(epochs=2), LossConfig(), epoch_steps=2, batch_size=4, micro_batch=4, seed=0)


def record(step: int, loss: float) -> StepRecord:
    return StepRecord(1, step // 2, step, loss, None, None, None, 1.0, 1e-3, 4, seconds=0.5)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Stop the time that the lines go by; the function moves it on by seconds."""
    now = [0.0]
    monkeypatch.setattr("lpt.report.progress.time.monotonic", lambda: now[0])
    return lambda seconds: now.__setitem__(0, now[0] + seconds)


def test_an_epoch_line_gives_the_mean_loss_of_that_epoch_the_rate_and_the_time_left(
    clock: Callable[[float], None],
) -> None:
    console = Console(file=io.StringIO(), width=120)
    with ConsoleCallback(console, validate=lambda phase: f"validation after phase {phase}") as callback:
        callback.on_phase_begin(PLAN, 0)
        for step, loss in enumerate((4.0, 2.0, 1.5, 1.0)):
            clock(15)
            callback.on_step_end(record(step, loss))
            if step % 2:
                callback.on_epoch_end(1, step // 2)
    lines = console.file.getvalue().splitlines()
    assert lines == [
        "Phase 1: 2 epochs of 2 steps, two batches of 4 images, sgd",
        "  epoch 0: loss 3.000, 16 images/s, 30 s left of phase 1; validation after phase 1",
        "  epoch 1: loss 1.250, 16 images/s; validation after phase 1",
    ]


def test_a_long_epoch_tells_every_minute_how_far_it_is(clock: Callable[[float], None]) -> None:
    """Of a resumed run the time left goes by the steps since; the last step of an epoch has the epoch's line alone."""
    console = Console(file=io.StringIO(), width=120)
    plan = replace(PLAN, epoch_steps=6)
    with ConsoleCallback(console, validate=None) as callback:
        callback.on_phase_begin(plan, 1)
        for step in range(1, 6):
            clock(40)
            callback.on_step_end(record(step, 1.0))
        callback.on_epoch_end(1, 0)
    assert console.file.getvalue().splitlines()[1:] == [
        "  step 3 of 12: loss 1.000, 16 images/s, 6 min left of phase 1",
        "  step 5 of 12: loss 1.000, 16 images/s, 5 min left of phase 1",
        "  epoch 0: loss 1.000, 16 images/s, 4 min left of phase 1",
    ]


def test_single_epochs_and_steps_are_named_in_the_singular() -> None:
    console = Console(file=io.StringIO(), width=120)
    settings = PhaseConfig(epochs=1, warmup_epochs=0)
    plan = PhasePlan(2, settings, LossConfig(), epoch_steps=1, batch_size=1, micro_batch=1, seed=0)
    with ConsoleCallback(console, validate=None) as callback:
        callback.on_phase_begin(plan, 0)
    assert "Phase 2: 1 epoch of 1 step, " in console.file.getvalue()
    assert "of 1 image, " in console.file.getvalue()


def test_the_loss_of_phase_2_and_its_similarity_are_told_apart() -> None:
    """Training subtracts the similarity, so that the whole is negative: that is no loss to read."""
    console = Console(file=io.StringIO(), width=120)
    loss = LossConfig(instance_weight=0.5)
    plan = PhasePlan(2, PhaseConfig(epochs=2), loss, epoch_steps=2, batch_size=4, micro_batch=4, seed=0)
    with ConsoleCallback(console, validate=None) as callback:
        callback.on_phase_begin(plan, 0)
        for step, (balanced, instance, similarity) in enumerate([(1.0, 2.0, 3.0), (3.0, 2.0, 5.0), (1.0, 2.0, 6.0)]):
            whole = balanced + instance - 2 * similarity
            callback.on_step_end(
                StepRecord(2, step // 2, step, whole, balanced, instance, similarity, 1.0, 1e-3, 4, seconds=0.5)
            )
            if step:
                callback.on_epoch_end(2, step // 2)
        callback.on_step_end(StepRecord(2, 1, 3, -3.0, None, 1.5, 6.0, 1.0, 1e-3, 4, seconds=0.5))
        callback.on_epoch_end(2, 1)
    lines = console.file.getvalue().splitlines()[1:]
    assert [line.split(",")[:2] for line in lines] == [
        ["  epoch 0: loss 3.000", " similarity 4.000"],  # 1 + 0.5 * 2 and 3 + 0.5 * 2
        ["  epoch 1: loss 1.500", " similarity 6.000"],  # 1 + 0.25 * 2: the weight of the second epoch
        ["  epoch 1: loss 1.500", " similarity 6.000"],  # of a single stream
    ]
