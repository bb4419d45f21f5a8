"""`lpt fit --dry-run`: check everything, try a few steps, estimate time, memory and disk. Nothing is written."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from lpt.commands.fit.disk import (
    DiskNeeded,
    check_disk,
    disk_needed,
    free_bytes,
)
from lpt.commands.fit.fit import prepare_fit
from lpt.commands.fit.measure import trained_phases
from lpt.commands.fit.output import default_output
from lpt.commands.fit.prepare import Prepared
from lpt.commands.fit.request import RunRequest
from lpt.data.cache import CachedImages, fill_cache
from lpt.data.loading import evaluation_batches
from lpt.data.manifest import LabelledImages
from lpt.evaluation.predictions import SplitClassifier, predict_split
from lpt.model import LPT, Classifier
from lpt.model.inference import InferenceModel
from lpt.system.hardware import PeakMemory, host_memory_total, reproducible
from lpt.system.processes import ALONE
from lpt.system.text import duration, plural, size_of
from lpt.training.initial import TOKEN_IMAGES
from lpt.training.linear_probe import evaluation_seconds, most_evaluations
from lpt.training.loop import StepRecord, train_steps
from lpt.training.phase_data import images_at_once, phase_plan, prefix_cache_size
from lpt.training.phases import build_objective
from lpt.training.schedule import build_optimizer

STEPS = 6
"""Steps tried of each phase; the first is not counted."""
SECONDS = 20.0
"""No further step of a phase is tried after this time."""
BATCHES = 3
"""Batches tried without training; the first is not counted."""


@dataclass(frozen=True)
class Part:
    """A part of a run: how often something is done, and how many seconds each time takes."""

    name: str
    count: int
    unit: str
    seconds_each: float

    @property
    def seconds(self) -> float:
        """Seconds of the whole part."""
        return self.count * self.seconds_each


@dataclass(frozen=True)
class Estimate:
    """The time, memory and disk that a run will take.

    Args:
        parts: the parts of the run in order.
        memory: most bytes in the tried steps; the card's, if one is used.
        disk: bytes of the run folder.
        image_seconds: seconds to predict an image.
    """

    parts: tuple[Part, ...]
    memory: int
    disk: DiskNeeded
    image_seconds: float

    @property
    def seconds(self) -> float:
        """Seconds of the whole run."""
        return sum(part.seconds for part in self.parts)


class _EnoughError(Exception):
    """The steps tried so far are enough."""


def dry_run(request: RunRequest, *, console: Console | None = None) -> Estimate:
    """Check and estimate the run that a request asks for.

    Raises:
        ConfigError, DataError, RunError: what would stop that run at its start.

    Example:
        >>> settings = {"backbone.name": "lpt-demo-glyphs", "image.size": 32}
        >>> estimate = lpt.dry_run(lpt.RunRequest("photos/", preset="laptop", settings=settings))
        >>> [part.name for part in estimate.parts][:2]
        ['phase 1', 'class means for the head']
    """
    prepared, console = prepare_fit(request, console or Console(quiet=True))
    path = request.folder or default_output(prepared.config)
    check_disk(path, disk_needed(prepared))
    with console.status("trying a few steps"):
        estimate = estimate_run(prepared)
    _print_estimate(estimate, prepared, path, console)
    return estimate


def estimate_run(prepared: Prepared) -> Estimate:
    """Estimate time, memory and disk of a run from a few real steps; the prepared backbone cannot be used again."""
    with PeakMemory() as memory, reproducible(int(prepared.config.runtime.threads)):
        model = prepared.new_model()
        training = [
            Part(f"phase {phase}", phase_plan(prepared.config, phase).steps, "steps", try_phase(prepared, model, phase))
            for phase in trained_phases(prepared)
        ]
        image = _image_seconds(prepared, model, prepared.train)
        held_out = _held_out_seconds(prepared, model, image)
        solving = _solving(prepared) if prepared.config.model.head_init == "linear_probe" else ()
    parts = (*training, *solving, *_passes(prepared, image, held_out))
    return Estimate(parts, memory.bytes, disk_needed(prepared), image)


def try_phase(prepared: Prepared, model: Classifier, phase: int) -> float:
    """Return the seconds of a step of a phase in this process: the mean of the tried steps without the first.

    It is at least what the readers take for a batch: in the few steps tried they may only use what they read ahead.
    """
    config, images = prepared.config, prepared.train
    batch_size = len(prepared.processes.share(config.train.batch_size))
    data = replace(prepared.phase_data, processes=ALONE)  # the smaller batch below is this process's part already
    plan = data.plan(phase)
    once = plan.settings.model_copy(update={"epochs": 1})
    plan = replace(plan, settings=once, epoch_steps=min(STEPS, plan.steps), batch_size=batch_size)
    objective = build_objective(model, images, config, phase)
    optimizer = build_optimizer(objective.trainable(), plan.settings, model.backbone.depth)
    reading = 0.0
    if phase == 2 and config.prefix_cache.views and isinstance(model, LPT):
        batches = data.cached_batches(plan, data.filled_cache(model, plan))
    else:
        if config.runtime.device != "cpu":
            fill_cache(images)  # once for the whole run, before its first batch: not a part of the batch timed here
        alone = config.model_copy(update={"runtime": config.runtime.model_copy(update={"workers": 0})})
        reading = _reading_seconds(prepared, replace(data, config=alone).batches(plan))
        batches = data.batches(plan)
    seconds: list[float] = []
    begun = time.monotonic()

    def after_step(record: StepRecord, stopping: bool) -> None:
        del stopping
        seconds.append(record.seconds)
        if len(seconds) > 1 and time.monotonic() - begun > SECONDS:
            raise _EnoughError

    with contextlib.suppress(_EnoughError):
        train_steps(objective, optimizer, batches, plan, first_step=0, after_step=after_step)
    return max(float(np.mean(seconds[1:] or seconds)), reading)


def _reading_seconds(prepared: Prepared, batches: Iterator[object]) -> float:
    """Return the seconds that all readers of a run together take for a batch.

    Without readers this is 0: reading is then a part of the steps.

    Args:
        prepared: the run.
        batches: batches that this process reads itself.
    """
    workers = int(prepared.config.runtime.workers)
    if not workers:
        return 0.0
    start = time.perf_counter()
    next(batches)
    return (time.perf_counter() - start) / workers


def _solving(prepared: Prepared) -> tuple[Part]:
    """Return the part of solving a linear probe, at most."""
    images, width, classes = len(prepared.train), prepared.backbone.width, len(prepared.splits.class_names)
    seconds = evaluation_seconds(images, width, classes)
    return (Part("solving the linear probe, at most", most_evaluations(images), "evaluations", seconds),)


def _held_out_seconds(prepared: Prepared, model: Classifier, image_seconds: float) -> float:
    """Return the seconds to predict a validation or test image; these are never cached, training images may be."""
    held_out = prepared.splits.test or prepared.splits.validation
    if not held_out or not isinstance(prepared.train.source, CachedImages):
        return image_seconds
    return _image_seconds(prepared, model, held_out)


def _image_seconds(prepared: Prepared, model: Classifier, images: LabelledImages) -> float:
    """Return the seconds to predict an image, read as the run reads it."""
    batch = images_at_once(prepared.config, prepared.preprocessing.test_views)
    images = images.subset(np.arange(min(BATCHES * batch, len(images))))
    batches = evaluation_batches(images, batch_size=batch, preprocessing=prepared.preprocessing, workers=0)
    reading = _reading_seconds(prepared, batches) / min(batch, len(images))
    times = [time.perf_counter()]
    inference = InferenceModel(model, prepared.preprocessing, group_prompts=2 in trained_phases(prepared))
    predict_split(
        SplitClassifier.of_model(inference),
        images,
        prepared.preprocessing,
        batch_size=batch,
        workers=int(prepared.config.runtime.workers),
        progress=lambda done: times.append(time.perf_counter()),
    )
    seconds = np.diff(times)
    if len(seconds) < 3:  # the last batch may be smaller
        return float(seconds.sum() / len(images))
    return max(float(np.median(seconds[1:-1]) / batch), reading)


def _passes(prepared: Prepared, image_seconds: float, held_out_seconds: float) -> list[Part]:
    """Return the parts of a run that only run the model forward.

    Args:
        prepared: the run.
        image_seconds: seconds of a training image.
        held_out_seconds: seconds of a validation or test image.
    """
    config, splits = prepared.config, prepared.splits
    parts = []

    def add(name: str, images: LabelledImages | None, times: int, each: float) -> None:
        if images is not None and len(images) and times:
            parts.append(Part(name, times * len(prepared.processes.share(len(images))), "images", each))

    phases = trained_phases(prepared)
    start = config.model.head_init
    add(start.replace("_", " ") + " for the head", prepared.train, int(start != "random"), image_seconds)
    if config.model.prompts != "none" and config.model.prompt_init == "tokens":
        count = min(TOKEN_IMAGES, len(splits.train))
        parts.append(Part("image tokens for the prompts", count, "images", image_seconds))
    add("queries for the keys", prepared.train, int(config.model.key_init == "kmeans" and 2 in phases), image_seconds)
    if 2 in phases and config.prefix_cache.views:
        views = prefix_cache_size(splits.train, prepared.backbone, config).views
        share = len(prepared.processes.share(views))
        parts.append(Part("prefix cache, at most", share, "views", image_seconds))
    epochs = sum(phase_plan(config, phase).settings.epochs for phase in phases)
    add(f"validation, {plural(epochs, 'epoch')} and at the end", splits.validation, epochs + 1, held_out_seconds)
    add("test", splits.test, 1, held_out_seconds)
    return parts


def _print_estimate(estimate: Estimate, prepared: Prepared, path: Path, console: Console) -> None:
    console.print()
    console.print(_parts_table(estimate))
    on_card = prepared.machine.device == "cuda"
    free = prepared.machine.memory_bytes if on_card else host_memory_total()
    console.print(
        f"Memory: {size_of(estimate.memory)} at most in the tried steps, of {size_of(free)} "
        f"{'free on the card' if on_card else 'in the machine'}"
    )
    disk = estimate.disk
    console.print(
        f"Disk: {size_of(disk.total)} (checkpoints {size_of(disk.checkpoints)}, log {size_of(disk.log)}, "
        f"pack {size_of(disk.pack)}), of {size_of(free_bytes(path))} free for {path}",
        markup=False,
    )
    console.print("Nothing was written. The times hold for a machine that is as busy as it was just now.")


def _parts_table(estimate: Estimate) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 2, 0, 0))
    for column in ("part", "how many", "each", "time"):
        table.add_column(column, justify="left" if column == "part" else "right")
    for part in estimate.parts:
        each = f"{part.seconds_each * 1000:,.1f} ms"
        table.add_row(part.name, f"{part.count:,} {part.unit}", each, duration(part.seconds))
    table.add_row("all", "", "", duration(estimate.seconds), style="bold")
    return table
