"""`lpt compare --budget`: find the part of the preset's steps that fits into the minutes given."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable

from rich.console import Console

from lpt.commands.compare.inference_cost import inference_seconds
from lpt.commands.fit.estimate import estimate_run
from lpt.commands.fit.prepare import Prepared
from lpt.errors import ConfigError
from lpt.system.text import duration


def share_of_steps(
    cells: Iterable[tuple[str, Prepared]], *, seeds: int, epoch_steps: int, seconds: float, console: Console
) -> float | None:
    """Time a few real steps of each method, and return the part of the preset's steps that fits, at most 1.

    Args:
        cells: title and run of each method.
        seeds: how often each is trained.
        epoch_steps: steps of an epoch in the preset.
        seconds: time for everything that is still to be done, this timing included.
        console: where to report.

    Returns:
        None where no method has steps.

    Raises:
        ConfigError: not even one step per epoch fits.
    """
    begun = time.monotonic()
    steps = fixed = once = 0.0
    for title, cell in cells:
        with console.status(f"trying a few steps: {title}"):
            estimate = estimate_run(cell)
        for part in estimate.parts:
            if part.name.startswith("phase"):
                steps += part.seconds
            else:
                fixed += part.seconds
        once += inference_seconds(estimate.image_seconds)
    left = (seconds - once - (time.monotonic() - begun)) / seeds - fixed
    share = min(1.0, left / steps) if steps else 1.0
    least = 1 / epoch_steps
    if left <= 0 or share < least:
        needed = math.ceil((seeds * (fixed + least * steps) + once + time.monotonic() - begun) / 60)
        raise ConfigError(
            f"--budget: too few minutes; opening the data, a step an epoch and measuring take about {needed} on "
            "this machine. Give more, or fewer methods or seeds."
        )
    total = duration(seeds * (fixed + share * steps) + once)
    console.print(f"[bold]Budget[/bold]: {100 * share:.0f} % of the preset's steps for every method, about {total}")
    return share if steps else None
