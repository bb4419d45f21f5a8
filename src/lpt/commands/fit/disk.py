"""How many bytes a run writes, and whether memory and disk have room for them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import torch
from rich.console import Console

from lpt.commands.fit.prepare import Prepared
from lpt.errors import ConfigError, RunError
from lpt.model import build_model
from lpt.system.hardware import host_memory, processes_here
from lpt.training.folder import RunFolder
from lpt.training.phase_data import phase_plan, prefix_cache_size
from lpt.training.phases import PHASES
from lpt.training.position import FILE_NAME, Position, saved_position

NUMBER_BYTES = 4
LOG_LINE_BYTES = 260
CLASS_BYTES = 400
FIXED_BYTES = 2**20
"""Plots, configuration, model card."""
OPTIMIZER_STATES = {"sgd": 1, "adamw": 2}


class DiskNeeded(NamedTuple):
    """The bytes of a run folder, by use."""

    prefix_cache: int
    checkpoints: int
    log: int
    pack: int
    reports: int

    @property
    def total(self) -> int:
        """All bytes."""
        return sum(self)


def trainable_numbers(prepared: Prepared) -> dict[str, int]:
    """Return the size of each trained tensor, by name."""
    with torch.device("meta"):
        model = build_model(prepared.config.model, prepared.backbone, len(prepared.splits.class_names))
    return {name: tensor.numel() for name, tensor in model.state_dict().items()}


def disk_needed(prepared: Prepared) -> DiskNeeded:
    """Return the most bytes that a run folder takes at a time: a new checkpoint is written beside the former one."""
    numbers = trainable_numbers(prepared)
    total = sum(numbers.values())
    frozen = {1: "groups.", 2: "shared."} if prepared.config.model.grouped else {}
    trained = {
        phase: sum(size for name, size in numbers.items() if phase not in frozen or not name.startswith(frozen[phase]))
        for phase in PHASES
    }
    plans = [phase_plan(prepared.config, phase) for phase in PHASES]
    largest = max(
        (total + OPTIMIZER_STATES[plan.settings.optimizer] * trained[plan.phase] for plan in plans if plan.steps),
        default=total,
    )
    classes = len(prepared.splits.class_names)
    kept = prefix_cache_size(prepared.train, prepared.backbone, prepared.config)
    return DiskNeeded(
        prefix_cache=kept.bytes if prepared.config.prefix_cache.store == "disk" else 0,
        checkpoints=2 * NUMBER_BYTES * largest,
        log=LOG_LINE_BYTES * sum(plan.steps for plan in plans),
        pack=NUMBER_BYTES * total + CLASS_BYTES * classes,
        reports=FIXED_BYTES + CLASS_BYTES * classes,
    )


def disk_left(prepared: Prepared, run: RunFolder) -> DiskNeeded:
    """Return the most bytes that the rest of a run takes, beside what is in its folder.

    Raises:
        RunError: the checkpoint is damaged.
    """
    needed = disk_needed(prepared)
    if is_trained(prepared, saved_position(run.checkpoints)):
        return needed._replace(prefix_cache=0, checkpoints=0, log=0)
    cached = sum(file.stat().st_size for file in run.prefix_cache(0).parent.glob("*.rows"))
    saved = sum(file.stat().st_size for file in run.checkpoints.glob(FILE_NAME))
    return needed._replace(
        prefix_cache=max(needed.prefix_cache - cached, 0), checkpoints=max(needed.checkpoints - saved, 0)
    )


def is_trained(prepared: Prepared, position: Position | None) -> bool:
    """Return whether no step is left to do after a position of a run."""
    plans = [plan for phase in PHASES if (plan := phase_plan(prepared.config, phase)).steps]
    if not plans or position is None:
        return not plans
    return (plans[-1].phase, plans[-1].steps) <= (position.phase, position.step)


def check_prefix_cache(prepared: Prepared, console: Console) -> None:
    """Print how large the prefix cache gets; raise `ConfigError` if the memory does not hold it."""
    settings, size = prepared.config.prefix_cache, prefix_cache_size(prepared.train, prepared.backbone, prepared.config)
    if not size.views:
        return
    taken = f"at most {size.views:,} views, {size.bytes / 2**20:,.0f} MiB in {settings.store} as {settings.dtype}"
    free = host_memory() * processes_here()
    if settings.store == "memory" and size.bytes > free:
        raise ConfigError(
            f"prefix_cache: {taken}, but {free / 2**20:,.0f} MiB are free. Keep fewer views "
            f"(--set prefix_cache.views=...), keep them on disk (--set prefix_cache.store=disk), in half precision "
            "(--set prefix_cache.dtype=bf16), or none (--set prefix_cache.views=0)."
        )
    console.print(f"[bold]Prefix cache[/bold] of phase 2: {taken}")


def free_bytes(path: Path) -> int:
    """Return the free bytes on the disk of a path that need not exist yet."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def check_disk(path: Path, needed: DiskNeeded) -> None:
    """Raise `RunError` if the disk has no room for a run."""
    free = free_bytes(path)
    if free < needed.total:
        parts = ", ".join(f"{name} {size / 2**20:,.1f}" for name, size in needed._asdict().items() if size)
        raise RunError(
            f"the disk of {path} has {free / 2**20:,.1f} MiB free; the run needs another "
            f"{needed.total / 2**20:,.1f} MiB ({parts}). "
            "Free some space, or choose a folder on another disk with --output."
        )
