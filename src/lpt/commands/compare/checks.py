"""Checks of a comparison before anything is trained: of its settings, and of the runs it goes on with."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lpt.commands.compare.plan import StoredPlan
from lpt.commands.compare.settings import cell_changes, changes
from lpt.commands.report.kept import read_run
from lpt.config.schema import validate
from lpt.config.values import read_yaml
from lpt.data.manifest import IntArray, LabelledImages
from lpt.errors import RunError
from lpt.model.record import BackboneRecord
from lpt.packs.pack import read_info
from lpt.training.folder import RunFolder

_SHOWN = 5


def check_same_request(before: StoredPlan, now: StoredPlan, *, folder: Path, removable: bool) -> None:
    """Check that a command asks for the settings that the comparison in its folder was begun with.

    Args:
        before: the plan in the folder.
        now: the plan asked for.
        folder: the folder.
        removable: whether `--overwrite` would remove the comparison in it.

    Raises:
        RunError: a setting differs.
    """
    first, second = (
        {**plan["values"], "holdout": plan["holdout"], "budget_minutes": plan["budget_minutes"]}
        for plan in (before.to_dict(), now.to_dict())
    )
    if changed := [*changes(first, second).values()]:
        advice = ", or throw that one away, with all its runs, with --overwrite" if removable else ""
        raise RunError(
            f"{folder} holds a comparison with other settings: {'; '.join(changed[:_SHOWN])}.\n"
            f"Choose another folder with --output{advice}."
        )


def check_same_settings(run: RunFolder, wanted: Mapping[str, Any]) -> None:
    """Check that a run was begun with the settings wanted now.

    Raises:
        RunError: a setting differs that has an effect.
    """
    # A field that the file does not name has its default, as for a resumed run.
    stored = validate(read_yaml(run.config), origin=str(run.config))
    if changed := cell_changes(stored, wanted):
        raise RunError(
            f"{run.path} was trained with other settings: {'; '.join(changed[:_SHOWN])}.\n"
            "Remove that folder to train it again, or choose another with --output."
        )


def check_same_images(run: RunFolder, fingerprint: str, test: LabelledImages) -> None:
    """Check that a run was begun on the images of now.

    Args:
        run: its folder.
        fingerprint: of the training images of now, as run.json has it.
        test: the test images of now.

    Raises:
        RunError: training or test images were added, removed or renamed; or a file of the run is damaged.
    """
    changed = []
    if run.start_facts()["data_sha256"] != fingerprint:
        changed.append("training images")
    if run.finished:
        names = (test.name(index) for index in range(len(test)))
        if _tested_images(run) != _with_classes(names, test.labels, test.class_names):
            changed.append("test images")
    if changed:
        raise RunError(
            f"{run.path} is of other {' and '.join(changed)} than there are now: some were added, removed or renamed. "
            "Restore them, or choose another folder with --output."
        )


def _tested_images(run: RunFolder) -> list[tuple[str, str]]:
    kept = read_run(run.path)
    tested = kept.predictions
    return [] if tested is None else _with_classes(tested.images, tested.labels, kept.info.class_names)


def _with_classes(images: Iterable[str], labels: IntArray, class_names: Sequence[str]) -> list[tuple[str, str]]:
    """Return file name and class of each image."""
    return [
        (os.path.basename(image), class_names[label])  # noqa: PTH119
        for image, label in zip(images, labels.tolist(), strict=True)
    ]


def check_same_weights(run: RunFolder, weights: BackboneRecord) -> None:
    """Check that a run was begun with the backbone of now.

    Raises:
        RunError: the SHA-256 over its tensors differs.
    """
    before = read_info(run.pack).backbone.weight_hash if run.finished else run.start_facts()["backbone_sha256"]
    if before != weights.weight_hash:
        raise RunError(
            f"{run.path} was trained on other weights (sha256 {before[:12]}) than those of {weights.name} now "
            f"({weights.weight_hash[:12]}{f', from {weights.checkpoint}' if weights.checkpoint else ''}). Give those "
            "with --checkpoint, or choose another folder with --output."
        )
