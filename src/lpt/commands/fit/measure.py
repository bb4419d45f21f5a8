"""After training: measure the model on the test and validation images."""

from __future__ import annotations

from typing import NamedTuple

from rich.console import Console

from lpt.commands.fit.prepare import Prepared
from lpt.data.manifest import LabelledImages
from lpt.evaluation.measured import Measured, measure_predictions
from lpt.evaluation.predictions import Predictions, SplitClassifier, predict_split
from lpt.model import Classifier
from lpt.model.inference import InferenceModel
from lpt.packs.info import Probabilities
from lpt.packs.rejection import Rejection, fit_rejection
from lpt.packs.temperature import fitted_probabilities
from lpt.report.bars import image_bar
from lpt.system.text import plural
from lpt.training.phase_data import images_at_once, phase_plan
from lpt.training.phases import PHASES

NO_VALIDATION = "nothing (no validation split); temperature 1"


def trained_phases(prepared: Prepared) -> list[int]:
    """Return the phases that a run goes through."""
    return [phase for phase in PHASES if phase_plan(prepared.config, phase).steps]


def predict_images(
    prepared: Prepared, model: Classifier, images: LabelledImages, *, grouped: bool, console: Console
) -> Predictions:
    """Return a model's predictions for a split, with a progress bar; all views of an image are in the same pass."""
    with image_bar(console, "measuring", len(images)) as progress:
        return predict_split(
            SplitClassifier.of_model(InferenceModel(model, prepared.preprocessing, group_prompts=grouped)),
            images,
            prepared.preprocessing,
            batch_size=images_at_once(prepared.config, prepared.preprocessing.test_views),
            workers=int(prepared.config.runtime.workers),
            progress=progress,
            processes=prepared.processes,
        )


class RunMeasures(NamedTuple):
    """What was measured after training.

    Args:
        measured: each split that there is, by name.
        probabilities: with the temperature that was fitted on the validation split; it holds for all splits.
        rejection: the threshold for images that show none of the classes; None without enough validation images.
    """

    measured: dict[str, Measured]
    probabilities: Probabilities
    rejection: Rejection | None


def measure_run(prepared: Prepared, model: Classifier, console: Console) -> RunMeasures:
    """Measure all splits there are, and fit temperature and threshold on the validation split."""
    grouped = 2 in trained_phases(prepared)
    splits = {"test": prepared.splits.test, "validation": prepared.splits.validation}
    predictions = {
        name: predict_images(prepared, model, images, grouped=grouped, console=console)
        for name, images in splits.items()
        if images is not None and len(images)
    }
    setting = Probabilities(scale=prepared.config.loss.scale, temperature=1.0, fitted_on=NO_VALIDATION)
    rejection = None
    if (held_out := predictions.get("validation")) is not None:
        setting = fitted_probabilities(held_out.scores, held_out.labels, setting.scale)
        rejection = fit_rejection(
            held_out.scores,
            held_out.labels,
            train_counts=prepared.splits.counts_before_cut,
            groups=prepared.groups,
            fitted_on=plural(len(held_out.labels), "validation image"),
        )
    setting.classes = "even" if prepared.config.balances_classes else "training"
    measured = {
        name: measure_predictions(
            split_predictions,
            prepared.splits.counts_before_cut,
            prepared.groups,
            scale=setting.scale,
            temperature=setting.temperature,
        )
        for name, split_predictions in predictions.items()
    }
    return RunMeasures(measured, setting, rejection)
