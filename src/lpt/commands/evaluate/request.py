"""What an evaluation is asked for, and the pack and images that it then works on."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from lpt.commands.prior import Prior, shares_of
from lpt.config.bounds import check_positive
from lpt.config.schema import DataConfig, validate
from lpt.data.cache import with_white
from lpt.data.manifest import LabelledImages
from lpt.data.sample import SAMPLE, count_known
from lpt.data.sources import OpenedImages, open_images
from lpt.data.sources.portable import portable_source
from lpt.data.sources.raw import SplitName
from lpt.evaluation.measured import Measured, measure_predictions
from lpt.evaluation.predictions import Predictions
from lpt.evaluation.shift import ClassMatching, known_images
from lpt.packs.info import COUNTS_UNKNOWN
from lpt.packs.pack import Pack, load_pack
from lpt.packs.predictor import Predictor, load_predictor
from lpt.packs.prior import scores_under
from lpt.system.hardware import cores_here
from lpt.system.processes import Processes
from lpt.system.readers import lost_reader_explained
from lpt.system.text import plural, shorten

_FEWEST_FOR_WORKERS = 1000
_MOST_WORKERS = 4


@dataclass(frozen=True)
class EvaluationRequest:
    """A pack, and the images to measure it on.

    Args:
        pack: the pack folder, a run folder that holds one, or an address on the hub.
        data: the source of the images; its labels are names of the pack's classes.
        split: which split to take if the source has several.
        data_settings: fields of the `data` section, such as the image root.
        output: folder for the files; None: write no files.
        overwrite: replace the evaluation that is in `output`.
        prior: CSV file of class and share, `even` or `training`; None: as the pack's probabilities take the classes.
        engine, backbone, checkpoint, device, precision: as for `lpt.load_predictor`.
        batch_size: images in a forward pass.
    """

    pack: str | Path
    data: str
    split: SplitName = "test"
    data_settings: Mapping[str, Any] = field(default_factory=dict)
    output: Path | None = None
    overwrite: bool = False
    prior: Prior | None = None
    engine: str = "auto"
    backbone: str | None = None
    checkpoint: Path | None = None
    device: str = "auto"
    precision: str = "auto"
    batch_size: int = 64

    @property
    def inputs(self) -> dict[str, Any]:
        """The configuration of everything that is read from files, except the pack."""
        return {
            "data": {**self.data_settings, "source": self.data},
            "backbone": {"name": self.backbone, "checkpoint": self.checkpoint},
        }


@dataclass(frozen=True)
class Subject:
    """A pack on its backbone, and the labelled images to measure it on.

    Args:
        pack: the pack.
        predictor: the pack on its backbone.
        images: the images, labelled as in the pack.
        data_config: how the images were opened.
        skipped: images that cannot be read, as (name, reason).
        notes: what a user should know about the data.
        trained_on: the notes that say that the pack was trained on some of the images.
        batch_size: images in a forward pass.
        prior: share of each class by name; None: as the pack's probabilities take the classes.
    """

    pack: Pack
    predictor: Predictor
    images: LabelledImages
    data_config: DataConfig
    skipped: Sequence[tuple[str, str]]
    notes: Sequence[str]
    trained_on: Sequence[str]
    batch_size: int
    prior: Mapping[str, float] | None = None

    def predict(self, images: LabelledImages, processes: Processes, progress: Callable[[int], None]) -> Predictions:
        """Return the predictions for images.

        Args:
            images: the images; the processes share them.
            processes: the processes, which all call this.
            progress: called with the number of images done in this process.
        """
        predictions = self.predictor.split(
            images,
            batch_size=self.batch_size,
            workers=loading_workers(len(processes.share(len(images)))),
            progress=progress,
            processes=processes,
        )
        if self.prior is not None:
            scores_under(self.pack, predictions.scores, self.prior, out=predictions.scores)
        return predictions

    def measure(self, images: LabelledImages, processes: Processes, progress: Callable[[int], None]) -> Measured:
        """Predict images and measure the predictions against their labels; arguments as for `predict`."""
        info = self.pack.info
        return measure_predictions(
            self.predict(images, processes, progress),
            np.asarray(info.class_counts, dtype=np.int64),
            info.shot_groups,
            scale=info.probabilities.scale,
            temperature=info.probabilities.temperature,
        )


def loading_workers(images: int) -> int:
    """Return how many workers load so many images; 0 for a few, where starting workers would take longer."""
    return 0 if images < _FEWEST_FOR_WORKERS else min(cores_here() - 1, _MOST_WORKERS)


def readers_explained() -> AbstractContextManager[None]:
    """Explain the loss of a reader process."""
    return lost_reader_explained("Free some memory or take a smaller --batch-size, then give the same command again.")


def open_subject(request: EvaluationRequest, opened: OpenedImages | None = None) -> Subject:
    """Load the pack of a request onto its backbone, and open its images.

    Args:
        request: what to measure.
        opened: its images, if they are open already.

    Raises:
        PackError, ConfigError, DataError: one of them cannot be used.
    """
    check_positive(batch_size=request.batch_size)
    pack = load_pack(request.pack)
    prior = shares_of(request.prior, pack)
    config = validate({"data": {**request.data_settings, "source": request.data}}, origin="the options").data
    opened = opened or open_images(request.data, config, split=request.split, split_option="--split")
    images, matching = known_images(opened.images, pack.info.class_names, request.data)
    (images,) = with_white([images], pack.info.preprocessing.white)
    notes = [*opened.notes, *_matching_notes(opened.images, matching, pack.info.class_names)]
    trained_on = _training_notes(pack, request.data, images, opened.split)
    notes += trained_on
    if not pack.info.counts_known:
        notes.append(COUNTS_UNKNOWN)
    predictor = load_predictor(
        pack,
        backbone=request.backbone,
        checkpoint=request.checkpoint,
        engine=request.engine,
        device=request.device,
        precision=request.precision,
    )
    return Subject(pack, predictor, images, config, opened.skipped, notes, trained_on, request.batch_size, prior)


def _matching_notes(opened: LabelledImages, matching: ClassMatching, known: Sequence[str]) -> list[str]:
    """Say which classes were matched by another spelling, and which were left out."""
    notes = []
    if matching.by_spelling:
        pairs = shorten([f"{theirs} = {ours}" for theirs, ours in matching.by_spelling])
        notes.append(f"Matched by spelling: {plural(len(matching.by_spelling), 'class')}: {pairs}.")
    if matching.left_out:
        images, classes = plural(matching.left_out_images, "image"), plural(len(matching.left_out), "class")
        hints = [
            f"{name} (or is it {close}?)" if (close := _close(name, known)) else name for name in matching.left_out
        ]
        notes.append(f"Left out: {images} of {classes} the pack does not know: {shorten(hints)}.")
    unknown = zip(opened.class_names, opened.class_counts.tolist(), matching.target.tolist(), strict=True)
    if empty := [name for name, count, target in unknown if not count and target < 0]:
        notes.append(f"No images in {plural(len(empty), 'class')} the pack does not know: {shorten(empty)}.")
    return notes


def _close(name: str, known: Sequence[str]) -> str:
    """Return the known name that is most like a name; empty if none is."""
    by_case = {other.casefold(): other for other in known}
    close = difflib.get_close_matches(name.casefold(), by_case, n=1)
    return by_case[close[0]] if close else ""


def _training_notes(pack: Pack, source: str, images: LabelledImages, split: SplitName) -> list[str]:
    """Say it where the pack was trained on the images, or on some of them."""
    sample = pack.info.trained_with(SAMPLE)
    sample = [entry for entry in sample if isinstance(entry, str)] if isinstance(sample, list) else []
    whole = "The pack was trained on these very images"
    advice = "on others it is less accurate. " + (
        "predictions.csv of its run folder lists images that were held out: give that file."
        if pack.info.metrics
        else "Give it some that were held out, or train with --val or --test."
    )
    if not sample:
        return [f"{whole}: {advice}"] if _same_set(pack, source, images, split) else []
    known = count_known(images, sample)
    if not known:
        return []
    if known == len(sample) and len(images) <= sum(pack.info.class_counts):
        return [f"{whole}: {advice}"]
    return [
        f"The pack was trained on some of these images ({known:,} of {plural(len(sample), 'training image')} looked "
        f"for are among them): {advice}"
    ]


def _same_set(pack: Pack, source: str, images: LabelledImages, split: SplitName) -> bool:
    """Return whether a pack was trained on a source of this name, with as many images of each class."""
    trained = pack.info.trained_with("data", "source")  # of a file or folder the name alone
    same = isinstance(trained, str) and portable_source(trained) == portable_source(source)
    return same and split == "train" and images.class_counts.tolist() == pack.info.class_counts


def print_notes(notes: Sequence[str], skipped: Sequence[tuple[str, str]], console: Console) -> None:
    """Print what a user should know about the data, and the first images that are left out."""
    for note in notes:
        console.print(note, style="yellow", markup=False)
    for name, reason in skipped[:5]:
        console.print(f"  {name}: {reason}", style="yellow", markup=False)
