"""`lpt compare --budget`: find the part of the preset's steps that fits into the minutes given."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Console

from lpt.commands.compare.estimate import MethodEstimate
from lpt.errors import ConfigError
from lpt.system.text import duration


def share_of_steps(
    methods: Sequence[MethodEstimate],
    *,
    seeds: int,
    epoch_steps: int,
    seconds: float,
    spent: float,
    slots: int,
    console: Console,
) -> float | None:
    """Return the part of the preset's steps that fits, at most 1.

    Args:
        methods: what a run of each takes, with all steps of the preset.
        seeds: how often each is trained.
        epoch_steps: steps of an epoch in the preset.
        seconds: time for everything, what is spent included.
        spent: seconds that opening the data and trying the methods took.
        slots: how many runs are trained at a time, on machines like this one.
        console: where to report.

    Returns:
        None where no method has steps.

    Raises:
        ConfigError: not even one step per epoch fits.
    """
    once = sum(method.measuring for method in methods)
    stepping = _side_by_side([method.stepping for method in methods], seeds, slots)
    rest = _side_by_side([method.fixed for method in methods], seeds, slots)
    left = seconds - spent - once - rest
    share = min(1.0, left / stepping) if stepping else 1.0
    least = 1 / epoch_steps
    if left <= 0 or share < least:
        needed = math.ceil((rest + least * stepping + once + spent) / 60)
        raise ConfigError(
            f"--budget: too few minutes; opening the data, a step an epoch and measuring take about {needed} on "
            "this machine. Give more, or fewer methods or seeds."
        )
    total = duration(rest + share * stepping + once)
    console.print(f"[bold]Budget[/bold]: {100 * share:.0f} % of the preset's steps for every method, about {total}")
    return share if stepping else None


def _side_by_side(seconds: Sequence[float], times: int, slots: int) -> float:
    """Return how long runs take at most, each `times` times, if one begins as soon as another ends (Graham's bound)."""
    slots = min(slots, times * len(seconds))
    return times * sum(seconds) / slots + (1 - 1 / slots) * max(seconds)
