"""Cuts of the training images: a long tail, and shares of each class for testing and for validation."""

from __future__ import annotations

from lpt.config.schema import DataConfig
from lpt.data.longtail import long_tailed_indices, stratified_validation
from lpt.data.manifest import LabelledImages
from lpt.errors import DataError
from lpt.system.randomness import seed_of
from lpt.system.text import plural, shorten


def cut_long_tail(train: LabelledImages, config: DataConfig, seed: int, notes: list[str]) -> LabelledImages:
    """Cut a balanced set to the long tail that is asked for, if any; `notes` gets a sentence with the counts."""
    if config.long_tail is None:
        return train
    kept = long_tailed_indices(
        train.labels, config.long_tail, n_max=config.long_tail_max, seed=seed, class_names=train.class_names
    )
    notes.append(
        f"Cut to a long tail, imbalance {config.long_tail:g}: {len(kept):,} of {len(train):,} training images."
    )
    return train.subset(kept)


def hold_out_for_testing(
    train: LabelledImages, share: float, notes: list[str]
) -> tuple[LabelledImages, LabelledImages]:
    """Cut a share of each class out of train to test on, and return what is left and what is held out.

    The cut is the same for all seeds, so that seeds differ in training alone.

    Args:
        train: the training images.
        share: of each class, between 0 and 1; a class for which it is no image is not tested.
        notes: gets a sentence with the counts.

    Raises:
        DataError: every class is too small to give an image.
    """
    try:
        kept, held, small = stratified_validation(train.labels, share, seed_of(0, "compare", "holdout"))
    except DataError:
        raise DataError(
            f"every class is too small to hold {100 * share:g} % of it out for testing: the largest has "
            f"{plural(int(train.class_counts.max()), 'image')}. Give a larger share, or test images of their own, with "
            "--test"
        ) from None
    notes.append(f"Held out for testing: {plural(len(held), 'image')}, {100 * share:g} % of each class.")
    if len(small):
        names = [train.class_names[c] for c in small]
        notes.append(f"Too small for that, not tested: {plural(len(names), 'class')}: {shorten(names)}.")
    return train.subset(kept), train.subset(held)


def cut_validation(
    train: LabelledImages, fraction: float, seed: int, notes: list[str]
) -> tuple[LabelledImages, LabelledImages]:
    """Cut a share of each class out of train for validation, and return what is left and what is held out.

    Args:
        train: the training images.
        fraction: share of each class; a class for which it is no image keeps all.
        seed: of the run.
        notes: gets a sentence with the counts.

    Raises:
        DataError: every class is too small to give an image.
    """
    left, held, too_small = stratified_validation(train.labels, fraction, seed)
    notes.append(
        f"Cut {len(held):,} of {len(train):,} training images for validation ({100 * fraction:g} % of each class)."
    )
    if len(too_small):
        names = [train.class_names[c] for c in too_small]
        notes.append(f"Too small for that, all images stay in train: {plural(len(names), 'class')}: {shorten(names)}.")
    return train.subset(left), train.subset(held)
