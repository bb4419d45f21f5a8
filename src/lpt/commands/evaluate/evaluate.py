"""A finished pack measured on labelled images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from lpt.commands.evaluate.folder import EVALUATION, check_evaluation, clear
from lpt.commands.fit.portable import portable_source
from lpt.config.schema import DataConfig, validate
from lpt.data.manifest import LabelledImages
from lpt.data.sources import OpenedImages, open_images
from lpt.data.sources.raw import SplitName
from lpt.evaluation.measured import Measured, measure_predictions
from lpt.packs.info import PackInfo, Versions
from lpt.packs.pack import Pack, load_pack
from lpt.packs.predictor import Predictor, load_predictor
from lpt.report.progress import image_bar
from lpt.report.run_files import (
    write_measured,
    write_metrics,
    write_predictions,
    write_skipped,
)
from lpt.report.tables import metrics_table
from lpt.system.hardware import cores_here
from lpt.system.owned import marker
from lpt.system.processes import Processes


@dataclass(frozen=True)
class EvaluationRequest:
    """Which pack is to be measured on which images.

    Args:
        pack: the pack folder.
        data: the source, its labels being names of the pack's classes.
        split: which split to take if the source has several.
        data_settings: fields of the `data` section, such as the image root.
        output: folder for the files; None: the screen alone.
        overwrite: replace the files of an evaluation that is in `output`.
        backbone, checkpoint, device: as for `Predictor`.
        batch_size: images in a forward pass.
    """

    pack: Path
    data: str
    split: SplitName = "test"
    data_settings: Mapping[str, Any] = field(default_factory=dict)
    output: Path | None = None
    overwrite: bool = False
    backbone: str | None = None
    checkpoint: Path | None = None
    device: str = "auto"
    batch_size: int = 64

    @property
    def inputs(self) -> dict[str, Any]:
        """The configuration of what is read from files beside the pack."""
        return {
            "data": {**self.data_settings, "source": self.data},
            "backbone": {"name": self.backbone, "checkpoint": self.checkpoint},
        }


@dataclass(frozen=True)
class Opened:
    """A pack with what it is measured on.

    Args:
        pack: the pack.
        predictor: it on its backbone.
        images: labelled as in the pack.
        data_config: how the images were opened.
        skipped: images that cannot be read, as (name, reason).
        notes: what a person should know of the data.
    """

    pack: Pack
    predictor: Predictor
    images: LabelledImages
    data_config: DataConfig
    skipped: Sequence[tuple[str, str]]
    notes: Sequence[str]


def open_pack_and_images(request: EvaluationRequest) -> Opened:
    """A pack on its backbone and the images of a source.

    Raises:
        PackError, ConfigError, DataError: one of them cannot be used.
    """
    r, loaded = request, load_pack(request.pack)
    settings = validate({"data": {**r.data_settings, "source": r.data}}, origin="the options").data
    opened = open_images(r.data, settings, tuple(loaded.info.class_names), split=r.split)
    notes = opened.notes
    if _trained_on(loaded, r.data, opened):
        notes = [*notes, "The pack was trained on these very images: on others it is less accurate. Give it some that "
                 "were held out, or train with --val or --test."]  # fmt: skip
    predictor = load_predictor(loaded, backbone=r.backbone, checkpoint=r.checkpoint, device=r.device)
    return Opened(loaded, predictor, opened.images, settings, opened.skipped, notes)


def _trained_on(pack: Pack, source: str, opened: OpenedImages) -> bool:
    """Whether images are, by source, split and their number in every class, those that a pack was trained on."""
    trained = pack.info.trained_with("data", "source")  # its name alone, where it is a file or folder
    same = isinstance(trained, str) and portable_source(trained) == portable_source(source)
    return same and opened.split == "train" and opened.images.class_counts.tolist() == pack.info.class_counts


def print_notes(notes: Sequence[str], skipped: Sequence[tuple[str, str]], console: Console) -> None:
    """What a person should know of the data, and the first images that were left out."""
    for note in notes:
        console.print(note, style="yellow", markup=False)
    for name, reason in skipped[:5]:
        console.print(f"  {name}: {reason}", style="yellow", markup=False)


def evaluate_pack(request: EvaluationRequest, *, console: Console, progress: Console) -> Measured:
    """Measure a pack on the images of a source, print the table, and write the files if a folder is given.

    Args:
        request: what to measure; into its folder go metrics.json, per_class.csv, predictions.csv and plots.
        console: for the table.
        progress: for the bar.
    """
    processes, output, split = Processes.launched(request.device), request.output, request.split

    def opened() -> Opened:
        if output is not None:
            check_evaluation(output, request.inputs, overwrite=request.overwrite)
        return open_pack_and_images(request)

    one = processes.on_all(opened)
    images, info = one.images, one.pack.info
    with image_bar(progress, "measuring", len(processes.share(len(images)))) as done:
        workers = 0 if len(images) < 1000 else min(cores_here() - 1, 4)
        predictions = one.predictor.split(
            images, batch_size=request.batch_size, workers=workers, progress=done, processes=processes
        )
    counts = np.asarray(info.class_counts, dtype=np.int64)
    groups = info.shot_groups
    scale, temperature = info.probabilities.scale, info.probabilities.temperature
    measured = measure_predictions(predictions, counts, groups, scale=scale, temperature=temperature)
    print_notes(one.notes, one.skipped, console)
    _print(measured, split, console)
    if output is not None and processes.is_main:
        clear(output, EVALUATION)
        facts = {**marker(EVALUATION.kind), **_facts(one.pack.path, info, request.data, len(one.skipped))}
        write_metrics(output / EVALUATION.names[0], {split: measured}, facts)  # first: it says whose the others are
        write_measured(output, measured, tuple(info.class_names), info.method.pool_size)
        write_predictions(output / "predictions.csv", measured.predictions, one.images, scale, temperature)
        write_skipped(output / "skipped_images.csv", one.skipped)
        console.print(f"metrics.json, per_class.csv, predictions.csv and plots: {output}", markup=False)
    return measured


def _print(measured: Measured, split: str, console: Console) -> None:
    console.print(metrics_table({split: measured.metrics}))
    one = measured.metrics
    extra = [f"top 5 {100 * one.top5:.1f} %"] if one.top5 is not None else []
    extra += [f"expected calibration error {100 * one.ece:.1f} %"] if one.ece is not None else []
    extra += [f"negative log-likelihood {one.nll:.3f}"] if one.nll is not None else []
    if extra:
        console.print("Also: " + ", ".join(extra))


def _facts(path: Path, info: PackInfo, data: str, skipped: int) -> dict[str, Any]:
    return {
        "pack": str(path),
        "pack_sha256": info.tensors_sha256,
        "data": data,
        "skipped_images": skipped,
        "versions": Versions.here().model_dump(),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
    }
