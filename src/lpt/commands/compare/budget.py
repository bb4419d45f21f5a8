"""`lpt compare --budget`: find the part of the preset's steps that fits into the minutes given."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence

from rich.console import Console

from lpt.commands.compare.inference_cost import inference_seconds
from lpt.commands.fit.estimate import estimate_run
from lpt.commands.fit.prepare import Prepared
from lpt.errors import ConfigError
from lpt.system.text import duration


def share_of_steps(
    cells: Iterable[tuple[str, Prepared]],
    *,
    seeds: int,
    epoch_steps: int,
    seconds: float,
    slots: int,
    console: Console,
) -> float | None:
    """Time a few real steps of each method, and return the part of the preset's steps that fits, at most 1.

    Args:
        cells: title and run of each method.
        seeds: how often each is trained.
        epoch_steps: steps of an epoch in the preset.
        seconds: time for everything that is still to be done, this timing included.
        slots: how many runs are trained at a time, on machines like this one.
        console: where to report.

    Returns:
        None where no method has steps.

    Raises:
        ConfigError: not even one step per epoch fits.
    """
    begun = time.monotonic()
    steps, fixed, once = list[float](), list[float](), 0.0
    for title, cell in cells:
        with console.status(f"trying a few steps: {title}"):
            estimate = estimate_run(cell)
        in_steps = [part.name.startswith("phase") for part in estimate.parts]
        steps.append(sum(part.seconds for part, is_step in zip(estimate.parts, in_steps, strict=True) if is_step))
        fixed.append(sum(part.seconds for part, is_step in zip(estimate.parts, in_steps, strict=True) if not is_step))
        once += inference_seconds(estimate.image_seconds)
    stepping, rest = _side_by_side(steps, seeds, slots), _side_by_side(fixed, seeds, slots)
    left = seconds - once - (time.monotonic() - begun) - rest
    share = min(1.0, left / stepping) if stepping else 1.0
    least = 1 / epoch_steps
    if left <= 0 or share < least:
        needed = math.ceil((rest + least * stepping + once + time.monotonic() - begun) / 60)
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
