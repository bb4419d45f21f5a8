"""The learning rates of both schedules."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lpt.config.schema import PhaseConfig
from lpt.training.schedule import learning_rate


@pytest.mark.parametrize("batch_size", [64, 256, 512])
def test_learning_rate_is_the_published_one(batch_size: int) -> None:
    """SGD at 0.02 * B / 256: 1e-6 in epoch 0, then half a cosine, set once an epoch (DESIGN section 2)."""
    settings, epoch_steps = PhaseConfig(), 43
    peak = 0.02 * batch_size / 256
    for epoch in range(90):
        expected = 1e-6 if epoch == 0 else peak * (1 + math.cos(math.pi * (epoch - 1) / 89)) / 2
        first, last = epoch * epoch_steps, (epoch + 1) * epoch_steps - 1
        assert learning_rate(settings, first, epoch_steps, batch_size) == pytest.approx(expected, rel=1e-12)
        assert learning_rate(settings, first, epoch_steps, batch_size) == learning_rate(
            settings, last, epoch_steps, batch_size
        )


def test_adamw_rate_does_not_follow_the_batch_size() -> None:
    """AdamW's steps do not grow with the gradient, so its rate is taken as it is."""
    settings = PhaseConfig(optimizer="adamw", lr=2e-3, warmup_epochs=0, epochs=4)
    assert learning_rate(settings, 0, 10, 64) == learning_rate(settings, 0, 10, 512) == 2e-3


def test_step_schedule_changes_with_every_step() -> None:
    """Linear from min_lr over the warm-up's steps, then a cosine towards 0 at the end of the phase."""
    settings = PhaseConfig(optimizer="adamw", lr=1.0, warmup_epochs=2, min_lr=0.1, epochs=6, schedule="step")
    rates = [learning_rate(settings, step, 10, 32) for step in range(60)]
    np.testing.assert_allclose(rates[:20], 0.1 + 0.9 * np.arange(20) / 20)
    np.testing.assert_allclose(rates[20:], 0.5 * (1 + np.cos(np.pi * np.arange(40) / 40)))


def test_a_short_phase_warms_up_for_half_of_it() -> None:
    """A single epoch with a preset's warm-up of one still reaches its peak and decays from there."""
    settings = PhaseConfig(optimizer="adamw", lr=1.0, warmup_epochs=1, min_lr=0.0, epochs=1, schedule="step")
    rates = [learning_rate(settings, step, 10, 32) for step in range(10)]
    np.testing.assert_allclose(rates[:5], np.arange(5) / 5)
    np.testing.assert_allclose(rates[5:], 0.5 * (1 + np.cos(np.pi * np.arange(5) / 5)))
