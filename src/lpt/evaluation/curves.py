"""Reduce the log of a run to curves that can be drawn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

LOSSES = ("loss", "balanced", "instance")
MOST_POINTS = 240
_FEWEST_POINTS, _STEPS_OF_A_POINT = 40, 5


class PhaseCurves(NamedTuple):
    """The losses of a phase.

    Args:
        phase: 1 or 2.
        epochs: number of its epochs.
        steps: number of its steps.
        centres: mean step of each point, counted from 1 at the start of the phase, [T].
        values: mean of each loss over the steps of a point, [T] by name; only losses that were logged.
    """

    phase: int
    epochs: int
    steps: int
    centres: Sequence[float]
    values: Mapping[str, Sequence[float]]


def loss_curves(records: Iterable[Mapping[str, Any]], most: int = MOST_POINTS) -> list[PhaseCurves]:
    """Return the losses of each phase, as means over equal runs of steps.

    Args:
        records: lines of log.jsonl. Where a resumed run logged a step twice, the later line counts.
        most: number of points of a curve at most.
    """
    unique = {(r["phase"], r["epoch"], r["step"]): r for r in records if {"phase", "epoch", "step", "loss"} <= set(r)}
    ordered = [unique[key] for key in sorted(unique)]
    return [
        _curves(phase, [step for step in ordered if step["phase"] == phase], most)
        for phase in dict.fromkeys(step["phase"] for step in ordered)
    ]


def _curves(phase: int, steps: Sequence[Mapping[str, Any]], most: int) -> PhaseCurves:
    points = min(len(steps), max(len(steps) // _STEPS_OF_A_POINT, _FEWEST_POINTS), most)
    parts = np.array_split(np.arange(len(steps)), points)
    values = {}
    for name in LOSSES:
        column = np.array([np.nan if step.get(name) is None else step[name] for step in steps], dtype=np.float64)
        if np.isfinite(column).all():
            values[name] = [float(column[part].mean()) for part in parts]
    centres = [float(part.mean()) + 1 for part in parts]
    return PhaseCurves(phase, len({step["epoch"] for step in steps}), len(steps), centres, values)
