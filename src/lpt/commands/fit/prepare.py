"""Before a run: check the configuration, open the data, load the backbone. Nothing is written here."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape

from lpt.commands.fit.auto import AutoFacts, resolve_auto
from lpt.commands.fit.request import RunRequest, gather_values
from lpt.commands.fit.tracking import check_trackers
from lpt.config.presets import with_preset
from lpt.config.schema import RunConfig
from lpt.config.values import section
from lpt.data.cache import CachedImages, decoded_bytes, decodes, source_of, with_white
from lpt.data.depth import largest_value
from lpt.data.doctor.examine import examine
from lpt.data.longtail import ShotGroups, imbalance_factor
from lpt.data.manifest import LabelledImages, Splits
from lpt.data.printable import printable
from lpt.data.scan import check_images
from lpt.data.sources import listing_root, open_splits
from lpt.data.transforms import Preprocessing
from lpt.errors import ConfigError, DataError
from lpt.model import Classifier, FrozenViT, to_bfloat16
from lpt.model.pretrained import load_backbone
from lpt.report.bars import teller
from lpt.system.hardware import Machine, inspect_machine
from lpt.system.notices import notices_to
from lpt.system.processes import Processes
from lpt.system.text import plural
from lpt.training.initial import new_model
from lpt.training.phase_data import PhaseData, prefix_cache_size

COMPARED_AT_START = 20_000
"""Most training images that are compared with each other before a run; `lpt doctor` compares any number."""


@dataclass(frozen=True)
class Prepared:
    """A checked run: all that it needs, before anything is trained or written."""

    config: RunConfig
    splits: Splits
    train: LabelledImages
    backbone: FrozenViT
    preprocessing: Preprocessing
    machine: Machine
    processes: Processes
    reasons: list[str]
    warnings: tuple[str, ...]

    @property
    def groups(self) -> ShotGroups:
        """The boundaries of the shot groups."""
        return ShotGroups(self.config.data.few_below, self.config.data.many_above)

    @property
    def phase_data(self) -> PhaseData:
        """Return the training data, from which each phase gets its batches."""
        return PhaseData(self.train, self.config, self.preprocessing, self.processes)

    def new_model(self) -> Classifier:
        """Return an untrained model on the device, its blocks in the run's precision."""
        model = new_model(self.config.model, self.backbone, len(self.splits.class_names), self.config.runtime.seed)
        if self.config.runtime.precision == "bf16":
            to_bfloat16(model)
        return model.to(self.config.runtime.device)


def prepare(request: RunRequest, *, read_images: bool = True, console: Console | None = None) -> Prepared:
    """Check and open everything that a run needs; nothing is written.

    Args:
        request: what the user asked for.
        read_images: decode every image, so that a bad one stops the run here.
        console: shows that the backbone is being loaded. None: silent.

    Raises:
        ConfigError, DataError: something must be corrected before the run can start.
    """
    console = console or Console(quiet=True)
    values = gather_values(request, needs_source=request.splits is None)
    device = _device(values)
    processes = Processes.started(on_cpu=device == "cpu")  # before a card is looked at: each process has its own
    with notices_to(teller(console)):
        prepared = processes.on_all(lambda: _put_together(request, values, processes, console))
    if read_images and prepared.config.data.bad_images != "skip":
        check_readable(prepared.train, prepared.splits, processes)
    return prepared


def _put_together(request: RunRequest, values: dict[str, Any], processes: Processes, console: Console) -> Prepared:
    """Resolve the configuration, open the data and load the backbone; every process does it for itself."""
    machine = inspect_machine(_device(values))
    chosen = with_preset(values, machine.device, origin=request.origin)
    resolved = chosen.config
    check_trackers(resolved)
    if processes.world_size > resolved.train.batch_size:
        raise ConfigError(
            f"train.batch_size: {resolved.train.batch_size} images cannot be shared by {processes.world_size} "
            "processes; start fewer, or set a larger batch"
        )
    opened = request.splits
    splits = printable(open_splits(resolved.data, seed=resolved.runtime.seed) if opened is None else opened)
    _check_splits(splits)
    with console.status(f"loading the backbone {escape(resolved.backbone.name)}"):
        backbone = load_backbone(resolved.backbone.name, checkpoint=resolved.backbone.checkpoint)
    auto = resolve_auto(resolved, machine, _auto_facts(splits, backbone, processes))
    splits = _with_white(splits, _white(auto.config))
    size = _size(auto.config)
    backbone = backbone.at_size(size)
    return Prepared(
        config=auto.config,
        splits=splits,
        train=_cached(splits.train) if auto.config.data.cache else splits.train,
        backbone=backbone,
        preprocessing=_preprocessing(auto.config, backbone, size),
        machine=machine,
        processes=processes,
        reasons=chosen.reasons + auto.reasons,
        warnings=chosen.warnings,
    )


def _auto_facts(splits: Splits, backbone: FrozenViT, processes: Processes) -> AutoFacts:
    """Return the facts that `auto` depends on."""
    train = splits.train
    return AutoFacts(
        train_images=len(train),
        class_counts=splits.counts_before_cut,
        blocks=backbone.depth,
        native_size=backbone.image_size,
        activation_bytes=backbone.training_bytes,
        cached_bytes=decoded_bytes(train),
        prefix_cache_bytes=lambda config: prefix_cache_size(train, backbone.at_size(_size(config)), config).bytes,
        decoded=decodes(train.source),
        processes=processes.world_size,
        largest_value=lambda: largest_value(train),
    )


def _white(config: RunConfig) -> float | None:
    """Return the value of white of a resolved configuration."""
    return None if config.image.white is None else float(config.image.white)


def _with_white(splits: Splits, white: float | None) -> Splits:
    """Return the splits, their deep images read with this value of white."""
    parts = [images for images in (splits.train, splits.validation, splits.test) if images is not None]
    changed = iter(with_white(parts, white))
    return replace(
        splits,
        train=next(changed),
        validation=None if splits.validation is None else next(changed),
        test=None if splits.test is None else next(changed),
    )


def _device(values: Mapping[str, Any]) -> str:
    """Return the device that unchecked values ask for."""
    return str(section(values, "runtime").get("device", "auto"))


def _size(config: RunConfig) -> tuple[int, int]:
    """Return height and width of the input, pixels."""
    size = config.image.size
    return size if isinstance(size, tuple) else (int(size), int(size))


def describe(prepared: Prepared, console: Console) -> None:
    """Print what `auto` became and why, which settings are doubtful, and the counts of the data."""
    counts, config = prepared.splits.counts_before_cut, prepared.config
    console.print(f"[bold]Machine[/bold]: {prepared.machine.describe()}")
    for reason in prepared.reasons:
        console.print(f"  {escape(reason)}")
    for line in prepared.warnings:
        console.print(f"  warning: {line}", style="yellow", markup=False)
    present = counts[counts > 0]
    sizes = np.bincount(prepared.groups.of(present), minlength=3)
    shots = ", ".join(f"{count} {name}" for name, count in zip(prepared.groups.names, sizes, strict=True))
    console.print(
        f"[bold]Data[/bold]: {plural(len(prepared.splits.train), 'training image')} of "
        f"{plural(len(present), 'class')}, {present.max():,} to {present.min():,} a class "
        f"(imbalance factor {imbalance_factor(present):.1f}): "
        f"{shots}-shot ({prepared.groups.describe()})"
    )
    for note in prepared.splits.notes:
        console.print(f"  [yellow]{escape(note)}[/yellow]")
    record = prepared.backbone.record
    height, width = prepared.preprocessing.size
    console.print(
        f"[bold]Backbone[/bold]: {escape(record.name)} ({record.parameters / 1e6:.1f} M parameters, frozen, "
        f"{escape(record.licence)}) "
        f"at {height}x{width}, preset {config.preset}"
    )


def warn_of_data(prepared: Prepared, console: Console) -> None:
    """Print in short what would spoil the result, as `lpt doctor` finds it; no image is decoded."""
    if not prepared.processes.is_main:
        return
    size = min(prepared.preprocessing.size)
    compare = len(prepared.splits.train) <= COMPARED_AT_START
    report = examine(prepared.splits, decode=False, compare=compare, groups=prepared.groups, input_size=size)
    serious = [finding for finding in report.findings if finding.severity != "info"]
    for finding in serious:
        console.print(f"  {finding.severity}: {finding.what} {finding.advice}", style="yellow", markup=False)
    if serious and prepared.config.data.source:
        console.print(f"  More: lpt doctor {shlex.quote(prepared.config.data.source)}", markup=False)


def with_absolute_paths(config: RunConfig, splits: Splits | None = None) -> RunConfig:
    """Return the configuration with absolute paths, so that it can be run again from any folder.

    Args:
        config: the configuration; it stays as it is.
        splits: what it was opened to. They tell the folder that the paths of a list or table start from.
    """
    config = config.model_copy(deep=True)
    data, backbone = config.data, config.backbone
    if splits is not None:
        train = replace(splits.train, source=source_of(splits.train.source))  # cached or not
        splits = replace(splits, train=train)
        data.image_root = data.image_root or listing_root(data, splits)
    data.source = _absolute(data.source)
    data.test, data.validation = (
        _absolute(value) if isinstance(value, str) else value for value in (data.test, data.validation)
    )
    data.image_root = data.image_root and data.image_root.absolute()
    backbone.checkpoint = backbone.checkpoint and backbone.checkpoint.absolute()
    return config


def _absolute(source: str | None) -> str | None:
    """Return a source with an absolute path, if it is a path; `hf:FOLDER:column:column` keeps its other parts."""
    if source is None:
        return None
    prefix = "hf:" if source.startswith("hf:") else ""
    path, colon, columns = source.removeprefix(prefix).partition(":") if prefix else (source, "", "")
    return f"{prefix}{Path(path).absolute()}{colon}{columns}" if Path(path).exists() else source


def open_data(values: Mapping[str, Any]) -> Splits:
    """Return the splits that a run with these values would open.

    Raises:
        ConfigError, DataError: as `prepare`.
    """
    config = with_preset(dict(values), inspect_machine(_device(values)).device, origin="the settings").config
    return open_splits(config.data, seed=config.runtime.seed)


def _check_splits(splits: Splits) -> None:
    if not len(splits.train):
        raise DataError("there is no training image left")
    present = int((splits.train.class_counts > 0).sum())
    if present < 2:
        raise DataError(f"training images of at least 2 classes are needed; there are {present}. See: lpt doctor")


def check_readable(train: LabelledImages, splits: Splits, processes: Processes) -> None:
    """Decode all images once, each in one process; this fills the cache of those that are cached.

    Raises:
        DataError: images cannot be read.
    """
    bad = []
    for name, images in (("training", train), ("validation", splits.validation), ("test", splits.test)):
        if images is not None and decodes(source_of(images.source)):
            share = images.subset(np.array(processes.share(len(images)), dtype=np.int64))
            bad += check_images(share, title=f"Reading {name} images")
    bad = processes.gather(bad)
    if bad:
        lines = "\n".join(f"  {name}: {reason}" for _, name, reason in bad[:5])
        more = f"\n  and {len(bad) - 5:,} more" if len(bad) > 5 else ""
        raise DataError(
            f"{len(bad):,} of the images cannot be read:\n{lines}{more}\n"
            "Replace or remove them, or leave them out with --bad-images skip (data.bad_images: skip)."
        )


def _cached(images: LabelledImages) -> LabelledImages:
    """Return images whose decoded pixels stay in memory."""
    if isinstance(images.source, CachedImages):
        return images
    return LabelledImages(CachedImages(images.source), images.rows, images.labels, images.class_names)


def _preprocessing(config: RunConfig, backbone: FrozenViT, size: tuple[int, int]) -> Preprocessing:
    image = config.image
    return Preprocessing(
        size=size,
        mean=backbone.record.mean,
        std=backbone.record.std,
        interpolation=image.interpolation,
        test_crop=image.test_crop,
        test_views=image.test_views,
        crop_area=image.crop_area,
        crop_aspect=image.crop_aspect,
        flip=image.flip,
        white=_white(config),
    )
