"""`lpt calibrate`: fit the temperature of a pack, and its threshold for images that show none of its classes."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from lpt.commands.evaluate.request import EvaluationRequest, Subject, open_subject, print_notes, readers_explained
from lpt.commands.inputs import data_settings
from lpt.commands.results import new_output
from lpt.commands.run_images import is_run, open_validation
from lpt.config.bounds import MAX_PIXELS
from lpt.data.sources.raw import SplitName
from lpt.errors import ConfigError, DataError, PackError
from lpt.evaluation.metrics import Metrics
from lpt.evaluation.predictions import Predictions
from lpt.model.consent import needed_options
from lpt.packs.info import PackInfo, Probabilities
from lpt.packs.pack import TENSORS_NAME, Pack, load_pack, write_pack
from lpt.packs.rejection import KEEP, LEAST_IMAGES, Rejection, fit_rejection
from lpt.packs.temperature import fitted_probabilities
from lpt.report.bars import image_bar
from lpt.report.card import model_card, rejection_line
from lpt.system.files import read_regular
from lpt.system.processes import ALONE
from lpt.system.readers import refuse_second_start
from lpt.system.text import plural

KIND = "labelled image"


def calibrate(
    pack: str | Path,
    data: str | Path,
    output: str | Path,
    *,
    keep: float = KEEP,
    split: SplitName = "validation",
    image_root: str | Path | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    split_column: str | None = None,
    bad_images: Literal["stop", "skip", "repair"] = "stop",
    max_pixels: int = MAX_PIXELS,
    backbone: str | None = None,
    checkpoint: str | Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    batch_size: int = 64,
    console: Console | None = None,
) -> Pack:
    """Fit temperature and threshold of a pack on images that it was not trained on: what `lpt calibrate` does.

    The new pack has the tensors of the old one, byte for byte.

    Args:
        pack: the pack folder, a run folder that holds one, or `hf://OWNER/NAME[@REVISION]` on the hub.
        data: labelled images of the pack's classes, in any form of `data.source`; or a run folder, for its validation
            images.
        output: folder of the new pack, which must not be there yet.
        keep: share of the images of known classes that the threshold is to keep.
        split: which split to take if `data` has several: train, validation or test.
        image_root, image_column, label_column, split_column, bad_images, max_pixels: as for `lpt.evaluate`.
        backbone, checkpoint, device, precision, batch_size: as for `lpt.evaluate`.
        console: where to report; None: silent.

    Raises:
        PackError, ConfigError: the pack or an argument cannot be used.
        DataError: the images cannot be used, are too few, or the pack was trained on them.
        RunError: the output is there already, or cannot be written.

    Example:
        >>> calibrated = lpt.calibrate("runs/photos", "more_photos/", "packs/photos", keep=0.9)
        >>> calibrated.info.rejection.images
        60
    """
    request = EvaluationRequest(
        pack=pack,
        data=str(data),
        split=split,
        data_settings=data_settings(image_root, image_column, label_column, split_column, bad_images, max_pixels),
        output=Path(output),
        backbone=backbone,
        checkpoint=None if checkpoint is None else Path(checkpoint),
        device=device,
        precision=precision,
        batch_size=batch_size,
    )
    console = console or Console(quiet=True)
    return calibrate_pack(request, keep=keep, console=console, progress=console)


def calibrate_pack(request: EvaluationRequest, *, keep: float, console: Console, progress: Console) -> Pack:
    """Fit temperature and threshold of a pack, write the new pack into `request.output`, and return it.

    Args:
        request: the pack, the images and the folder.
        keep: share of the images that the threshold is to keep.
        console: where the result goes.
        progress: where the bar is shown.

    Raises:
        as `calibrate`.
    """
    refuse_second_start("lpt.calibrate")
    output = request.output
    assert output is not None  # `calibrate` and the program ask for it
    if not 0.5 <= keep < 1:
        raise ConfigError(f"--keep {keep}: a share from 0.5 to below 1 is accepted, such as 0.95")
    with new_output(output, progress):
        return _calibrate_locked(request, output, keep, console, progress)


def _calibrate_locked(
    request: EvaluationRequest, output: Path, keep: float, console: Console, progress: Console
) -> Pack:
    of_run = is_run(request.data)
    opened = open_validation(request.data, split=request.split, option="--split") if of_run else None
    subject = open_subject(request, opened)
    print_notes(subject.notes, subject.skipped, progress)
    _check_images(subject, request.data)
    predictions = _predict(subject, progress)
    info = _calibrated(subject.pack.info, predictions, keep)
    content = _tensors(subject.pack)
    metrics = {name: Metrics.from_dict(values) for name, values in info.metrics.items()}
    write_pack(output, info, content, model_card(info, metrics, len(content)))
    written = load_pack(output)
    refitted = info.probabilities is not subject.pack.info.probabilities
    _report(written, subject.pack.info.probabilities if refitted else None, console)
    return written


def _check_images(subject: Subject, data: str) -> None:
    """Check that the images say something about images that the pack has not seen.

    Raises:
        DataError: the pack was trained on some of them, or they are too few.
    """
    if subject.trained_on:
        raise DataError(
            f"{data}: the pack was trained on some of these images, on which its scores are higher than on "
            "others. Give labelled images that were held out (--split names the split to take)."
        )
    if len(subject.images) < LEAST_IMAGES:
        raise DataError(
            f"{data}: there are {plural(len(subject.images), 'image')} of the pack's classes; at least {LEAST_IMAGES} "
            "are needed, better several of each class."
        )


def _predict(subject: Subject, progress: Console) -> Predictions:
    with image_bar(progress, "measuring", len(subject.images)) as show, readers_explained():
        return subject.predict(subject.images, ALONE, show)


def _calibrated(info: PackInfo, predictions: Predictions, keep: float) -> PackInfo:
    """Return the description of the new pack."""
    scores, labels, former = predictions.scores, predictions.labels, info.probabilities
    fitted = fitted_probabilities(scores, labels, former.scale, kind=KIND)
    rejection = fit_rejection(
        scores,
        labels,
        train_counts=info.class_counts,
        groups=info.shot_groups,
        fitted_on=plural(len(labels), KIND),
        keep=keep,
    )
    changes: dict[str, Any] = {"rejection": rejection}
    if fitted.unfitted_because is None:
        changes["probabilities"] = fitted.model_copy(update={"classes": former.classes})
        changes["metrics"] = {split: _without_probabilities(values) for split, values in info.metrics.items()}
    return info.model_copy(update=changes)


def _without_probabilities(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return metrics without those that held for the former temperature."""
    return {name: None if name in ("nll", "ece") else value for name, value in metrics.items()}


def _tensors(pack: Pack) -> bytes:
    try:
        return read_regular(pack.path / TENSORS_NAME)
    except OSError as error:
        raise PackError(
            f"cannot read {pack.path / TENSORS_NAME}: {error.strerror or error}. Copy the pack again."
        ) from None


def _report(pack: Pack, former: Probabilities | None, console: Console) -> None:
    """Print what the new pack has; `former` is what its temperature replaced, None if it is that of the old pack."""
    info, now = pack.info, pack.info.probabilities
    rejection: Rejection | None = info.rejection
    assert rejection is not None
    changed = (
        "unchanged, too few mistakes to fit one"
        if former is None
        else f"{former.temperature:.4g} before, fitted on {now.fitted_on}"
    )
    console.print(f"Temperature: {now.temperature:.4g} ({changed})", markup=False)
    console.print(f"Images of none of the classes: {rejection_line(info)}.", markup=False)
    console.print(f"Pack: {pack.path}", markup=False)
    options = needed_options(info.backbone)
    command = shlex.join(["lpt", "predict", str(pack.path), "IMAGE_OR_FOLDER", "--reject", *options])
    console.print(f"Next: {command}", markup=False)
