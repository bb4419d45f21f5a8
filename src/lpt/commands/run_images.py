"""Open the validation images of a run again, as the run cut them."""

from __future__ import annotations

from pathlib import Path

from lpt.config.schema import DataConfig, validate
from lpt.config.values import section
from lpt.data.fingerprint import data_fingerprint
from lpt.data.manifest import LabelledImages
from lpt.data.printable import printable
from lpt.data.sources import OpenedImages, open_splits
from lpt.data.sources.raw import SplitName
from lpt.errors import ConfigError, DataError
from lpt.system.text import plural
from lpt.training.folder import RunFolder

_SPLIT: SplitName = "validation"


def is_run(source: str) -> bool:
    """Return whether a source of images is the folder of a run."""
    return Path(source).is_dir() and RunFolder(Path(source)).is_run


def open_validation(source: str, *, split: SplitName, option: str) -> OpenedImages:
    """Open the validation images of a run: by its own configuration and seed, checked by their fingerprint.

    Args:
        source: folder of the run.
        split: the split that the user asks for; a run gives its validation images only.
        option: the option that gives it, for messages.

    Raises:
        ConfigError: another split is asked for, or config.yaml cannot be read.
        RunError: the files of the run are damaged or were edited.
        DataError: the run has no validation images, or they are not the same any more.
    """
    if split != _SPLIT:
        raise ConfigError(f"{option} {split}: of a run only its validation images are taken; leave {option} out")
    run = RunFolder(Path(source))
    facts, values = run.start_facts(), run.settings()
    seed = section(values, "runtime").get("seed")
    data, runtime = section(values, "data"), {} if seed is None else {"seed": seed}
    config = validate({"data": data, "runtime": runtime}, origin=str(run.config))
    images = _reopened(run, config.data, config.runtime.seed)
    if data_fingerprint(images) != facts.get("measured_images", {}).get(_SPLIT):
        raise DataError(
            f"the validation images of {run.path} are not those of its training any more: files were added, removed, "
            f"renamed or changed. Next: put them back as they were, or {_give(config.data)}."
        )
    note = f"From the run {run.path}: its {plural(len(images), 'validation image')}, which it was not trained on."
    return OpenedImages(images, _SPLIT, [], [note])


def _reopened(run: RunFolder, data: DataConfig, seed: int) -> LabelledImages:
    """Return the validation images that a run with these settings opens."""
    if data.source is None:
        raise DataError(f"{run.path} was fitted on images that were opened in Python. Next: {_give(data)}.")
    try:
        validation = printable(open_splits(data, seed=seed)).validation
    except DataError as error:
        raise DataError(
            f"the images of {run.path} cannot be opened again as its config.yaml says: {error.message}\n"
            f"Next: put them back, or {_give(data)}."
        ) from None
    if validation is None:
        raise DataError(
            f"{run.path} has no validation images: it was trained on all of them. Next: {_give(data)}, or train again "
            "with a share of each class held out: --val 0.1."
        )
    return validation


def _give(data: DataConfig) -> str:
    held_out = f", such as {data.validation}" if isinstance(data.validation, str) else ""
    return f"give labelled pictures of its classes that it was not trained on{held_out}"
