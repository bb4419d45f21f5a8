"""After training: measure the model on the test and validation images."""

from __future__ import annotations

from rich.console import Console

from lpt.commands.fit.prepare import Prepared
from lpt.data.manifest import LabelledImages
from lpt.evaluation.calibration import fit_temperature
from lpt.evaluation.measured import Measured, measure_predictions
from lpt.evaluation.predictions import Predictions, predict_split
from lpt.model import Classifier
from lpt.packs.info import Probabilities
from lpt.report.progress import image_bar
from lpt.training.phase_data import images_at_once, phase_plan
from lpt.training.phases import PHASES

LEAST_FOR_TEMPERATURE = 50
"""Fewest validation images that a temperature is fitted on."""
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
            model,
            images,
            prepared.preprocessing,
            group_prompts=grouped,
            batch_size=images_at_once(prepared.config, prepared.preprocessing.test_views),
            workers=int(prepared.config.runtime.workers),
            progress=progress,
            processes=prepared.processes,
        )


def measure_run(prepared: Prepared, model: Classifier, console: Console) -> tuple[dict[str, Measured], Probabilities]:
    """Measure all splits there are, and fit the temperature on the validation split; it holds for all of them."""
    grouped = 2 in trained_phases(prepared)
    splits = {"test": prepared.splits.test, "validation": prepared.splits.validation}
    predictions = {
        name: predict_images(prepared, model, images, grouped=grouped, console=console)
        for name, images in splits.items()
        if images is not None and len(images)
    }
    setting = Probabilities(scale=prepared.config.loss.scale, temperature=1.0, fitted_on=NO_VALIDATION)
    if "validation" in predictions:
        setting = fitted_probabilities(predictions["validation"], setting.scale)
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
    return measured, setting


def fitted_probabilities(held_out: Predictions, scale: float) -> Probabilities:
    """Return the temperature that suits held-out images; 1 where they are too few, or all of them are right."""
    count = len(held_out.labels)
    mistakes = int((held_out.scores.argmax(axis=1) != held_out.labels).sum())
    if count < LEAST_FOR_TEMPERATURE or not mistakes:
        reason = f"nothing ({count} validation images, {mistakes} mistakes: too few); temperature 1"
        return Probabilities(scale=scale, temperature=1.0, fitted_on=reason)
    temperature = fit_temperature(held_out.scores, held_out.labels, scale)
    return Probabilities(scale=scale, temperature=temperature, fitted_on=f"{count} validation images")
