"""Measure a finished pack on labelled images."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from lpt.commands.evaluate.folder import EVALUATION, check_evaluation, output_locked
from lpt.commands.evaluate.request import EvaluationRequest, Subject, open_subject, print_notes, readers_explained
from lpt.commands.inputs import data_settings
from lpt.commands.prior import Prior
from lpt.commands.results import clear
from lpt.config.bounds import MAX_PIXELS
from lpt.data.sources.raw import SplitName
from lpt.evaluation.measured import Measured
from lpt.packs.hub import pinned
from lpt.packs.info import Versions
from lpt.report.bars import image_bar, teller
from lpt.report.run_files import (
    write_measured,
    write_metrics,
    write_predictions,
    write_skipped,
)
from lpt.report.tables import metrics_table
from lpt.system.notices import notices_to
from lpt.system.owned import marker
from lpt.system.processes import Processes
from lpt.system.readers import refuse_second_start


def evaluate(
    pack: str | Path,
    data: str | Path,
    *,
    split: SplitName = "test",
    output: str | Path | None = None,
    overwrite: bool = False,
    prior: Prior | None = None,
    image_root: str | Path | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    split_column: str | None = None,
    bad_images: Literal["stop", "skip", "repair"] = "stop",
    max_pixels: int = MAX_PIXELS,
    engine: str = "auto",
    backbone: str | None = None,
    checkpoint: str | Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    batch_size: int = 64,
    console: Console | None = None,
) -> Measured:
    """Measure a pack on labelled images: what `lpt evaluate` does, from Python.

    Args:
        pack: the pack folder, a run folder that holds one, or `hf://OWNER/NAME[@REVISION]` on the hub.
        data: the images, in any form of `data.source`; their labels are names of the pack's classes.
        split: which split to take if `data` has several: train, validation or test.
        output: folder for metrics.json, per_class.csv, predictions.csv and plots; None: write no files.
        overwrite: replace the evaluation that is in `output`.
        prior: how frequent the classes are where the images come from: a CSV file of class and share, `even`, or
            `training`, as frequent as among the pack's training images. None: as the pack's probabilities take them.
            The scores of the result are shifted by it.
        image_root: folder that relative paths of images start from.
        image_column, label_column, split_column: columns of a table; None: find them by name and values.
        bad_images: an image that cannot be read: `stop`, `skip` it, or `repair` a JPEG that lacks its last bytes.
        max_pixels: most pixels of an image; a larger one counts as one that cannot be read.
        engine: auto, torch or onnx, as for `lpt.load_predictor`.
        backbone: name of the backbone, or the folder of an exported one; None: the one that the pack names.
        checkpoint: local weights of that backbone.
        device: auto, cpu, cuda or mps.
        precision: auto, fp32 or bf16, as for `lpt.load_predictor`.
        batch_size: images in a forward pass.
        console: where to report; None: silent.

    Raises:
        PackError, ConfigError, DataError: the pack, an argument or the images cannot be used.
        RunError: the files cannot be written.

    Example:
        >>> measured = lpt.evaluate("runs/photos", "photos/")
        >>> measured.metrics.images, measured.metrics.boundaries
        (6, 'many > 100, medium 20-100, few < 20')
    """
    request = EvaluationRequest(
        pack=pack,
        data=str(data),
        split=split,
        data_settings=data_settings(image_root, image_column, label_column, split_column, bad_images, max_pixels),
        output=None if output is None else Path(output),
        overwrite=overwrite,
        prior=prior,
        engine=engine,
        backbone=backbone,
        checkpoint=None if checkpoint is None else Path(checkpoint),
        device=device,
        precision=precision,
        batch_size=batch_size,
    )
    console = console or Console(quiet=True)
    return evaluate_pack(request, console=console, progress=console)


def evaluate_pack(request: EvaluationRequest, *, console: Console, progress: Console) -> Measured:
    """Measure a pack on the images of a source, print the table, and write the files if a folder is given.

    Args:
        request: what to measure. Its folder gets metrics.json, per_class.csv, predictions.csv and plots.
        console: where the table goes.
        progress: where the bar is shown.

    Raises:
        PackError, ConfigError, DataError: the pack or the images cannot be used.
        RunError: the folder holds something else, or cannot be written.
    """
    refuse_second_start("lpt.evaluate")
    processes = Processes.launched(request.device)
    with output_locked(request.output, processes, console), notices_to(teller(progress)):
        return _evaluate_locked(request, processes, console, progress)


def _evaluate_locked(request: EvaluationRequest, processes: Processes, console: Console, progress: Console) -> Measured:
    output = request.output
    request = replace(request, pack=processes.on_main(lambda: pinned(request.pack)))

    def check_and_open() -> Subject:
        if output is not None:
            check_evaluation(output, request.inputs, overwrite=request.overwrite)
        return open_subject(request)

    subject = processes.on_all(check_and_open)
    images = subject.images
    with image_bar(progress, "measuring", len(processes.share(len(images)))) as show, readers_explained():
        measured = subject.measure(images, processes, show)
    if output is not None and processes.is_main:
        _write(output, measured, subject, request)
    print_notes(subject.notes, subject.skipped, console)
    _print(measured, request.split, console)
    if request.prior is not None:
        console.print(f"Class frequencies: {request.prior}.", markup=False)
    if output is not None and processes.is_main:
        console.print(f"metrics.json, per_class.csv, predictions.csv and plots: {output}", markup=False)
    return measured


def _print(measured: Measured, split: str, console: Console) -> None:
    """Print the table, and the measures that are not in it."""
    metrics = measured.metrics
    console.print(metrics_table({split: metrics}))
    extra = [f"top 5 {100 * metrics.top5:.1f} %"] if metrics.top5 is not None else []
    extra += [f"expected calibration error {100 * metrics.ece:.1f} %"] if metrics.ece is not None else []
    extra += [f"negative log-likelihood {metrics.nll:.3f}"] if metrics.nll is not None else []
    if extra:
        console.print("Also: " + ", ".join(extra))


def _write(output: Path, measured: Measured, subject: Subject, request: EvaluationRequest) -> None:
    """Write the files of an evaluation, in place of those of an earlier one."""
    info = subject.pack.info
    clear(output, EVALUATION)
    facts = {**marker(EVALUATION.kind), **_facts(subject, request)}
    write_metrics(output / EVALUATION.names[0], {request.split: measured}, facts)  # the marker of the others: first
    write_measured(output, measured, tuple(info.class_names), info.method.pool_size)
    scale, temperature = info.probabilities.scale, info.probabilities.temperature
    write_predictions(output / "predictions.csv", measured.predictions, subject.images, scale, temperature)
    write_skipped(output / "skipped_images.csv", subject.skipped)


def _facts(subject: Subject, request: EvaluationRequest) -> dict[str, Any]:
    """Return what metrics.json says beside the metrics."""
    return {
        "pack": subject.pack.origin,
        "pack_sha256": subject.pack.info.tensors_sha256,
        "data": request.data,
        **({} if request.prior is None else {"prior": str(request.prior)}),
        "engine": subject.predictor.engine.name,
        "precision": subject.predictor.engine.precision,
        "skipped_images": len(subject.skipped),
        "versions": Versions.here().model_dump(),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
    }
