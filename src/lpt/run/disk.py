"""What a run writes, in bytes, against the room there is."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

from lpt.errors import RunError
from lpt.run.prepare import Prepared
from lpt.training.phases import PHASES, phase_plan

NUMBER_BYTES = 4
LOG_LINE_BYTES = 260
CLASS_BYTES = 400
FIXED_BYTES = 2**20
"""Plots, configuration, model card."""
OPTIMIZER_STATES = {"sgd": 1, "adamw": 2}


class DiskNeeded(NamedTuple):
    """Bytes by what they are for."""

    checkpoints: int
    log: int
    pack: int
    reports: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self)


def trainable_numbers(prepared: Prepared) -> dict[str, int]:
    """How many numbers of each trained tensor there will be."""
    model, width, depth = prepared.config.model, prepared.backbone.width, prepared.backbone.depth
    shared_blocks = depth // 2 if model.shared_blocks is None else model.shared_blocks
    return {
        "shared.tokens": depth * model.prompt_length * width,
        "groups.prompts": model.pool_size * (depth - shared_blocks) * model.prompt_length * width,
        "groups.keys": model.pool_size * width,
        "head.weight": len(prepared.splits.class_names) * width,
    }


def disk_needed(prepared: Prepared) -> DiskNeeded:
    """The most a run folder takes at a time: a checkpoint is written beside the one before."""
    numbers = trainable_numbers(prepared)
    everything = sum(numbers.values())
    trained = {
        1: everything - numbers["groups.prompts"] - numbers["groups.keys"],
        2: everything - numbers["shared.tokens"],
    }
    plans = [phase_plan(prepared.config, phase) for phase in PHASES]
    largest = max(
        (everything + OPTIMIZER_STATES[plan.settings.optimizer] * trained[plan.phase] for plan in plans if plan.steps),
        default=everything,
    )
    classes = len(prepared.splits.class_names)
    return DiskNeeded(
        checkpoints=2 * NUMBER_BYTES * largest,
        log=LOG_LINE_BYTES * sum(plan.steps for plan in plans),
        pack=NUMBER_BYTES * everything + CLASS_BYTES * classes,
        reports=FIXED_BYTES + CLASS_BYTES * classes,
    )


def free_bytes(path: Path) -> int:
    """Room on the disk where a path is or would be."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def check_disk(path: Path, needed: DiskNeeded) -> None:
    """Raise `RunError` if the disk has no room for a run."""
    free = free_bytes(path)
    if free < needed.total:
        raise RunError(
            f"the disk of {path} has {free / 2**20:,.1f} MiB free; the run needs {needed.total / 2**20:,.1f} MiB "
            f"(checkpoints {needed.checkpoints / 2**20:,.1f}, log {needed.log / 2**20:,.1f}, pack "
            f"{needed.pack / 2**20:,.1f}). Free some space, or choose a folder on another disk with --output."
        )
